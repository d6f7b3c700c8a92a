"""The tuple of all detectors, and the one function that runs them."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.world import World
from runbooks.detectors import (
    accelerators,
    addresses,
    admission,
    applications,
    autoscaling,
    canaries,
    checkpoints,
    claims,
    collectives,
    commands,
    configmaps,
    configuration,
    containers,
    controlplane,
    deviceerrors,
    devices,
    dns,
    gangs,
    gateways,
    gpunodes,
    images,
    ingress,
    jobs,
    lifecycle,
    modellatency,
    modelload,
    models,
    mounts,
    nodes,
    operators,
    peers,
    permissions,
    pickers,
    policies,
    ports,
    probes,
    processors,
    provisioning,
    queues,
    rollouts,
    sandboxes,
    scalers,
    scheduling,
    services,
    serving,
    settings,
    storage,
    telemetry,
    throttling,
    tpus,
    trainings,
    unready,
    unscheduled,
    utilisation,
    variables,
    volumes,
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
    *pickers.DETECTORS,
    *canaries.DETECTORS,
    *peers.DETECTORS,
    *jobs.DETECTORS,
    *trainings.DETECTORS,
    *collectives.DETECTORS,
    *checkpoints.DETECTORS,
    *autoscaling.DETECTORS,
    *scalers.DETECTORS,
    *permissions.DETECTORS,
    *operators.DETECTORS,
    *services.DETECTORS,
    *scheduling.DETECTORS,
    *unscheduled.DETECTORS,
    *queues.DETECTORS,
    *gangs.DETECTORS,
    *provisioning.DETECTORS,
    *devices.DETECTORS,
    *deviceerrors.DETECTORS,
    *accelerators.DETECTORS,
    *gpunodes.DETECTORS,
    *tpus.DETECTORS,
    *claims.DETECTORS,
    *admission.DETECTORS,
    *lifecycle.DETECTORS,
    *nodes.DETECTORS,
    *mounts.DETECTORS,
    *storage.DETECTORS,
    *volumes.DETECTORS,
    *ingress.DETECTORS,
    *policies.DETECTORS,
    *workloads.DETECTORS,
    *rollouts.DETECTORS,
    *unready.DETECTORS,
    *configmaps.DETECTORS,
    *processors.DETECTORS,
    *telemetry.DETECTORS,
    *utilisation.DETECTORS,
    *throttling.DETECTORS,
    *modelload.DETECTORS,
    *modellatency.DETECTORS,
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
