"""Containers that are short of processor time, and those that a limit starves.

Limits: monitoring names metrics as it likes, so a metric is known by the words in its name; steady throttling that nobody feels is told
as an advisory.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Finding, Source, cite
from runbooks.signals import THROTTLED_MUCH, finding_of, grouped, signals_of

# A container with less than this gets a millisecond or two of each 100 ms period: nothing but an idle helper lives on that.
STARVING_CORES = 0.02


def processor_throttled(world: World) -> Iterator[Finding]:
    """Containers that are throttled, or that use all of their CPU limit."""
    found = world.once(signals_of)
    slow = grouped(found, "latency")
    for ref, signals in grouped(found, "cpu").items():
        # Half of the fleets of this world are throttled at 25 % and nobody feels it; who is slow or restarts does.
        quiet = all(signal.steady and signal.factor < THROTTLED_MUCH for signal in signals) and ref not in slow and _does_well(world, ref)
        code = "cpu.throttled-steadily" if quiet else "cpu.throttled"
        yield finding_of(code, ref, signals, "is short of processor time")


def _does_well(world: World, ref: ObjectRef) -> bool:
    """Whether every pod of a workload is ready and none has restarted: nothing shows that it suffers."""
    return all(pod.finished or (pod.ready and not any(item.restart_count for item in pod.all_statuses)) for pod in world.pods_of(ref))


def processor_limit_starves(world: World) -> Iterator[Finding]:
    """A container that fails while its CPU limit leaves it next to nothing to run on."""
    for pod in world.unready_pods():
        if not pod.spec.node_name:
            continue
        for container in pod.spec.containers:
            limit, status = container.resources.limit("cpu"), pod.container_status(container.name)
            if limit is None or not 0 < limit <= STARVING_CORES or status is None or status.ready or not status.restart_count:
                continue
            subject = world.top_owner(pod.ref)
            yield Finding(
                "cpu.limit-starves",
                subject,
                Certainty.LIKELY,
                (
                    cite(Source.FIELD, pod.ref, f"spec.containers[{container.name}].resources.limits.cpu", f"{limit * 1000:.0f}m"),
                    cite(Source.FIELD, pod.ref, f"status.containerStatuses[{container.name}].restartCount", status.restart_count),
                ),
                f"Container {container.name} of {subject.kind} {subject.namespace}/{subject.name} has a CPU limit of {limit * 1000:.0f}m "
                f"({limit * 100:.1f} ms of every 100 ms), is throttled to that, and has restarted {status.restart_count} times.",
                affects=(pod.ref,),
                lacks="a throttling metric",
            )


DETECTORS: tuple[Detector, ...] = (processor_throttled, processor_limit_starves)
