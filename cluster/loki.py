"""Logs that the kubelet no longer has: of a run before the last, of a pod that is gone, of a node that does not answer. Read from Loki.

Bounded in time, lines and bytes; the newest lines count. Collectors label streams in two ways, Promtail's and OpenTelemetry's, and both
are asked. It follows nothing, deletes nothing, and asks no question that its caller writes.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from cluster.endpoint import DETAIL_LIMIT, Answer, Endpoint, EndpointClient
from cluster.logtext import shape_log
from cluster.reading import Cost, LogText, Missing, Reading, Why
from cluster.reference import ContainerRef
from guardrails.redact import present

# How far back a run may lie that still tells of the present fault.
LOOKBACK = timedelta(hours=24)
# `max_entries_limit_per_query` of a Loki that nobody configured otherwise (Loki, limits_config).
LINES_LIMIT = 5_000
BYTES_PER_LINE = 80
# {pod, namespace, container} are Promtail's and Alloy's; OpenTelemetry keeps the pod as metadata of each line.
_LAYOUTS = (
    "{{namespace={namespace},pod={pod},container={container}}}",
    "{{k8s_namespace_name={namespace},k8s_container_name={container}}} | k8s_pod_name={pod}",
)
# Where the kubelet writes a run: /var/log/pods/NAMESPACE_POD_UID/CONTAINER/RUN.log (K pkg/kubelet/kuberuntime/helpers.go).
_RUN = re.compile(r"/pods/[^/]+_(?P<uid>[^/_]+)/[^/]+/(?P<run>\d+)\.log")


class _Stream(Struct):
    stream: dict[str, str] = {}
    # (nanoseconds as text, line[, metadata]); later releases add the third.
    values: list[list[Any]] = []


class _Data(Struct, rename="camel"):
    result_type: str = ""
    result: list[_Stream] = []


class _Envelope(Struct):
    data: _Data = msgspec.field(default_factory=_Data)


class _Line(Struct, frozen=True, order=True):
    nanoseconds: int
    text: str
    # ("", -1) where the collector does not say which run of which pod wrote it.
    run: tuple[str, int] = ("", -1)


class Loki:
    """Logs over one endpoint; `close` when done. Raises MonitoringError for an endpoint that cannot be used."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._client = EndpointClient(endpoint, "Loki")

    async def close(self) -> None:
        await self._client.close()

    async def answers(self) -> tuple[Missing, ...]:
        """Whether it is a Loki and takes our credential; nothing when all is well."""
        answer = await self._client.get("loki/api/v1/labels", {})
        if answer.why is None and answer.body.lstrip().startswith(b"{"):
            return ()
        return (self._failed(answer if answer.why is not None else self._client.unexpected(answer), "logs of Loki"),)

    async def logs(
        self, container: ContainerRef, end: datetime, *, previous: bool, limit_bytes: int, since: datetime | None = None
    ) -> Reading[LogText]:
        """The newest lines of a container before `end`, redacted, at most `limit_bytes`; with `previous`, of the run before the last."""
        what = f"{'previous ' if previous else ''}log of {container} in Loki"
        lines, cost = list[_Line](), Cost()
        asked = max(50, min(LINES_LIMIT, limit_bytes // BYTES_PER_LINE))
        for layout in _LAYOUTS:
            answer = await self._client.get("loki/api/v1/query_range", _parameters(layout, container, since or end - LOOKBACK, end, asked))
            cost += answer.cost
            if answer.why is not None:
                return Reading(LogText(), (self._failed(answer, what),), cost)
            if not answer.body.lstrip().startswith(b"{"):
                return Reading(LogText(), (self._client.unexpected(answer).missing(what),), cost)
            try:
                lines = sorted(_lines(msgspec.json.decode(answer.body, type=_Envelope)))
            except (msgspec.MsgspecError, ValueError, TypeError) as error:
                return Reading(LogText(), (Missing(what, Why.MALFORMED, present(str(error), DETAIL_LIMIT)),), cost)
            if lines:
                break
        whole = len(lines) < asked
        chosen, which = _run(lines, previous=previous)
        if not chosen:
            detail = "it has no line of the run before the last" if lines else f"it has no line of the {LOOKBACK.days * 24} hours before"
            return Reading(LogText(), (Missing(what, Why.NOT_FOUND, detail, kind="Pod", namespace=container.namespace),), cost)
        shaped = shape_log("\n".join(line.text for line in chosen).encode(), limit_bytes)
        left_out = shaped.cut or ("" if whole else f"of it the last {asked} lines were asked for")
        note = f"read from Loki, {which}{f'; {left_out}' if left_out else ''}"
        return Reading(LogText(shaped.lines, note), (), cost)

    def _failed(self, answer: Answer, what: str) -> Missing:
        if "no org id" in answer.detail:
            # Loki's own words where tenants are told apart (dskit user.ErrNoOrgID).
            return Missing(
                what, Why.UNAUTHENTICATED, present(answer.detail, DETAIL_LIMIT), "Set monitoring.tenant; this Loki tells tenants apart."
            )
        return answer.missing(what)


def _parameters(layout: str, container: ContainerRef, start: datetime, end: datetime, lines: int) -> dict[str, str]:
    query = layout.format(namespace=_quoted(container.namespace), pod=_quoted(container.pod), container=_quoted(container.container))
    return {"query": query, "start": _nanoseconds(start), "end": _nanoseconds(end), "limit": str(lines), "direction": "backward"}


def _lines(envelope: _Envelope) -> list[_Line]:
    """Every line of every stream. Raises ValueError or TypeError for what is no stream of lines."""
    if envelope.data.result_type not in ("streams", ""):
        raise ValueError(f"the result is a {envelope.data.result_type}, not lines")
    found: list[_Line] = []
    for stream in envelope.data.result:
        match = _RUN.search(stream.stream.get("filename") or stream.stream.get("log_file_path", ""))
        run = (match["uid"], int(match["run"])) if match is not None else ("", -1)
        found += (_Line(int(value[0]), str(value[1]), run) for value in stream.values if len(value) >= 2)
    return found


def _run(lines: list[_Line], *, previous: bool) -> tuple[list[_Line], str]:
    """The lines of the run that is meant, and in words which that is. A collector that names no runs gives all of them.

    The run before the last may be one of an earlier pod of that name, as where a StatefulSet makes its pod anew.
    """
    if not lines:
        return [], ""
    last = lines[-1].run
    if last[1] < 0:
        return lines, "where runs of a container are not told apart"
    wanted = next((line.run for line in reversed(lines) if line.run != last and line.run[1] >= 0), None) if previous else last
    if wanted is None:
        return [], ""
    whose = "the container" if wanted[0] == last[0] else "the container in an earlier pod of that name"
    return [line for line in lines if line.run == wanted], f"run {wanted[1]} of {whose}"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _nanoseconds(moment: datetime) -> str:
    return str(int(moment.timestamp() * 1_000_000) * 1_000)
