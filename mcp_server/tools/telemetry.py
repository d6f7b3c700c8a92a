"""What monitoring said beside the objects: firing alerts, node services, failed reachability, who calls whom.

It reads and lists; a source that is not at hand is said to be missing. What follows from it is for detectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from msgspec import Struct

from cluster.reference import ObjectRef, Scope
from cluster.telemetry import Telemetry
from cluster.timestamps import age
from mcp_server.arguments import ListArguments
from mcp_server.registry import Access, Answer, Growth, Page, ToolContext, ToolSpec
from mcp_server.result import Cell, Order, TableOutput, render_table, request
from runbooks.finding import Source, cite

COLUMNS = ("what", "subject", "state", "since", "text", "evidence")
WORST, BAD, QUIET = 0, 1, 2


class Row(Struct, frozen=True):
    """One line of telemetry; `severity` orders lines, worst first."""

    severity: int
    what: str
    subject: str
    state: str
    since: str
    text: str


async def _telemetry_list(context: ToolContext, arguments: ListArguments) -> Answer:
    reading = await context.reader.telemetry(Scope(context.reader.cluster, arguments.namespace))
    asked, now = request("telemetry_list", context.reader.cluster, arguments), context.reader.now()

    def render() -> Page:
        telemetry = reading.value
        rows = list(_rows(telemetry, lambda moment: age(moment, now) if moment else ""))

        def cells(row: Row) -> tuple[Cell, ...]:
            # Monitoring names what it is about as it likes, so the evidence is the cluster's.
            evidence = cite(
                Source.ALERT, ObjectRef("Cluster", None, context.reader.cluster), f"{row.what} {row.subject}", f"{row.state}: {row.text}"
            )
            return (row.what, row.subject, row.state, row.since, row.text, evidence.id)

        return render_table(
            asked,
            headline=[
                f"{len(telemetry.alerts)} alerts, {len(telemetry.node_services)} node services, {len(telemetry.connectivity)} connection "
                f"attempts, {len(telemetry.dependencies)} dependencies, {len(telemetry.series)} series"
            ],
            columns=COLUMNS,
            items=((_order(row), row) for row in rows),
            cells=cells,
            missing=reading.missing,
            untrusted=True,
        )

    return Answer(render, Growth(telemetry=reading), reading.cost)


def _rows(telemetry: Telemetry, since: Callable[[datetime | None], str]) -> Iterator[Row]:
    for alert in telemetry.alerts:
        yield Row(WORST, f"alert {alert.name}", alert.subject, alert.state, since(alert.since), alert.text)
    for service in telemetry.node_services:
        state = {True: "running", False: "not running", None: "unknown"}[service.running]
        yield Row(BAD if service.running is False else QUIET, f"node service {service.service}", service.node, state, "", service.text)
    for attempt in telemetry.connectivity:
        state = {True: "reachable", False: "unreachable", None: "unknown"}[attempt.reachable]
        target = f"{attempt.source or '(cluster)'} -> {attempt.target}" + (f":{attempt.port}" if attempt.port else "")
        yield Row(BAD if attempt.reachable is False else QUIET, "connection", target, state, "", attempt.text)
    for dependency in telemetry.dependencies:
        yield Row(QUIET, "dependency", f"{dependency.caller} -> {dependency.callee}", "", "", "")


def _order(row: Row) -> Order:
    return (row.severity, row.what, row.subject, row.state, row.text)


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="telemetry_list",
        title="List telemetry",
        group="core",
        description="Alerts, stopped node services, failed connections and call dependencies that monitoring reported, worst first.",
        arguments=ListArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=(),
        run=_telemetry_list,
        source="telemetry",
    ),
)
