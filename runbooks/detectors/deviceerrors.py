"""Errors that DCGM counts on GPUs: the last XID, memory errors, rows that wait to be remapped, errors of NVLinks and of the bus.

DCGM keeps the last XID until its exporter starts again, so one that stood there before the time that was read proves an old fault and
no present one. Limits: dcgm-exporter does not export memory errors unless it is configured to; what is not exported is not clean.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reading import Series
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks import xid
from runbooks.detectors.devices import code_of_xid, uses_device
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.levels import DEVICE_LABELS, Level, levels, node_of
from runbooks.measurement import NAME_LABEL, Locator

_XID = re.compile(r"DCGM_FI_DEV_XID_ERRORS$")
# One series for each number that occurred within the exporter's window (xid_collector.go).
_XID_COUNT = re.compile(r"DCGM_EXP_XID_ERRORS_COUNT$")
_FLAGS: dict[str, tuple[str, str]] = {
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": ("gpu.memory-fault", "{:.0f} uncorrectable memory errors"),
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": ("gpu.memory-fault", "a failed row remapping"),
    "DCGM_FI_DEV_ROW_REMAP_PENDING": ("gpu.remap-pending", "rows that wait for a reset to be remapped"),
    "DCGM_FI_DEV_RETIRED_PENDING": ("gpu.remap-pending", "{:.0f} memory pages that wait for a reset to be retired"),
}
# Rates that DCGM's own health check calls a failure (DCGM dcgmlib/dcgm_gpu_hardware_limits.h): any replay or recovery of a link, a
# hundred checksum errors a second, eight replays of the bus a minute.
_RATES: tuple[tuple[re.Pattern[str], float, str, str], ...] = (
    (re.compile(r"NVLINK_(?:REPLAY|RECOVERY)_ERROR_COUNT_TOTAL$"), 0.0, "gpu.nvlink-fault", "NVLink errors that need a replay or recovery"),
    (re.compile(r"NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL$"), 100.0, "gpu.nvlink-fault", "NVLink checksum errors"),
    (re.compile(r"DCGM_FI_DEV_PCIE_REPLAY_COUNTER$"), 8 / 60, "gpu.bus-errors", "PCIe replays"),
)


class _Error(Struct, frozen=True):
    """One device that counts an error now. `since` None: it stood there before the time that was read."""

    node: ObjectRef
    pod: ObjectRef | None
    code: str
    text: str
    since: datetime | None
    evidence: Evidence


def device_errors(world: World) -> Iterator[Finding]:
    """GPUs with an XID or a memory error that no application causes."""
    grouped: dict[tuple[ObjectRef, str], list[_Error]] = defaultdict(list)
    for series in world.telemetry.series:
        error = _error(world, series)
        if error is not None:
            grouped[error.node, error.code].append(error)
    for (node, code), errors in grouped.items():
        fresh = [item.since for item in errors if item.since is not None]
        devices = "; ".join(dict.fromkeys(item.text for item in errors))
        yield Finding(
            code,
            node,
            Certainty.PROVEN if fresh else Certainty.LIKELY,
            tuple(item.evidence for item in errors[:5]),
            f"DCGM reports of node {node.name}: {devices[:240]}.",
            affects=tuple(dict.fromkeys(item.pod for item in errors if item.pod is not None)),
            since=min(fresh, default=None),
            lacks="" if fresh else "when it happened: it stood there before the time that was read",
        )


def bus_and_link_errors(world: World) -> Iterator[Finding]:
    """GPUs whose NVLinks or slot lose data at a rate that DCGM's own health check calls a failure."""
    for pattern, least, code, words in _RATES:
        grouped: dict[ObjectRef, list[Level]] = defaultdict(list)
        for level in levels(world, pattern):
            node = node_of(world, level.ref)
            if node is not None and level.value > least:
                grouped[node].append(level)
        for node, found in grouped.items():
            pods = (world.get(Pod, level.ref.namespace, level.ref.name) for level in found if level.ref.kind == Pod.kind)
            names = ", ".join(sorted({level.device or "?" for level in found})[:8])
            rate = max(level.value for level in found)
            yield Finding(
                code,
                node,
                Certainty.LIKELY,
                tuple(level.evidence for level in found)[:5],
                f"GPU {names} of node {node.name} has {words}, up to {rate:.2g} a second: data goes slower ways or is sent again.",
                affects=tuple(dict.fromkeys(pod.ref for pod in pods if pod is not None and not pod.finished and uses_device(pod))),
            )


def _error(world: World, series: Series) -> _Error | None:
    name = series.labels.get(NAME_LABEL, "")
    counted, flag = _XID_COUNT.search(name) is not None, _FLAGS.get(name)
    last = _XID.search(name) is not None
    if not series.samples or not (last or counted or flag):
        return None
    value = series.samples[-1].value
    number = _telling(series) if last else _number(series, value) if counted else 0
    code = code_of_xid(number) if flag is None else flag[0] if value > 0 else None
    ref = world.once(Locator).locate(series.labels)
    if code is None or ref is None:
        return None
    pod = world.get(Pod, ref.namespace, ref.name) if ref.kind == Pod.kind else None
    name_of_node = pod.spec.node_name if pod is not None else ref.name if ref.kind == Node.kind else None
    if not name_of_node:
        return None
    node = ObjectRef(Node.kind, None, name_of_node)
    device = next((series.labels[key] for key in DEVICE_LABELS if series.labels.get(key)), "?")
    since = _last_change(series)
    text = f"{f'XID {number}' if flag is None else flag[1].format(value)} on GPU {device}{xid.words(number)}"
    evidence = cite(Source.METRIC, node, f"{name} gpu {device}", f"{number or value:.0f}", since)
    # The exporter's own pod, where the scraper's labels were kept and no pod has the device.
    holder = pod.ref if pod is not None and not pod.finished and uses_device(pod) else None
    return _Error(node, holder, code, text, since, evidence)


def _last_change(series: Series) -> datetime | None:
    """When the value became what it is now; None when it was that all the time."""
    pairs = zip(reversed(series.samples[:-1]), reversed(series.samples), strict=False)
    return next((late.at for early, late in pairs if early.value != late.value), None)


def _telling(series: Series) -> int:
    """The last XID that is one of its own: what only follows another error overwrites it in the same place."""
    for sample in reversed(series.samples):
        row = xid.table().get(int(sample.value))
        if row is None or row.family is not xid.Family.SYMPATHETIC:
            return int(sample.value)
    return 0


def _number(series: Series, value: float) -> int:
    label = series.labels.get("xid", "")
    return int(label) if value > 0 and label.isdecimal() else 0


DETECTORS: tuple[Detector, ...] = (device_errors, bus_and_link_errors)
