"""Metrics of a live Prometheus (or what speaks its HTTP API: Thanos, Mimir, VictoriaMetrics), through bounded queries.

What could not be asked, was refused, was cut or does not exist comes back as `Missing`: no series is never "fine". It stores nothing,
evaluates no rule, and asks no other address than the configured one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import anyio
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from cluster.endpoint import DETAIL_LIMIT, Endpoint, EndpointClient
from cluster.presets import BY_NAME, PRESETS
from cluster.promql import ANY, EXPORTED, HOLDERS, LONG_MINUTES, MOVED, Form, Preset, render
from cluster.reading import LABEL_LIMIT, Cost, MetricQuery, Missing, Reading, Sample, Series, Why
from cluster.reference import Scope, Window
from cluster.telemetry import Alert, Telemetry
from guardrails.redact import present

NAME_LABEL = "__name__"
SERIES_LIMIT = 5_000
POINTS = 60
STEP_SECONDS_MINIMUM = 15
NAMES_LIMIT = 1_000
# How far back a point of a query looks for a sample (--query.lookback-delta), so that points this far apart see all of them.
LOOKBACK_SECONDS = 300
# Prometheus itself runs 20 queries at a time (--query.max-concurrency); others want their turn.
PARALLEL = 6
# Below what a probe may take, so that what came in time is kept.
SWEEP_SECONDS = 25.0
ALERTS = "ALERTS"
ALERTS_SINCE = "ALERTS_FOR_STATE"


class _Data(Struct):
    result_type: str = msgspec.field(name="resultType")
    result: msgspec.Raw


class _Envelope(Struct):
    """What every query answers (https://prometheus.io/docs/prometheus/latest/querying/api/)."""

    data: _Data
    warnings: list[str] = []


class _Result(Struct):
    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None
    values: list[tuple[float, str]] = []


class Prometheus:
    """Queries over one endpoint. Use as an async context manager, or call `close`. Raises MonitoringError for one that cannot be used."""

    def __init__(self, endpoint: Endpoint, sweep_seconds: float = SWEEP_SECONDS) -> None:
        self._client = EndpointClient(endpoint, "Prometheus")
        self._sweep_seconds = sweep_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.close()

    async def metric(self, query: MetricQuery, window: Window, limit: int = SERIES_LIMIT) -> Reading[tuple[Series, ...]]:
        """The series of a PromQL expression, of a preset, or of a metric by its name, over the window. Those of an expression have the
        labels that they have there: who wrote it may have grouped by them."""
        labels = dict(query.labels)
        if query.expression:
            return await self._range(query.expression, window, query.name or "the query", query.name, limit)
        preset = BY_NAME.get(query.name)
        if preset is None:
            expression = render(ANY, "pod", query.namespaces, {**labels, NAME_LABEL: query.name})
            return _at_home(await self._range(expression, window, query.name, "", limit))
        names = await self._names((preset,), window)
        if names.missing:
            return Reading((), names.missing, names.cost)
        forms = _usable(preset, names.value)
        if not forms:
            return Reading((), (_absent((preset,)),), names.cost)
        found = await self._forms(preset, forms, window, query.namespaces, labels, limit)
        return Reading(found.value, found.missing, names.cost + found.cost)

    async def telemetry(self, scope: Scope, end: datetime) -> Reading[Telemetry]:
        """Every swept preset over the time before `end`, and the alerts that fired then."""
        deadline = anyio.current_time() + self._sweep_seconds
        longest = Window(end - timedelta(minutes=LONG_MINUTES), end)
        swept = tuple(preset for preset in PRESETS if preset.swept)
        names = await self._names(swept, longest)
        if names.missing:
            return Reading(Telemetry(), names.missing, names.cost)
        asked = [(preset, forms) for preset in swept if (forms := _usable(preset, names.value))]
        readings: dict[str, Reading[tuple[Series, ...]]] = {}
        alerts: list[Reading[tuple[Alert, ...]]] = []
        limiter = anyio.CapacityLimiter(PARALLEL)

        async def ask(preset: Preset, forms: tuple[Form, ...]) -> None:
            async with limiter:
                window = Window(end - timedelta(minutes=preset.minutes), end)
                readings[preset.name] = await self._forms(preset, forms, window, scope.namespaces, {}, SERIES_LIMIT)

        async def ask_alerts() -> None:
            async with limiter:
                alerts.append(await self.alerts(scope, end))

        with anyio.CancelScope(deadline=deadline):
            async with anyio.create_task_group() as group:
                for preset, forms in asked:
                    group.start_soon(ask, preset, forms)
                if ALERTS in names.value:
                    group.start_soon(ask_alerts)
        late = [preset for preset, _ in asked if preset.name not in readings]
        absent = [preset for preset in swept if not _usable(preset, names.value) or _empty(readings.get(preset.name))]
        gaps = [gap for reading in (*readings.values(), *alerts) for gap in reading.missing if gap.why is not Why.NOT_FOUND]
        if late:
            detail = f"no answer within {self._sweep_seconds:g} s"
            gaps.append(Missing(_listed(late), Why.TIMEOUT, detail, "Ask about one namespace, or look at the load of Prometheus."))
        if absent:
            gaps.append(_absent(absent))
        cost = sum((reading.cost for reading in (*readings.values(), *alerts)), names.cost)
        series = tuple(item for preset, _ in asked if preset.name in readings for item in readings[preset.name].value)
        return Reading(Telemetry(alerts=tuple(item for one in alerts for item in one.value), series=series), tuple(gaps), cost)

    async def alerts(self, scope: Scope, at: datetime) -> Reading[tuple[Alert, ...]]:
        """What Prometheus' own rules said at a moment, past ones too: the series in which it keeps its alerts."""
        firing = await self._instant(f'{ALERTS}{{alertstate="firing"}}', at, "alerts")
        since = await self._instant(ALERTS_SINCE, at, "since when alerts fire")
        began = {_identity(item.labels): item.samples[0].value for item in since.value}
        found = []
        for item in firing.value:
            if not scope.includes(item.labels.get("namespace")):
                continue
            start = began.get(_identity(item.labels))
            moment = datetime.fromtimestamp(start, UTC) if start else None
            labels = tuple(sorted((key, value) for key, value in item.labels.items() if key not in (NAME_LABEL, "alertstate")))
            found.append(Alert(present(item.labels.get("alertname", "alert"), 200), "", "firing", moment, labels))
        return Reading(tuple(found), firing.missing, firing.cost + since.cost)

    async def _forms(
        self, preset: Preset, forms: tuple[Form, ...], window: Window, namespaces: Sequence[str], labels: Mapping[str, str], limit: int
    ) -> Reading[tuple[Series, ...]]:
        """The series of all forms; of an object that several forms describe, those of the first."""
        found: dict[tuple[tuple[str, str], ...], Series] = {}
        gaps: list[Missing] = []
        cost, answered = Cost(), False
        for form in forms:
            of = form.of or preset.of
            reading = _at_home(await self._range(render(form, of, namespaces, labels), window, preset.about, form.called, limit))
            cost += reading.cost
            for item in reading.value:
                # A device may be of no namespace and be held by a pod of one.
                of_pod = of == "pod" or any(item.labels.get(pod) and item.labels.get(where) for pod, where in HOLDERS)
                if not of_pod or not namespaces or item.labels.get("namespace") in (*namespaces, None):
                    found.setdefault(_identity(item.labels), item)
            answered = answered or bool(reading.value)
            gaps += (gap for gap in reading.missing if gap.why is not Why.NOT_FOUND)
        if not answered and not gaps:
            gaps.append(_nothing(preset.about, window))
        return Reading(tuple(found.values()), tuple(gaps), cost)

    async def _names(self, presets: Iterable[Preset], window: Window) -> Reading[frozenset[str]]:
        """Which metrics of the presets have samples in the window: one query instead of one for each.

        The index would be cheaper and knows no times finer than its blocks, nor of samples that came late.
        """
        wanted = sorted({name for preset in presets for form in preset.forms for name in form.names} | {ALERTS})
        expression = f'count by ({NAME_LABEL}) ({{{NAME_LABEL}=~"{"|".join(wanted)}"}})'
        times = {"start": _stamp(window.start), "end": _stamp(window.end), "step": str(LOOKBACK_SECONDS)}
        found = await self._series("api/v1/query_range", expression, times, "metrics and alerts", "", NAMES_LIMIT, window)
        failed = tuple(gap for gap in found.missing if gap.why is not Why.NOT_FOUND)
        return Reading(frozenset(item.labels[NAME_LABEL] for item in found.value), failed, found.cost)

    async def _range(self, expression: str, window: Window, what: str, called: str, limit: int) -> Reading[tuple[Series, ...]]:
        seconds = (window.end - window.start).total_seconds()
        step = max(STEP_SECONDS_MINIMUM, math.ceil(seconds / POINTS))
        times = {"start": _stamp(window.start), "end": _stamp(window.end), "step": str(step)}
        return await self._series("api/v1/query_range", expression, times, _about(what), called, limit, window)

    async def _instant(self, expression: str, at: datetime, what: str) -> Reading[tuple[Series, ...]]:
        return _at_home(await self._series("api/v1/query", expression, {"time": _stamp(at)}, what, "", SERIES_LIMIT, Window(at, at)))

    async def _series(
        self, path: str, expression: str, times: dict[str, str], what: str, called: str, limit: int, window: Window
    ) -> Reading[tuple[Series, ...]]:
        timeout = f"{max(1, math.floor(self._client.endpoint.timeout_seconds))}s"
        answer = await self._client.get(path, {"query": expression, "limit": str(limit), "timeout": timeout, **times})
        if answer.why is not None:
            return Reading((), (answer.missing(what),), answer.cost)
        if not answer.body.lstrip().startswith(b"{"):
            return Reading((), (self._client.unexpected(answer).missing(what),), answer.cost)
        moments: dict[float, datetime] = {}
        try:
            envelope = msgspec.json.decode(answer.body, type=_Envelope)
            results = _results(envelope.data)
            series = tuple(item for result in results[:limit] if (item := _read(result, called, moments)).samples)
        except (msgspec.MsgspecError, ValueError, OverflowError, OSError) as error:
            return Reading((), (Missing(what, Why.MALFORMED, present(str(error), DETAIL_LIMIT)),), answer.cost)
        gaps = []
        if len(results) > limit or any("truncated" in warning for warning in envelope.warnings):
            detail = f"more than {limit} series; the first {limit} were read"
            gaps.append(Missing(f"all of {what}", Why.TRUNCATED, detail, "Ask about one namespace or object."))
        if not series:
            gaps.append(_nothing(what, window))
        return Reading(series, tuple(gaps), answer.cost)


def _results(decoded: _Data) -> list[_Result]:
    """Matrix, vector and scalar alike. Raises ValueError for a string, which is no measurement."""
    if decoded.result_type in ("matrix", "vector"):
        return msgspec.json.decode(decoded.result, type=list[_Result])
    if decoded.result_type == "scalar":
        return [_Result({}, msgspec.json.decode(decoded.result, type=tuple[float, str]))]
    raise ValueError(f"the result is a {decoded.result_type}, not a series")


def _read(result: _Result, called: str, moments: dict[float, datetime]) -> Series:
    labels = {key: value[:LABEL_LIMIT] for key, value in result.metric.items()}
    labels[NAME_LABEL] = called or labels.get(NAME_LABEL, "")
    samples = []
    for at, text in (result.value,) if result.value is not None else result.values:
        number = float(text)
        if math.isfinite(number):
            moment = moments.get(at) or moments.setdefault(at, datetime.fromtimestamp(at, UTC))
            samples.append(Sample(moment, number))
    return Series(labels, tuple(samples))


def _at_home(reading: Reading[tuple[Series, ...]]) -> Reading[tuple[Series, ...]]:
    """The reading with labels where detectors look for them: back from where a scraper moved them, a device's holder as its pod."""
    return replace(reading, value=tuple(replace(item, labels=_homed(item.labels)) for item in reading.value))


def _homed(labels: dict[str, str]) -> dict[str, str]:
    found = dict(labels)
    for key in MOVED:
        moved = found.pop(f"{EXPORTED}{key}", "")
        if moved:
            found[key] = moved
    for pod, namespace in HOLDERS:
        if found.get(pod) and found.get(namespace):
            found |= {"pod": found[pod], "namespace": found[namespace]}
    return found


def _identity(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in labels.items() if key not in (NAME_LABEL, "alertstate")))


def _usable(preset: Preset, names: frozenset[str]) -> tuple[Form, ...]:
    return tuple(form for form in preset.forms if form.names <= names)


def _empty(reading: Reading[tuple[Series, ...]] | None) -> bool:
    """Whether the metrics exist and have no series there and then."""
    return reading is not None and any(gap.why is Why.NOT_FOUND for gap in reading.missing)


def _listed(presets: Iterable[Preset]) -> str:
    return "measurements of " + ", ".join(preset.name for preset in presets)


def _absent(presets: Iterable[Preset]) -> Missing:
    return Missing(
        _listed(presets),
        Why.NOT_FOUND,
        "Prometheus has no such series there and then",
        "Scrape the exporters that have them (docs/monitoring.md).",
    )


def _nothing(what: str, window: Window) -> Missing:
    span = "at" if window.start == window.end else f"in the {(window.end - window.start).total_seconds() / 60:.0f} minutes before"
    return Missing(_about(what), Why.NOT_FOUND, f"Prometheus has no such series {span} {window.end.isoformat(timespec='seconds')}")


def _about(what: str) -> str:
    return what if what.startswith("metric") else f"metric: {present(what, 200)}"


def _stamp(moment: datetime) -> str:
    return f"{moment.timestamp():.3f}"
