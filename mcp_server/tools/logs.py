"""Logs of a container, a pod or a workload: alike lines folded with their counts, errors first. The text is workload-authored data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated

from msgspec import Struct
from pydantic import Field

from cluster.facts.meta import Fact
from cluster.facts.pod import Pod
from cluster.facts.workload import Job, ReplicaSet
from cluster.kinds import BY_NAME
from cluster.reading import Cost, LogText, Reading, Why
from cluster.reference import ContainerRef
from mcp_server.arguments import DEFAULT_ROWS, Arguments, Cursor, Limit, Name, Namespace
from mcp_server.errors import ToolRefusal
from mcp_server.probe import find_kind, find_object, list_kind, pods_below, together
from mcp_server.registry import Access, Answer, Growth, LogRead, Page, RBACRule, ToolContext, ToolSpec
from mcp_server.result import Cell, Order, TableOutput, render_table, request
from mcp_server.tools.pods import POD_READ, pods_of
from runbooks.finding import Source, cite

LOG_READ = RBACRule(("get",), "", ("pods/log",))
READ_BYTES = 256 * 1024
MAXIMUM_READ_BYTES = 4 * 1024 * 1024
PODS_READ = 5
CONTAINERS_READ = 12
PATTERN_LIMIT = 200
COLUMNS = ("container", "line", "times", "text", "evidence")
_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{8,}|\d+")
_ALARMING = re.compile(r"(?i)\b(error|fatal|panic|exception|traceback|critical|fail(ed|ure)?|denied|refused|out of memory|oom)\b")


class LogsSearchArguments(Arguments):
    namespace: Namespace
    pod: Name | None = None
    container: Name | None = None
    workload: Annotated[str | None, Field(description="KIND/NAME, instead of a pod: its worst pods", max_length=300)] = None
    previous: Annotated[bool, Field(description="of the run before the last restart")] = False
    pattern: Annotated[str | None, Field(description="words to look for, case ignored; '|' separates alternatives")] = None
    since_minutes: Annotated[int | None, Field(ge=1, le=10_080)] = None
    limit_bytes: Annotated[int, Field(ge=1_024, le=MAXIMUM_READ_BYTES, description="of each log's tail to read")] = READ_BYTES
    limit: Limit = DEFAULT_ROWS
    cursor: Cursor = None


class Line(Struct, frozen=True):
    """The last of some alike lines: `number` counts from 1 in what was read."""

    container: ContainerRef
    number: int
    text: str
    times: int

    @property
    def alarming(self) -> bool:
        return _ALARMING.search(self.text) is not None


async def _logs_search(context: ToolContext, arguments: LogsSearchArguments) -> Answer:
    words = _words(arguments.pattern)
    containers, cost, note = await _containers(context, arguments)
    since = context.reader.now() - timedelta(minutes=arguments.since_minutes) if arguments.since_minutes else None
    readings = await together(
        context.reader.logs(container, previous=arguments.previous, limit_bytes=arguments.limit_bytes, since=since)
        for container in containers
    )
    logs = tuple(LogRead(container, arguments.previous, log) for container, log in zip(containers, readings, strict=True))
    if arguments.container and arguments.pod and all(_not_found(entry.log) for entry in logs):
        await _refuse_unknown(context, arguments)
    for entry in logs:
        cost += entry.log.cost
    asked = request("logs_search", context.reader.cluster, arguments)

    def render() -> Page:
        lines = [line for entry in logs for line in folded(entry.container, entry.log.value.lines, words)]
        total = sum(len(entry.log.value.lines) for entry in logs)
        found = f"{sum(line.times for line in lines)} matching" if words else f"{sum(line.alarming for line in lines)} kinds of alarming"
        run = " (previous run)" if arguments.previous else ""
        source = str(containers[0]) if len(containers) == 1 else f"{len(containers)} containers"
        headline = [f"{found} lines of {total} read from {source}{run}, as {len(lines)} distinct"]
        if note:
            headline.append(note)
        headline += [f"{entry.container}: {entry.log.value.cut}" for entry in logs if entry.log.value.cut]

        def cells(line: Line) -> tuple[Cell, ...]:
            evidence = cite(Source.LOG, line.container.pod_ref, f"{line.container.container}:{line.number}", line.text)
            found_in = (f"{line.container.pod}[{line.container.container}]",) if len(containers) > 1 else ()
            return (*found_in, line.number, line.times, line.text, evidence.id)

        return render_table(
            asked,
            headline=headline,
            columns=COLUMNS if len(containers) > 1 else COLUMNS[1:],
            items=((_order(line), line) for line in lines),
            cells=cells,
            missing=tuple(item for entry in logs for item in entry.log.missing),
            untrusted=True,
        )

    return Answer(render, Growth(logs=logs), cost)


def folded(container: ContainerRef, lines: Iterable[str], words: tuple[str, ...]) -> list[Line]:
    """Lines that hold one of `words` (all lines without words), alike ones as their last with a count."""
    last: dict[str, tuple[int, str, int]] = {}
    for number, text in enumerate(lines, 1):
        lowered = text.lower()
        if not text.strip() or (words and not any(word in lowered for word in words)):
            continue
        template = _VARIABLE.sub("#", text)
        last[template] = (number, text, last[template][2] + 1 if template in last else 1)
    return [Line(container, number, text, times) for number, text, times in last.values()]


def _words(pattern: str | None) -> tuple[str, ...]:
    if pattern is None:
        return ()
    if len(pattern) > PATTERN_LIMIT:
        raise ToolRefusal(f"argument 'pattern' has {len(pattern)} characters; at most {PATTERN_LIMIT}")
    words = tuple(word.strip().lower() for word in pattern.split("|") if word.strip())
    if not words:
        raise ToolRefusal("argument 'pattern' holds no words; leave it out to see all lines")
    return words


async def _containers(context: ToolContext, arguments: LogsSearchArguments) -> tuple[tuple[ContainerRef, ...], Cost, str]:
    """Which containers to read, what finding them cost, and what was left out."""
    if (arguments.pod is None) == (arguments.workload is None):
        raise ToolRefusal("logs_search: give exactly one of 'pod' and 'workload'")
    if arguments.pod is not None and arguments.container is not None:
        return (ContainerRef(arguments.namespace, arguments.pod, arguments.container),), Cost(), ""
    if arguments.pod is not None:
        found, cost = await find_object(context, BY_NAME[Pod.kind], arguments.namespace, arguments.pod)
        pods, note = pods_of((found,)), ""
    else:
        pods, cost, note = await _pods_of_workload(context, arguments)
    refs = [
        ContainerRef(pod.namespace or arguments.namespace, pod.name, container.name)
        for pod in pods
        for container in pod.spec.all_containers
        if arguments.container in (None, container.name)
    ]
    if not refs:
        names = {container.name for pod in pods for container in pod.spec.all_containers}
        raise ToolRefusal(f"no container {arguments.container!r} there; containers: {', '.join(sorted(names)) or 'none'}")
    if len(refs) > CONTAINERS_READ:
        note = "; ".join(part for part in (note, f"read {CONTAINERS_READ} of {len(refs)} containers; name one to see another") if part)
    return tuple(refs[:CONTAINERS_READ]), cost, note


async def _pods_of_workload(context: ToolContext, arguments: LogsSearchArguments) -> tuple[tuple[Pod, ...], Cost, str]:
    word, slash, name = (arguments.workload or "").partition("/")
    if not slash or not name:
        raise ToolRefusal("argument 'workload' is KIND/NAME, for example Deployment/server")
    workload, cost = await find_object(context, await find_kind(context, word), arguments.namespace, name)
    listing = await list_kind(context, BY_NAME[Pod.kind], (arguments.namespace,))
    cost += listing.cost
    middle: tuple[Fact, ...] = ()
    for kind in (ReplicaSet.kind, Job.kind):
        if workload.ref.kind in ("Deployment", "CronJob"):
            owners = await list_kind(context, BY_NAME[kind], (arguments.namespace,))
            middle, cost = middle + owners.read.facts, cost + owners.cost
    pods = pods_of(pods_below(pods_of(listing.read.facts), middle, workload.ref))
    if not pods:
        raise ToolRefusal(f"{workload.ref} has no pods, so no logs; events_list about it may say why")
    note = f"read the {PODS_READ} worst of its {len(pods)} pods" if len(pods) > PODS_READ else ""
    return pods[:PODS_READ], cost, note


def _not_found(log: Reading[LogText]) -> bool:
    return any(item.why is Why.NOT_FOUND for item in log.missing)


async def _refuse_unknown(context: ToolContext, arguments: LogsSearchArguments) -> None:
    """Raises ToolRefusal when the pod, or the container of it, does not exist; a log that merely is not there is no refusal."""
    found, _ = await find_object(context, BY_NAME[Pod.kind], arguments.namespace, arguments.pod or "")
    names = [container.name for pod in pods_of((found,)) for container in pod.spec.all_containers]
    if arguments.container not in names:
        raise ToolRefusal(f"no container {arguments.container!r} in {found.ref.name}; containers: {', '.join(names)}")


def _order(line: Line) -> Order:
    """Alarming lines, latest first; then the others, rarest first, for what is said once in thousands of lines tells most."""
    return (not line.alarming, 0 if line.alarming else line.times, -line.number, str(line.container))


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="logs_search",
        title="Search logs",
        group="core",
        description="Log lines of a pod, a container or a workload's worst pods: alike ones folded, alarming first, then rarest.",
        arguments=LogsSearchArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=(LOG_READ, POD_READ),
        run=_logs_search,
    ),
)
