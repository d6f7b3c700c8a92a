"""Which adapters (LoRA) each model server works with, which wait, and how many fit one batch.

vLLM says it in the labels of `vllm:lora_requests_info`; the value is the moment when it was so, and what it said before stays beside it
until the server ends (vllm docs/design/metrics.md, v1/metrics/loggers.py). It judges nothing: that is for the detectors.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from msgspec import Struct

from cluster.facts.pod import Pod
from cluster.reading import LABEL_LIMIT, Series
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Evidence, Source, cite
from runbooks.measurement import NAME_LABEL, Locator

METRIC = "vllm:lora_requests_info"
LOOKED_AT = timedelta(minutes=15)
# A server that has no requests says nothing, and its last words stay. Scrapes are at most this far apart (Prometheus' lookback).
SPOKE_WITHIN = timedelta(minutes=5)
NAMES_SHOWN = 4


class AdapterLoad(Struct, frozen=True):
    """The adapters of one pod as last measured: `limit` is how many different ones fit a batch (`--max-loras`). `full` counts, of the
    `moments` of the last 15 minutes, those in which a batch held all it can and an adapter waited that it did not hold."""

    pod: ObjectRef
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    limit: int
    full: int
    moments: int

    @property
    def text(self) -> str:
        """`2 of 2 (sql, chat), 3 wait`, for a table or a sentence."""
        return f"{len(self.running)} of {self.limit}{_named(self.running)}, {len(self.waiting)} wait{_named(self.waiting)}"

    @property
    def evidence(self) -> Evidence:
        said = f"{self.text}; full in {self.full} of {self.moments} measurements"
        return cite(Source.METRIC, self.pod, METRIC, said)


def adapter_loads(world: World) -> dict[ObjectRef, AdapterLoad]:
    """pod -> its adapters, of every pod that says so; use it through `world.once`."""
    newest: dict[ObjectRef, dict[datetime, tuple[float, Series]]] = defaultdict(dict)
    for series in world.telemetry.series:
        if series.labels.get(NAME_LABEL) != METRIC or not series.labels.get("max_lora", "").isdecimal():
            continue
        pod = world.once(Locator).locate(series.labels)
        if pod is not None and pod.kind == Pod.kind:
            for sample in series.samples:
                known = newest[pod].get(sample.at)
                if known is None or known[0] < sample.value:
                    newest[pod][sample.at] = (sample.value, series)
    return {pod: _load(pod, moments) for pod, moments in newest.items() if moments}


def _load(pod: ObjectRef, moments: dict[datetime, tuple[float, Series]]) -> AdapterLoad:
    last = max(moments)
    recent = [_is_full(series) and _speaks(at, value) for at, (value, series) in moments.items() if last - at <= LOOKED_AT]
    _, now = moments[last]
    return AdapterLoad(pod, _running(now), _waiting(now), _limit(now), sum(recent), len(recent))


def _speaks(at: datetime, value: float) -> bool:
    """Whether what was measured at that moment had been said shortly before."""
    return at.timestamp() - value <= SPOKE_WITHIN.total_seconds()


def _is_full(series: Series) -> bool:
    running = _running(series)
    return 0 < _limit(series) <= len(running) and bool(set(_waiting(series)) - set(running))


def _limit(series: Series) -> int:
    return int(series.labels["max_lora"])


def _running(series: Series) -> tuple[str, ...]:
    return _names(series, "running_lora_adapters")


def _waiting(series: Series) -> tuple[str, ...]:
    return _names(series, "waiting_lora_adapters")


def _names(series: Series, label: str) -> tuple[str, ...]:
    text = series.labels.get(label, "")
    # Of a label that was cut the last name is a part of one.
    parts = text.split(",")[: -1 if len(text) >= LABEL_LIMIT else None]
    return tuple(sorted({name for part in parts if (name := part.strip())}))


def _named(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f" ({', '.join(names[:NAMES_SHOWN])}{more})"
