"""Metrics over a time: a measurement by its preset, one metric by its name, or an expression in PromQL. The numbers are nobody's verdict.

What is shown of a series is its first, last, lowest and highest value, because a model reads five numbers better than sixty.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from cluster.presets import BY_NAME, PRESETS
from cluster.reading import MetricQuery, Missing, Series
from cluster.reference import ObjectRef, Window
from cluster.timestamps import age
from mcp_server.arguments import ListArguments
from mcp_server.registry import Access, Answer, Growth, MetricRead, Page, ToolContext, ToolRefusal, ToolSpec
from mcp_server.result import Cell, TableOutput, render_table, request
from runbooks.finding import Source, cite

COLUMNS = ("series", "last", "at", "first", "lowest", "highest", "points", "evidence")
PRESET_COLUMNS = ("preset", "measures", "metrics, current names first")
NAME_LABEL = "__name__"
EXPRESSION_LIMIT = 2_000
NAME_LIMIT = 300
LABELS_LIMIT = 20
MINUTES_LIMIT = 1_440


def _bounded(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > LABELS_LIMIT or any(len(part) > NAME_LIMIT for pair in labels.items() for part in pair):
        raise ValueError(f"at most {LABELS_LIMIT} labels, each name and value of at most {NAME_LIMIT} characters")
    return labels


class MetricsQueryArguments(ListArguments):
    name: Annotated[str | None, Field(description="preset or metric; neither lists presets")] = None
    labels: Annotated[dict[str, str], AfterValidator(_bounded)] = Field(default_factory=dict)
    expression: Annotated[str | None, Field(description="PromQL")] = None
    minutes: Annotated[int, Field(ge=1, le=MINUTES_LIMIT)] = 60


async def _metrics_query(context: ToolContext, arguments: MetricsQueryArguments) -> Answer:
    if not arguments.name and not arguments.expression:
        return Answer(lambda: _presets(context, arguments))
    if len(arguments.name or "") > NAME_LIMIT or len(arguments.expression or "") > EXPRESSION_LIMIT:
        raise ToolRefusal(f"a name has at most {NAME_LIMIT} characters, an expression {EXPRESSION_LIMIT}")
    if arguments.expression and (arguments.labels or arguments.namespace):
        raise ToolRefusal("an expression has selectors of its own: leave namespace and labels out, or give name instead of expression")
    query = MetricQuery(arguments.name or "", tuple(sorted(arguments.labels.items())), arguments.expression or None, arguments.namespace)
    end = context.reader.now()
    reading = await context.reader.metric(query, Window(end - timedelta(minutes=arguments.minutes), end))
    missing = tuple(_with_presets(gap, arguments) for gap in reading.missing)

    def render() -> Page:
        def cells(series: Series) -> tuple[Cell, ...]:
            values = [sample.value for sample in series.samples]
            last, shown = series.samples[-1], (values[-1], values[0], min(values), max(values))
            now, first, lowest, highest = (f"{value:.6g}" for value in shown)
            whole = ObjectRef("Cluster", None, context.reader.cluster)
            evidence = cite(Source.METRIC, whole, _words(series), f"{now}, from {first}, {lowest} to {highest}", last.at)
            return (_words(series), now, f"{age(last.at, end)} ago", first, lowest, highest, len(values), evidence.id)

        asked_for = arguments.expression or arguments.name or ""
        return render_table(
            request("metrics_query", context.reader.cluster, arguments),
            headline=[
                f"{len(reading.value)} series of {asked_for} in the {arguments.minutes} minutes before {end.isoformat(timespec='seconds')}"
            ],
            columns=COLUMNS,
            items=(((-series.samples[-1].value, _words(series)), series) for series in reading.value if series.samples),
            cells=cells,
            missing=missing,
            untrusted=True,
        )

    return Answer(render, Growth(metrics=(MetricRead(query, reading),)), reading.cost)


def _presets(context: ToolContext, arguments: MetricsQueryArguments) -> Page:
    return render_table(
        request("metrics_query", context.reader.cluster, arguments),
        headline=[f"{len(PRESETS)} presets; every other name is taken as a metric's"],
        columns=PRESET_COLUMNS,
        items=(((preset.name,), preset) for preset in PRESETS),
        cells=lambda preset: (preset.name, preset.about, ", ".join(_in_order(form.names for form in preset.forms))),
    )


def _in_order(names: Iterable[frozenset[str]]) -> list[str]:
    return [name for group in names for name in sorted(group)]


def _with_presets(gap: Missing, arguments: MetricsQueryArguments) -> Missing:
    """What is missing; where the name may have been meant for a preset, with the way to see those."""
    if arguments.expression or arguments.name in BY_NAME or gap.next_step:
        return gap
    return Missing(gap.what, gap.why, gap.detail, "metrics_query without a name lists the presets", gap.kind, gap.namespace)


def _words(series: Series) -> str:
    labels = ",".join(f"{key}={value}" for key, value in sorted(series.labels.items()) if key != NAME_LABEL)
    return f"{series.labels.get(NAME_LABEL, '')}{{{labels}}}"


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="metrics_query",
        title="Query metrics",
        group="core",
        description="Metrics over time: last, first, lowest, highest value of each series.",
        arguments=MetricsQueryArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=(),
        run=_metrics_query,
        source="metrics",
    ),
)
