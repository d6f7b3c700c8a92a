"""GPUs that run slower than they could: hot, braked by their power supply, or held at a low clock, and who pays for it.

Sources: DCGM clock events, as counters or as bits, violations, temperatures, clocks, alerts. Limits: a power cap and an idle clock are
normal; dcgm-exporter exports clock events only where its counters file names them.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from cluster.facts.pod import Pod
from cluster.reading import Sample, Series
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.detectors.devices import uses_device
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.levels import Level, levels, node_of, since
from runbooks.measurement import Locator

_CLOCK = re.compile(r"DCGM_FI_DEV_SM_CLOCK$")
_TEMPERATURE = re.compile(r"DCGM_FI_DEV_GPU_TEMP$")
_THERMAL_EVENT = re.compile(r"(?:hw|sw)_thermal|hw_slowdown|THERMAL_VIOLATION")
# dcgm-exporter 4: one counter, the event as a label (collector/clock_events_collector.go).
_CLOCK_EVENTS = re.compile(r"DCGM_EXP_CLOCK_(?:EVENTS|THROTTLE_REASONS)_COUNT$")
# The same as bits of one number, and what the exporter calls each (DCGM dcgm_fields.h, DCGM_CLOCKS_EVENT_REASON_*).
_CLOCK_BITS = re.compile(r"DCGM_FI_DEV_CLOCK(?:S_EVENT|_THROTTLE)_REASONS$")
_BITS = {
    0x1: "gpu_idle",
    0x2: "clocks_setting",
    0x4: "power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
}
EVENT_LABEL = "clock_event"
# What tells of a clock why it is low, beside events.
_HEAT = re.compile(f"{_TEMPERATURE.pattern}|THERMAL_VIOLATION")
_THERMAL_ALERT = re.compile(r"thermal|gpu.{0,20}slowdown|gpu.{0,20}temperature", re.IGNORECASE)
_BRAKE, _SLOWDOWN, _SET = "hw_power_brake", "hw_slowdown", "clocks_setting"
_BUSY = re.compile(r"DCGM_FI_DEV_GPU_UTIL$")
_RESOLVED = frozenset({"resolved", "inactive", "ok", "normal", "suppressed", "closed"})
# NVIDIA data centre GPUs begin to slow down between 83 and 90 °C; a clock below this share of its peers' is held back.
HOT_CELSIUS = 85.0
CLOCK_SHARE = 0.7
# Work that does not wait: a GPU that idles lowers its clock by itself.
BUSY_PERCENT = 90.0
PEERS = 3


def hot_devices(world: World) -> Iterator[Finding]:
    """GPUs that slow down because they are hot, by their events, their temperature with their clock, or an alert."""
    told: dict[ObjectRef, list[tuple[Level | None, Evidence]]] = defaultdict(list)
    found = list(levels(world, re.compile(f"{_CLOCK.pattern}|{_TEMPERATURE.pattern}|{_THERMAL_EVENT.pattern}")))
    braked = {_device(level) for level in _events(world, _BRAKE)}
    # A power brake slows the hardware down as well, and that is no heat.
    found += (
        level
        for level in _events(world)
        if _THERMAL_EVENT.search(_event(level)) and not (_event(level) == _SLOWDOWN and _device(level) in braked)
    )
    clocks = [level.value for level in found if _CLOCK.search(level.name)]
    usual = statistics.median(clocks) if clocks else 0.0
    slow = {_device(level): level for level in found if _CLOCK.search(level.name) and level.value < CLOCK_SHARE * usual}
    for level in found:
        hot = _TEMPERATURE.search(level.name) and level.value >= HOT_CELSIUS and (_device(level) in slow or not clocks)
        held = level.value > 0 and (_THERMAL_EVENT.search(level.name) or _event(level))
        node = node_of(world, level.ref)
        if node is not None and (hot or held):
            told[node].append((level, level.evidence))
            if hot and _device(level) in slow:
                told[node].append((slow[_device(level)], slow[_device(level)].evidence))
    locator = world.once(Locator)
    for alert in world.telemetry.alerts:
        if alert.state.lower() not in _RESOLVED and _THERMAL_ALERT.search(f"{alert.name} {alert.text}"):
            ref = locator.locate({**dict(alert.labels), "subject": alert.subject})
            node = node_of(world, ref) if ref is not None else None
            if node is not None:
                told[node].append((None, cite(Source.ALERT, node, alert.name, alert.text or "firing", alert.since)))
    for node, items in told.items():
        measured = [level for level, _ in items if level is not None]
        began, holders = _onset(measured), _holders(world, measured)
        evidence = tuple(dict.fromkeys(item for _, item in items))
        yield Finding(
            "gpu.thermal-throttle",
            node,
            Certainty.PROVEN if len(evidence) > 1 else Certainty.LIKELY,
            evidence[:5],
            f"{_gpus(measured)} of node {node.name} slows down because it is hot{since(began)}: {evidence[0].path} {evidence[0].quote}."
            f"{_held(world, holders)}",
            affects=holders,
            since=began,
        )


def power_brakes(world: World) -> Iterator[Finding]:
    """GPUs that the power supply or the rack brakes; the cap that every busy GPU meets is none."""
    told: dict[ObjectRef, list[Level]] = defaultdict(list)
    for level in _events(world, _BRAKE):
        node = node_of(world, level.ref)
        if node is not None:
            told[node].append(level)
    for node, braked in told.items():
        began, holders = _onset(braked), _holders(world, braked)
        yield Finding(
            "gpu.power-brake",
            node,
            Certainty.PROVEN,
            tuple(level.evidence for level in braked)[:5],
            f"{_gpus(braked)} of node {node.name} is braked by its power supply{since(began)} ({_BRAKE}): the server or the rack has too "
            f"little power.{_held(world, holders)}",
            affects=holders,
            since=began,
        )


def clocks_held(world: World) -> Iterator[Finding]:
    """GPUs that work at a clock far below that of their peers, with neither heat nor a brake to explain it: a clock set by hand."""
    busy = {_device(level) for level in levels(world, _BUSY) if level.value >= BUSY_PERCENT}
    working: dict[str, list[Level]] = defaultdict(list)
    for level in levels(world, _CLOCK):
        if _device(level) in busy:
            working[_model(level)].append(level)
    usual = {model: statistics.median(level.value for level in peers) for model, peers in working.items() if len(peers) >= PEERS}
    if not usual:
        return
    reasons = [*levels(world, _HEAT), *world.once(_clock_events)]
    by_hand = {_device(level): level for level in _events(world, _SET)}
    excused = {_device(level) for level in reasons if level.value >= HOT_CELSIUS or (level.value > 0 and _excuses(level))}
    # Of a GPU of which nobody measures heat or clock events a low clock shows only that it is slow.
    cleared = {_device(level) for level in reasons} - excused
    told: dict[ObjectRef, list[Level]] = defaultdict(list)
    for level in (level for model in usual for level in working[model]):
        node = node_of(world, level.ref)
        if node is not None and level.value < CLOCK_SHARE * usual[_model(level)] and _device(level) in cleared:
            told[node].append(level)
    for node, held in told.items():
        holders, model = _holders(world, held), _model(held[0])
        said = [by_hand[_device(level)].evidence for level in held if _device(level) in by_hand]
        yield Finding(
            "gpu.clock-held",
            node,
            Certainty.PROVEN if said else Certainty.LIKELY,
            (
                *said[:1],
                *(level.evidence for level in held[:4]),
                cite(Source.METRIC, node, held[0].name, f"median of {len(working[model])} busy GPUs: {usual[model]:.4g}"),
            ),
            f"{_gpus(held)} of node {node.name} works at {held[0].value:.0f} MHz, others like it at {usual[model]:.0f} MHz in the median, "
            f"and is neither hot nor braked: a clock was set and left.{_held(world, holders)}",
            affects=holders,
            lacks="" if said else "which clock is set; `nvidia-smi -q -d CLOCK` on the node shows it",
        )


def _clock_events(world: World) -> tuple[Level, ...]:
    """The level of every clock event, the event in its label `clock_event`. Of bits one level for each that stands now and, for a device of
    which none does, one that is 0."""
    return (*levels(world, _CLOCK_EVENTS), *(event for level in levels(world, _CLOCK_BITS) for event in _of_bits(level)))


def _of_bits(level: Level) -> Iterator[Level]:
    last = level.series.samples[-max(1, len(level.series.samples) // 4) :]
    standing = [name for bit, name in _BITS.items() if 2 * sum(_has(sample.value, bit) for sample in last) > len(last)]
    for name in standing or [""]:
        bit = next((bit for bit, known in _BITS.items() if known == name), 0)
        samples = tuple(Sample(sample.at, float(_has(sample.value, bit))) for sample in level.series.samples)
        yield Level(
            level.ref, Series({**level.series.labels, EVENT_LABEL: name}, samples), f"{level.name} {name}".rstrip(), float(bool(name))
        )


def _has(value: float, bit: int) -> bool:
    """Whether a bit stands. What DCGM has no value for is a number far beyond the bits (DCGM_INT64_BLANK)."""
    return 0 <= value < 2 * max(_BITS) and bool(int(value) & bit)


def _events(world: World, name: str = "") -> Iterator[Level]:
    """The clock events that occur, of one name or of all."""
    return (level for level in world.once(_clock_events) if level.value > 0 and name in ("", _event(level)))


def _event(level: Level) -> str:
    return level.series.labels.get(EVENT_LABEL, "")


def _excuses(level: Level) -> bool:
    """Whether something else than a clock set by hand explains a low clock."""
    return not _TEMPERATURE.search(level.name) and _event(level) != _SET


def _onset(found: Iterable[Level]) -> datetime | None:
    """When the earliest of them rose, where one did."""
    changes = [level.change for level in found if not _CLOCK.search(level.name)]
    return min((item.since for item in changes if item is not None and item.since is not None and item.factor > 1.05), default=None)


def _holders(world: World, found: Iterable[Level]) -> tuple[ObjectRef, ...]:
    """The pods that have the devices; where the series name the node alone, every pod on it that has any."""
    named: dict[ObjectRef, None] = {}
    for level in found:
        node, pod = node_of(world, level.ref), world.get(Pod, level.ref.namespace, level.ref.name)
        # The exporter's own pod, where the scraper kept its labels, has no device.
        told = pod is not None and uses_device(pod)
        pods = (pod,) if told and pod is not None else world.pods_on(node.name) if node is not None else ()
        named.update((item.ref, None) for item in pods if not item.finished and uses_device(item))
    return tuple(named)


def _gpus(found: Iterable[Level]) -> str:
    names = sorted({level.device for level in found if level.device})
    return f"GPU {', '.join(names[:8])}" if names else "A GPU"


def _held(world: World, holders: tuple[ObjectRef, ...]) -> str:
    if not holders:
        return ""
    return f" {holders[0].name} of {world.top_owner(holders[0])} runs on it{f', and {len(holders) - 1} more' if holders[1:] else ''}."


def _model(level: Level) -> str:
    """The product, as dcgm-exporter names it: each has clocks of its own."""
    return level.series.labels.get("modelName", "")


def _device(level: Level) -> tuple[ObjectRef, str]:
    return level.ref, level.device


DETECTORS: tuple[Detector, ...] = (hot_devices, power_brakes, clocks_held)
