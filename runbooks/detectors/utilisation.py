"""What monitoring says of the work of accelerators: one that holds up a training, and those that are held and not used.

Clocks are those of DCGM, utilisation also of the exporters of AMD, Gaudi, Intel, Neuron and GKE's device plugins
(`cluster.devicepresets`). Limits: a missing exporter is no idle device; where a metric is absent nothing is said. Heat and power are for
`throttling`, errors for `deviceerrors`.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from cluster.facts.pod import Pod
from cluster.reading import Series
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.detectors.models import TRAINING, TRAINING_KINDS
from runbooks.detectors.throttling import CLOCK_SHARE
from runbooks.finding import Certainty, Detector, Finding, Source, cite
from runbooks.levels import Level, levels
from runbooks.measurement import NAME_LABEL
from runbooks.scheduling import accelerators_of

_CLOCK = re.compile(r"DCGM_FI_DEV_SM_CLOCK$")
# Whether the engines of a device are busy, as a share where the others are percentages (DCGM field 1001).
_SHARE = re.compile(r"DCGM_FI_PROF_GR_ENGINE_ACTIVE$|xpum_engine_ratio$|neuroncore_utilization_ratio$")
_BUSY = re.compile(rf"DCGM_FI_DEV_GPU_UTIL$|gpu_gfx_activity$|habanalabs_utilization$|^duty_cycle$|{_SHARE.pattern}")
IDLE_PERCENT = 5.0
IDLE_FOR = timedelta(hours=1)


def stragglers(world: World) -> Iterator[Finding]:
    """Trainings of which one GPU runs at a much lower clock than the others, while all must wait for it."""
    grouped: dict[ObjectRef, list[Level]] = defaultdict(list)
    for level in levels(world, _CLOCK):
        pod = world.get(Pod, level.ref.namespace, level.ref.name) if level.ref.kind == Pod.kind else None
        if pod is not None and not pod.finished and (world.top_owner(pod.ref).kind in TRAINING_KINDS or _trains(pod)):
            grouped[world.top_owner(pod.ref)].append(level)
    for workload, clocks in grouped.items():
        slowest = min(clocks, key=lambda level: (level.value, str(level.ref)))
        usual = statistics.median(level.value for level in clocks)
        if len(clocks) < 3 or slowest.value >= CLOCK_SHARE * usual:
            continue
        device = slowest.series.labels.get("gpu", "?")
        yield Finding(
            "training.straggler",
            workload,
            Certainty.LIKELY,
            (slowest.evidence, cite(Source.METRIC, workload, slowest.name, f"median of {len(clocks)} GPUs: {usual:.4g}")),
            f"{workload} waits for one slow GPU: GPU {device} of {slowest.ref.name} runs at {slowest.value:.0f} MHz, the others at "
            f"{usual:.0f} MHz in the median.",
            affects=(slowest.ref,),
        )


def idle_devices(world: World) -> Iterator[Finding]:
    """Pods that hold GPUs and have not used them for IDLE_FOR."""
    grouped: dict[ObjectRef, list[Series]] = defaultdict(list)
    for level in levels(world, _BUSY):
        if level.ref.kind == Pod.kind:
            grouped[level.ref].append(level.series)
    for ref, series in grouped.items():
        pod = world.get(Pod, ref.namespace, ref.name)
        devices = accelerators_of(pod.spec) if pod is not None else 0
        samples = [item for one in series for item in one.samples]
        span = max(item.at for item in samples) - min(item.at for item in samples)
        busiest = max(_percent(one, item.value) for one in series for item in one.samples)
        if pod is None or not devices or pod.finished or span < IDLE_FOR or busiest >= IDLE_PERCENT:
            continue
        workload = world.top_owner(ref)
        hours = span.total_seconds() / 3600
        yield Finding(
            "gpu.idle-held",
            workload,
            Certainty.PROVEN,
            (
                cite(
                    Source.METRIC,
                    ref,
                    series[0].labels.get(NAME_LABEL, ""),
                    f"at most {busiest:.3g} % for {hours:.1f} h",
                ),
            ),
            f"{workload} holds {devices:g} accelerator(s) and has not used them for {hours:.1f} h.",
            affects=(ref,),
        )


def _percent(series: Series, value: float) -> float:
    return value * 100 if _SHARE.search(series.labels.get(NAME_LABEL, "")) else value


def _trains(pod: Pod) -> bool:
    return any(TRAINING.search(" ".join((*(item.command or ()), *(item.args or ())))) for item in pod.spec.containers)


DETECTORS: tuple[Detector, ...] = (stragglers, idle_devices)
