"""Errors that DCGM counts on GPUs: the last XID, uncorrectable memory errors, row remappings that failed.

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
from runbooks.detectors.devices import code_of_xid, uses_device
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.measurement import NAME_LABEL, Locator

_XID = re.compile(r"DCGM_FI_DEV_XID_ERRORS$")
_MEMORY = re.compile(r"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL$|DCGM_FI_DEV_ROW_REMAP_FAILURE$")
_DEVICE_LABELS = ("gpu", "UUID", "device")


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


def _error(world: World, series: Series) -> _Error | None:
    name = series.labels.get(NAME_LABEL, "")
    xid = _XID.search(name) is not None
    if not series.samples or not (xid or _MEMORY.search(name)):
        return None
    value = series.samples[-1].value
    code = code_of_xid(int(value)) if xid else "gpu.memory-fault" if value > 0 else None
    ref = world.once(Locator).locate(series.labels)
    if code is None or ref is None:
        return None
    pod = world.get(Pod, ref.namespace, ref.name) if ref.kind == Pod.kind else None
    name_of_node = pod.spec.node_name if pod is not None else ref.name if ref.kind == Node.kind else None
    if not name_of_node:
        return None
    node = ObjectRef(Node.kind, None, name_of_node)
    device = next((series.labels[key] for key in _DEVICE_LABELS if series.labels.get(key)), "?")
    since = _last_change(series)
    text = f"XID {value:.0f} on GPU {device}" if xid else f"{_words(name, value)} on GPU {device}"
    evidence = cite(Source.METRIC, node, f"{name} gpu {device}", f"{value:.0f}", since)
    # The exporter's own pod, where the scraper's labels were kept and no pod has the device.
    holder = pod.ref if pod is not None and not pod.finished and uses_device(pod) else None
    return _Error(node, holder, code, text, since, evidence)


def _last_change(series: Series) -> datetime | None:
    """When the value became what it is now; None when it was that all the time."""
    pairs = zip(reversed(series.samples[:-1]), reversed(series.samples), strict=False)
    return next((late.at for early, late in pairs if early.value != late.value), None)


def _words(name: str, value: float) -> str:
    return f"{value:.0f} uncorrectable memory errors" if "ECC" in name else "a failed row remapping"


DETECTORS: tuple[Detector, ...] = (device_errors,)
