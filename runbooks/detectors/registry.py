"""The tuple of all detectors, and the one function that runs them."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.world import World
from runbooks.detectors import (
    addresses,
    admission,
    applications,
    autoscaling,
    claims,
    commands,
    configmaps,
    configuration,
    containers,
    controlplane,
    deviceerrors,
    devices,
    dns,
    gateways,
    images,
    ingress,
    jobs,
    lifecycle,
    models,
    mounts,
    nodes,
    operators,
    peers,
    permissions,
    policies,
    ports,
    probes,
    queues,
    rollouts,
    sandboxes,
    scheduling,
    services,
    serving,
    settings,
    storage,
    telemetry,
    unready,
    unscheduled,
    utilisation,
    variables,
    workloads,
)
from runbooks.finding import Detector, Finding

ALL: tuple[Detector, ...] = (
    *images.DETECTORS,
    *containers.DETECTORS,
    *sandboxes.DETECTORS,
    *probes.DETECTORS,
    *configuration.DETECTORS,
    *variables.DETECTORS,
    *settings.DETECTORS,
    *addresses.DETECTORS,
    *commands.DETECTORS,
    *applications.DETECTORS,
    *models.DETECTORS,
    *serving.DETECTORS,
    *peers.DETECTORS,
    *jobs.DETECTORS,
    *autoscaling.DETECTORS,
    *permissions.DETECTORS,
    *operators.DETECTORS,
    *services.DETECTORS,
    *scheduling.DETECTORS,
    *unscheduled.DETECTORS,
    *queues.DETECTORS,
    *devices.DETECTORS,
    *deviceerrors.DETECTORS,
    *claims.DETECTORS,
    *admission.DETECTORS,
    *lifecycle.DETECTORS,
    *nodes.DETECTORS,
    *mounts.DETECTORS,
    *storage.DETECTORS,
    *ingress.DETECTORS,
    *policies.DETECTORS,
    *workloads.DETECTORS,
    *rollouts.DETECTORS,
    *unready.DETECTORS,
    *configmaps.DETECTORS,
    *telemetry.DETECTORS,
    *utilisation.DETECTORS,
    *controlplane.DETECTORS,
    *ports.DETECTORS,
    *gateways.DETECTORS,
    *dns.DETECTORS,
)


@dataclass(frozen=True)
class _Findings:
    """What one detector finds, all of it: derived once per world, so a world that grew by what it does not read keeps it."""

    detector: Detector

    def __call__(self, world: World) -> tuple[Finding, ...]:
        return tuple(self.detector(world))


def detect(world: World, detectors: tuple[Detector, ...] = ALL) -> tuple[Finding, ...]:
    """Every finding of every detector over one world, in the order of the tuple."""
    return tuple(finding for detector in detectors for finding in world.once(_Findings(detector)))
