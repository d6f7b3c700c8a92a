"""What exporters say of the devices of AMD, Intel, Gaudi and AWS Neuron that is a fault: one row for each thing that they measure.

A row is believed only where its node has devices of that vendor, because exporters give measurements names as plain as `gpu_health`.
NVIDIA's are `deviceerrors`, conditions and labels of nodes `devices`. Sources: ROCm device-metrics-exporter docs (metricslist.md, Health
Checks: a device with more uncorrectable errors than its threshold, 0 by default, is unhealthy until it is serviced); Intel XPU Manager
prometheus_exporter.py; the Gaudi metric exporter's metrics; AWS Neuron neuron-monitor-prometheus.py.
Limits: the exporters of Gaudi and Neuron may name no pod, then every pod on the node that has such devices is named. States of Gaudi's
network ports are not read, because nothing says which ports are meant to be connected; of TPUs their exporter tells work and memory only.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime

from msgspec import Struct

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reading import Series
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.detectors.devices import device_users, device_word, vendors_of
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.levels import node_of
from runbooks.measurement import NAME_LABEL, Locator

# A device that spends this share of its time below its clock because of heat is slowed by it; a moment now and then is not.
HOT_PERCENT = 10.0


class Sign(Struct, frozen=True):
    """One measurement of one vendor that is a fault from `least` on, or below it where it `falls`. `words` has a place for the value.

    `device` is the label that names the device; `only` is a label with the values for which the row holds. What does not count is a state
    of each moment, and one that `lasts` is judged by the median of its last quarter.
    """

    vendor: str
    code: str
    words: str
    device: str
    least: float = 1.0
    falls: bool = False
    lasts: bool = False
    only: tuple[str, frozenset[str]] | None = None

    @property
    def counts(self) -> bool:
        return not (self.falls or self.lasts)

    def level(self, series: Series) -> float:
        """What a series says now."""
        last = series.samples[-max(1, len(series.samples) // 4) :] if self.lasts else series.samples[-1:]
        return statistics.median(item.value for item in last)

    def shows(self, labels: Mapping[str, str], value: float) -> bool:
        if self.only is not None and labels.get(self.only[0]) not in self.only[1]:
            return False
        return value < self.least if self.falls else value >= self.least


_HOT = Sign("AMD", "gpu.thermal-throttle", "below its clock for {:.0f} % of the time because of heat", "gpu_id", HOT_PERCENT, lasts=True)
SIGNS: dict[str, Sign] = {
    "gpu_health": Sign("AMD", "gpu.hardware-fault", "called unhealthy by its exporter", "gpu_id", falls=True),
    "gpu_ecc_uncorrect_total": Sign("AMD", "gpu.memory-fault", "{:.0f} uncorrectable memory errors", "gpu_id"),
    "gpu_violation_gfx_clock_below_host_limit_thermal_percentage": _HOT,
    "gpu_violation_socket_thermal_residency_percentage": _HOT,
    "xpum_cache_errors_total": Sign(
        "Intel",
        "gpu.memory-fault",
        "{:.0f} uncorrectable cache errors",
        "pci_bdf",
        only=("type", frozenset({"uncorrectable"})),
    ),
    "habanalabs_pending_rows_with_double_bit_ecc_errors": Sign(
        "Intel Gaudi", "gpu.remap-pending", "{:.0f} memory rows with double-bit errors that wait for a reset to be replaced", "id"
    ),
    "habanalabs_temperature_slowdown_ratio": Sign(
        "Intel Gaudi", "gpu.thermal-throttle", "at {:.0%} of the temperature from which it slows down", "id", lasts=True
    ),
    "hardware_ecc_events_total": Sign(
        "AWS Neuron",
        "gpu.memory-fault",
        "{:.0f} uncorrectable memory errors",
        "neuron_device_index",
        only=("event_type", frozenset({"mem_ecc_uncorrected", "sram_ecc_uncorrected"})),
    ),
    "execution_errors_total": Sign(
        "AWS Neuron",
        "gpu.hardware-fault",
        "{:.0f} executions that failed because of the hardware",
        "neuron_device_index",
        only=("error_type", frozenset({"hardware"})),
    ),
}
# What the configuration of ROCm's exporter may put before each name.
_PREFIX = "amd_"


class _Fault(Struct, frozen=True):
    """What one series shows. `since` None: it was so before the time that was read."""

    node: Node
    holder: Pod | None
    sign: Sign
    text: str
    since: datetime | None
    evidence: Evidence


def exporter_faults(world: World) -> Iterator[Finding]:
    """Devices of other vendors that their exporter or runtime calls faulty, hot, or counts uncorrectable errors of."""
    grouped: dict[tuple[ObjectRef, str], list[_Fault]] = defaultdict(list)
    for series in world.telemetry.series:
        fault = _fault(world, series)
        if fault is not None:
            grouped[fault.node.ref, fault.sign.code].append(fault)
    for (ref, code), faults in grouped.items():
        node, fresh = faults[0].node, [item.since for item in faults if item.since is not None]
        holders = [item.holder for item in faults]
        pods = [pod for pod in holders if pod is not None] if all(holders) else device_users(world, node)
        said = "; ".join(dict.fromkeys(item.text for item in faults))
        yield Finding(
            code,
            ref,
            Certainty.PROVEN if fresh or not faults[0].sign.counts else Certainty.LIKELY,
            tuple(item.evidence for item in faults[:5]),
            f"On node {node.name}: {said[:300]}.",
            affects=tuple(dict.fromkeys(pod.ref for pod in pods)),
            since=min(fresh, default=None),
            lacks="" if fresh or not faults[0].sign.counts else "when it happened: it stood there before the time that was read",
        )


def _fault(world: World, series: Series) -> _Fault | None:
    name = series.labels.get(NAME_LABEL, "")
    sign = SIGNS.get(name.removeprefix(_PREFIX))
    if sign is None or not series.samples or not sign.shows(series.labels, sign.level(series)):
        return None
    ref = world.once(Locator).locate(series.labels)
    where = node_of(world, ref) if ref is not None else None
    node = world.get(Node, None, where.name) if where is not None else None
    if node is None or sign.vendor not in (vendor.name for vendor in vendors_of(world, node)):
        return None
    holder = world.get(Pod, ref.namespace, ref.name) if ref is not None and ref.kind == Pod.kind else None
    value, since = sign.level(series), _since(series, sign)
    device = series.labels.get(sign.device, "")
    label = f"{device_word(world, node)}{f' {device}' if device else ''}"
    return _Fault(
        node,
        holder if holder in device_users(world, node) else None,
        sign,
        f"{label} {'has' if sign.counts else 'is'} {sign.words.format(value)}",
        since,
        cite(Source.METRIC, node.ref, f"{name}{f' {sign.device} {device}' if device else ''}", f"{value:.4g}", since),
    )


def _since(series: Series, sign: Sign) -> datetime | None:
    """When it became a fault within what was read: for what counts, when it counted last."""
    if not sign.counts:
        shown = [sign.shows(series.labels, sample.value) for sample in series.samples]
        last = next((index for index in range(len(shown) - 1, -1, -1) if not shown[index]), None)
        return series.samples[last + 1].at if last is not None and last + 1 < len(shown) else None
    pairs = zip(reversed(series.samples[:-1]), reversed(series.samples), strict=False)
    return next((late.at for early, late in pairs if early.value != late.value), None)


DETECTORS: tuple[Detector, ...] = (exporter_faults,)
