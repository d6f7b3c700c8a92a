"""Metrics of a live Prometheus (or what speaks its HTTP API: Thanos, Mimir, VictoriaMetrics), through bounded queries.

What could not be asked, was refused, was cut or does not exist comes back as `Missing`: no series is never "fine". It stores nothing,
evaluates no rule, and asks no other address than the configured one. The token goes into a header and nowhere else.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import httpx2
import msgspec
from msgspec import Struct

from cluster.egress import GuardedTransport, RefusedAddressError
from cluster.errors import MonitoringError
from cluster.presets import BY_NAME, EXPORTED, LONG_MINUTES, MOVED, PRESETS, Form, Preset, named, render
from cluster.reading import Cost, MetricQuery, Missing, Reading, Sample, Series, Why
from cluster.reference import Scope, Window
from cluster.telemetry import Alert, Telemetry
from guardrails.redact import present

NAME_LABEL = "__name__"
SERIES_LIMIT = 2_000
POINTS = 60
STEP_SECONDS_MINIMUM = 15
RESPONSE_BYTES = 32 * 1024 * 1024
LABEL_LIMIT = 300
DETAIL_LIMIT = 300
NAMES_LIMIT = 1_000
# How far back a point of a query looks for a sample (--query.lookback-delta), so that points this far apart see all of them.
LOOKBACK_SECONDS = 300
# Prometheus itself runs 20 queries at a time (--query.max-concurrency); others want their turn.
PARALLEL = 6
# Below what a probe may take, so that what came in time is kept.
SWEEP_SECONDS = 25.0
# Longer queries do not fit into the address that proxies accept.
ADDRESS_BYTES = 2_000
ALERTS = "ALERTS"
ALERTS_SINCE = "ALERTS_FOR_STATE"


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and as whom. `tenant` goes into the header X-Scope-OrgID (Mimir, Cortex); user and password may stand in `url`."""

    url: str
    bearer_token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    tenant: str | None = None
    timeout_seconds: float = 10.0

    @property
    def shown(self) -> str:
        """The address without user and password."""
        return str(httpx2.URL(self.url).copy_with(userinfo=b""))


class _Envelope(Struct):
    """What every endpoint of the API answers (https://prometheus.io/docs/prometheus/latest/querying/api/)."""

    status: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    error_type: str = msgspec.field(default="", name="errorType")
    error: str = ""
    warnings: list[str] = []


class _Result(Struct):
    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None
    values: list[tuple[float, str]] = []


class _Data(Struct):
    result_type: str = msgspec.field(name="resultType")
    result: msgspec.Raw


class _Answer(Struct):
    """Either `data`, or the `why` and `detail` of having none."""

    data: bytes = b""
    warnings: tuple[str, ...] = ()
    why: Why | None = None
    detail: str = ""
    next_step: str = ""
    cost: Cost = Cost()

    def missing(self, what: str) -> Missing:
        return Missing(what, self.why or Why.MALFORMED, present(self.detail, DETAIL_LIMIT), self.next_step)


class Prometheus:
    """Queries over one endpoint. Use as an async context manager, or call `close`. `client` takes the place of the connection."""

    def __init__(self, endpoint: Endpoint, client: httpx2.AsyncClient | None = None) -> None:
        self.endpoint = endpoint
        self._client = client or _client(endpoint)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.aclose()

    async def metric(
        self, query: MetricQuery, window: Window, namespaces: Sequence[str] = (), limit: int = SERIES_LIMIT
    ) -> Reading[tuple[Series, ...]]:
        """The series of a PromQL expression, of a preset, or of a metric by its name, over the window."""
        labels = dict(query.labels)
        if query.expression:
            return await self._range(query.expression, window, query.name or "the query", query.name, limit)
        preset = BY_NAME.get(query.name)
        if preset is None:
            return await self._range(render(named(query.name), "pod", namespaces, labels), window, query.name, "", limit)
        names = await self._names((preset,), window)
        if names.missing:
            return Reading((), names.missing, names.cost)
        forms = _usable(preset, names.value)
        if not forms:
            return Reading((), (_absent((preset,)),), names.cost)
        found = await self._forms(preset, forms, window, namespaces, labels, limit)
        return Reading(found.value, found.missing, names.cost + found.cost)

    async def telemetry(self, scope: Scope, end: datetime) -> Reading[Telemetry]:
        """Every swept preset over the time before `end`, and the alerts that fired then."""
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

        with anyio.move_on_after(SWEEP_SECONDS):
            async with anyio.create_task_group() as group:
                for preset, forms in asked:
                    group.start_soon(ask, preset, forms)
                if ALERTS in names.value:
                    group.start_soon(ask_alerts)
        late = [preset for preset, _ in asked if preset.name not in readings]
        absent = [preset for preset in swept if not _usable(preset, names.value) or _empty(readings.get(preset.name))]
        gaps = [gap for reading in (*readings.values(), *alerts) for gap in reading.missing if gap.why is not Why.NOT_FOUND]
        if late:
            detail = f"no answer within {SWEEP_SECONDS:g} s"
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
            labels = tuple(sorted((key, value) for key, value in item.labels.items() if key != NAME_LABEL))
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
            reading = await self._range(render(form, preset.of, namespaces, labels), window, preset.about, form.called, limit)
            cost += reading.cost
            for item in reading.value:
                if preset.of != "pod" or not namespaces or item.labels.get("namespace") in (*namespaces, None):
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
        return await self._series("api/v1/query", expression, {"time": _stamp(at)}, what, "", SERIES_LIMIT, Window(at, at))

    async def _series(
        self, path: str, expression: str, times: dict[str, str], what: str, called: str, limit: int, window: Window
    ) -> Reading[tuple[Series, ...]]:
        timeout = f"{max(1, math.floor(self.endpoint.timeout_seconds))}s"
        answer = await self._get(path, {"query": expression, "limit": str(limit), "timeout": timeout, **times})
        if answer.why is not None:
            return Reading((), (answer.missing(what),), answer.cost)
        try:
            results = _results(answer.data)
        except (msgspec.MsgspecError, ValueError) as error:
            return Reading((), (Missing(what, Why.MALFORMED, present(str(error), DETAIL_LIMIT)),), answer.cost)
        moments: dict[float, datetime] = {}
        series = tuple(item for result in results[:limit] if (item := _read(result, called, moments)).samples)
        gaps = []
        if len(results) > limit or any("truncated" in warning for warning in answer.warnings):
            detail = f"more than {limit} series; the first {limit} were read"
            gaps.append(Missing(f"all of {what}", Why.TRUNCATED, detail, "Ask about one namespace or object."))
        if not series:
            gaps.append(_nothing(what, window))
        return Reading(series, tuple(gaps), answer.cost)

    async def _get(self, path: str, parameters: dict[str, str]) -> _Answer:
        """One request; whatever goes wrong is said in the answer."""
        url = f"{self.endpoint.url.rstrip('/')}/{path}"
        long = len(parameters.get("query", "")) > ADDRESS_BYTES
        where = self.endpoint.shown
        body = bytearray()
        try:
            with anyio.fail_after(self.endpoint.timeout_seconds + 2):
                request = self._client.build_request(
                    "POST" if long else "GET", url, data=parameters if long else None, params=None if long else parameters
                )
                response = await self._client.send(request, stream=True)
                try:
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > RESPONSE_BYTES:
                            detail = f"the answer is longer than {RESPONSE_BYTES // 1024 // 1024} MiB"
                            step = "Ask about one namespace or object, or a shorter time."
                            return _Answer(why=Why.TRUNCATED, detail=detail, next_step=step, cost=Cost(1, len(body)))
                finally:
                    await response.aclose()
        except (TimeoutError, httpx2.TimeoutException):
            detail = f"{where} gave no answer within {self.endpoint.timeout_seconds:g} s"
            return _Answer(why=Why.TIMEOUT, detail=detail, next_step="Look at the load of Prometheus, or try a shorter time.", cost=Cost(1))
        except RefusedAddressError as error:
            return _Answer(
                why=Why.FORBIDDEN, detail=f"not asked: {error}", next_step="Configure the address of a Prometheus.", cost=Cost(1)
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            detail = f"{where}: {error or type(error).__name__}"
            return _Answer(why=Why.UNREACHABLE, detail=detail, next_step=_unreachable(error), cost=Cost(1))
        return _judged(response.status_code, bytes(body), where, Cost(1, len(body)))


def _client(endpoint: Endpoint) -> httpx2.AsyncClient:
    """Raises MonitoringError for an address or a certificate authority that cannot be used."""
    try:
        url = httpx2.URL(endpoint.url)
    except httpx2.InvalidURL as error:
        raise MonitoringError(
            f"the address of Prometheus cannot be read ({error}); give one like https://prometheus.example:9090"
        ) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise MonitoringError(f"{endpoint.shown!r} is no address of a Prometheus; give one like https://prometheus.example:9090")
    try:
        verify = ssl.create_default_context(cafile=str(endpoint.ca_file)) if endpoint.ca_file else ssl.create_default_context()
    except OSError as error:
        raise MonitoringError(f"cannot read the certificate authority {endpoint.ca_file}: {error}. Correct monitoring.ca_file.") from error
    headers = {"Accept": "application/json"}
    if endpoint.bearer_token:
        headers["Authorization"] = f"Bearer {endpoint.bearer_token}"
    if endpoint.tenant:
        headers["X-Scope-OrgID"] = endpoint.tenant
    # Proxies of the environment are left aside: they would resolve the name again, and the address that was judged would not count.
    beneath = httpx2.AsyncHTTPTransport(verify=verify, trust_env=False)
    return httpx2.AsyncClient(
        transport=GuardedTransport(beneath), headers=headers, timeout=endpoint.timeout_seconds, trust_env=False, follow_redirects=False
    )


def _judged(status: int, body: bytes, where: str, cost: Cost) -> _Answer:
    """What an HTTP answer means."""
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except msgspec.MsgspecError:
        envelope = _Envelope("")
    if status == 200 and envelope.status == "success":
        return _Answer(bytes(envelope.data), tuple(envelope.warnings), cost=cost)
    said = envelope.error or " ".join(body[:DETAIL_LIMIT].decode("utf-8", "replace").split()) or f"HTTP {status}"
    why, step = _meaning(status, envelope)
    if why is Why.UNREACHABLE and said.startswith("<"):
        said = f"HTTP {status} and a web page"
    return _Answer(why=why, detail=f"{where} says: {said}", next_step=step, cost=cost)


def _meaning(status: int, envelope: _Envelope) -> tuple[Why, str]:
    match status, envelope.error_type:
        case 401, _:
            return Why.UNAUTHENTICATED, "Set SMOKEJUMPER_MONITORING__BEARER_TOKEN to a token that it accepts."
        case 403, _:
            return Why.FORBIDDEN, "Let this account query metrics, or set monitoring.tenant where tenants are told apart."
        case (408 | 429 | 504, _) | (_, "timeout" | "canceled"):
            return Why.TIMEOUT, "Look at the load of Prometheus, or ask about one namespace or a shorter time."
        case (400 | 422, _):
            return Why.MALFORMED, "The query was refused; correct it, or ask for less."
        case 404, _:
            return Why.UNREACHABLE, "There is no Prometheus API at this address; a path such as /prometheus may lack."
        case code, _ if 300 <= code < 400:
            return Why.UNREACHABLE, "It redirects elsewhere, which is not followed; configure the address that it points to."
    return Why.UNREACHABLE, "Check the address of Prometheus, and that it is up."


def _unreachable(error: Exception) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "Set monitoring.ca_file to the authority of its certificate."
    return "Check the address of Prometheus, that it is up, and that it can be reached from here."


def _results(data: bytes) -> list[_Result]:
    """Matrix, vector and scalar alike. Raises ValueError for a string, which is no measurement."""
    decoded = msgspec.json.decode(data, type=_Data)
    if decoded.result_type in ("matrix", "vector"):
        return msgspec.json.decode(decoded.result, type=list[_Result])
    if decoded.result_type == "scalar":
        return [_Result({}, msgspec.json.decode(decoded.result, type=tuple[float, str]))]
    raise ValueError(f"the result is a {decoded.result_type}, not a series")


def _read(result: _Result, called: str, moments: dict[float, datetime]) -> Series:
    labels = {key: value[:LABEL_LIMIT] for key, value in result.metric.items()}
    for key in MOVED:
        moved = labels.pop(f"{EXPORTED}{key}", "")
        if moved:
            labels[key] = moved
    labels[NAME_LABEL] = called or labels.get(NAME_LABEL, "")
    samples = []
    for at, text in (result.value,) if result.value is not None else result.values:
        number = float(text)
        if math.isfinite(number):
            moment = moments.get(at) or moments.setdefault(at, datetime.fromtimestamp(at, UTC))
            samples.append(Sample(moment, number))
    return Series(labels, tuple(samples))


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
