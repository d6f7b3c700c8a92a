"""What accelerators cost by the hour as they stand now, and what of it does no work. `runbooks.cost` reckons; prices are configured."""

from __future__ import annotations

from mcp_server.arguments import DEFAULT_ROWS, Arguments, Cursor, Limit
from mcp_server.registry import Access, Answer, Page, ToolContext, ToolSpec
from mcp_server.result import Cell, Order, TableOutput, render_table, request
from mcp_server.tools.gpus import DEVICES_READ, read_devices
from runbooks.cost import Loss, cost_report, summary, unpriced_line
from runbooks.finding import Source, cite

COLUMNS = ("use", "object", "team", "devices", "price per hour", "evidence")
TEAMS_SHOWN = 8


class CostReportArguments(Arguments):
    limit: Limit = DEFAULT_ROWS
    cursor: Cursor = None


async def _cost_report(context: ToolContext, arguments: CostReportArguments) -> Answer:
    read = await read_devices(context)
    asked, tariff = request("cost_report", context.reader.cluster, arguments), context.tariff

    def render() -> Page:
        found = cost_report(read.world(context), tariff)

        def cells(loss: Loss) -> tuple[Cell, ...]:
            price = f"{loss.share.price:.2f} {tariff.currency}" if loss.share.price is not None else ""
            evidence = cite(Source.FIELD, loss.object, loss.use, f"{loss.share.devices:g} devices")
            team = loss.team if loss.object.namespace else ""
            return (loss.use, str(loss.object), team, f"{loss.share.devices:g}", price, evidence.id)

        lines = [line.strip() for line in summary(found, tariff.currency, TEAMS_SHOWN)]
        if unpriced_line(found):
            lines.append(unpriced_line(found))
        return render_table(
            asked,
            headline=[*lines, *(["what does no work, dearest first:"] if found.losses else [])],
            columns=COLUMNS,
            items=((_order(loss), loss) for loss in found.losses),
            cells=cells,
            missing=read.missing,
            untrusted=True,
        )

    return Answer(render, read.growth, read.cost)


def _order(loss: Loss) -> Order:
    return (-(loss.share.price or 0.0), -loss.share.devices, loss.use, str(loss.object), loss.team)


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="cost_report",
        title="Report what accelerators cost",
        group="gpu",
        description="Accelerators' cost an hour by use and team, then idle, stranded, sick or unready ones, dearest first.",
        arguments=CostReportArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=DEVICES_READ,
        run=_cost_report,
    ),
)
