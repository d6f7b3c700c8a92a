"""Device hours that runs lost by failing within a day, and replicas of which fewer would do: what `cost` says beside the present rate.

A run that failed lost what it did since it started or saved; who saves and when is mostly not to be seen, so the whole run counts, and is
called at most. A replica is too many only where every one of them is measured: by the sum of their busiest moments.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from math import ceil

from msgspec import Struct

from cluster.facts.container import ContainerStatus
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from guardrails.accelerator import vendor_of
from runbooks.inventory import Offer
from runbooks.levels import levels
from runbooks.scheduling import accelerators_of

DAY = timedelta(hours=24)
# Serving needs room for bursts: above this share of busy time queues grow quickly.
BUSY_PERCENT = 70.0
_UTILISATION = re.compile(r"DCGM_FI_DEV_GPU_UTIL$|gpu_gfx_activity$|habanalabs_utilization$")
_REPLICATED = frozenset({"Deployment", "StatefulSet"})
_SERVERS = _REPLICATED | {"DaemonSet"}


class Lost(Struct, frozen=True):
    """Device hours of a workload's runs that ended in failure within the last day, at most; `price` None where some has none."""

    workload: ObjectRef
    runs: int
    hours: float
    price: float | None


class Surplus(Struct, frozen=True):
    """A workload of `replicas`, of which `enough` would carry the busiest moments of all; what the rest costs an hour."""

    workload: ObjectRef
    replicas: int
    enough: int
    devices: float
    price: float | None


def lost_hours(world: World, offers: Iterable[Offer], price: Callable[[Offer], float | None]) -> tuple[Lost, ...]:
    """By workload, the most hours first."""
    hourly = _hourly(offers, price)
    found: dict[ObjectRef, list[tuple[float, float | None]]] = defaultdict(list)
    for pod in world.all(Pod):
        # A server that crashes loses its requests, not the hours that it has served.
        owner = world.top_owner(pod.ref)
        held = {} if owner.kind in _SERVERS else _by_container(pod)
        for status in pod.status.container_statuses or ():
            hours = _failed_hours(world, status) * held.get(status.name, 0.0)
            if hours:
                rate = hourly.get(pod.spec.node_name or "")
                found[owner].append((hours, None if rate is None else hours * rate))
    lost = (
        Lost(
            workload,
            len(runs),
            round(sum(hours for hours, _ in runs), 1),
            None if any(cost is None for _, cost in runs) else round(sum(cost or 0.0 for _, cost in runs), 2),
        )
        for workload, runs in found.items()
    )
    return tuple(sorted(lost, key=lambda item: (-item.hours, str(item.workload))))


def surplus_replicas(world: World, offers: Iterable[Offer], price: Callable[[Offer], float | None]) -> tuple[Surplus, ...]:
    """By workload, the most devices first."""
    hourly, peaks = _hourly(offers, price), _peaks(world)
    held: dict[ObjectRef, list[Pod]] = defaultdict(list)
    for pod in world.all(Pod):
        owner = world.top_owner(pod.ref)
        if owner.kind in _REPLICATED and pod.ready and accelerators_of(pod.spec):
            held[owner].append(pod)
    found = []
    for workload, pods in held.items():
        busy = [peaks.get(pod.key) for pod in pods]
        if len(pods) < 2 or any(value is None for value in busy):
            continue
        enough = max(1, ceil(sum(value or 0.0 for value in busy) / BUSY_PERCENT))
        if enough >= len(pods):
            continue
        extra = pods[enough:]
        rates = [hourly.get(pod.spec.node_name or "") for pod in extra]
        cost = (
            None
            if any(rate is None for rate in rates)
            else sum(accelerators_of(pod.spec) * (rate or 0.0) for pod, rate in zip(extra, rates, strict=True))
        )
        devices = sum(accelerators_of(pod.spec) for pod in extra)
        found.append(Surplus(workload, len(pods), enough, devices, None if cost is None else round(cost, 2)))
    return tuple(sorted(found, key=lambda item: (-item.devices, str(item.workload))))


def _hourly(offers: Iterable[Offer], price: Callable[[Offer], float | None]) -> dict[str, float]:
    """Node -> what a device of it costs an hour; nodes with devices of several prices are left out."""
    rates: dict[str, set[float | None]] = defaultdict(set)
    for offer in offers:
        if not offer.part:
            rates[offer.node].add(price(offer))
    return {node: rate for node, found in rates.items() if len(found) == 1 and (rate := next(iter(found))) is not None}


def _by_container(pod: Pod) -> dict[str, float]:
    """The devices that each container holds."""
    found = {}
    for container in pod.spec.containers:
        names = {*(container.resources.requests or ()), *(container.resources.limits or ())}
        found[container.name] = sum(container.resources.request(name) or 0.0 for name in names if vendor_of(name) is not None)
    return found


def _failed_hours(world: World, status: ContainerStatus) -> float:
    """Hours of the runs of a container that failed within a day: the last one, and the present where that has ended too."""
    total = 0.0
    for state in (status.last_state, status.state):
        ended = state.terminated
        if ended is None or not ended.exit_code or ended.started_at is None or ended.finished_at is None:
            continue
        begin = max(ended.started_at, world.now - DAY)
        if ended.finished_at > begin:
            total += (ended.finished_at - begin).total_seconds() / 3600
    return total


def _peaks(world: World) -> dict[tuple[str, str | None, str], float]:
    """Pod -> its busiest moment in percent; of several devices, the mean of theirs."""
    found: dict[tuple[str, str | None, str], list[float]] = defaultdict(list)
    for level in levels(world, _UTILISATION):
        if level.ref.kind == Pod.kind:
            found[level.ref.key].append(max(item.value for item in level.series.samples))
    return {key: sum(values) / len(values) for key, values in found.items()}
