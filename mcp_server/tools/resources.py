"""Any kind, listed or read whole: names, state, conditions. Secrets are refused by name and read by nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cluster.facts.meta import Condition, Fact
from cluster.kinds import KINDS
from mcp_server.arguments import ListArguments, kind_named
from mcp_server.probe import list_kind
from mcp_server.registry import Access, Answer, Growth, Page, RBACRule, ToolContext, ToolSpec
from mcp_server.result import Cell, Order, TableOutput, age, render_table, request
from mcp_server.tools.state import bad_conditions, state_of, troubled
from runbooks.finding import Source, cite

COLUMNS = ("namespace", "name", "state", "conditions", "owner", "age", "evidence")
CONDITIONS_SHOWN = 3


def _rules() -> tuple[RBACRule, ...]:
    """One rule per API group over every kind that can be listed."""
    groups: dict[str, list[str]] = {}
    for kind in KINDS:
        groups.setdefault(kind.group, []).append(kind.plural)
    return tuple(RBACRule(("get", "list"), group, tuple(plurals)) for group, plurals in groups.items())


ALL_KINDS_READ = _rules()
Kind = Annotated[str, Field(description="such as Deployment, node, svc", max_length=80)]


class ResourcesListArguments(ListArguments):
    kind: Kind
    selector: Annotated[str | None, Field(description="labels: a=b,c=d", max_length=400)] = None


async def _resources_list(context: ToolContext, arguments: ResourcesListArguments) -> Answer:
    kind = kind_named(arguments.kind)
    labels = _labels(arguments.selector)
    listing = await list_kind(context, kind, arguments.namespace)
    asked, now = request("resources_list", context.reader.cluster, arguments), context.reader.now()

    def render() -> Page:
        shown = [fact for fact in listing.read.facts if labels.items() <= fact.labels.items()]
        where = (", ".join(arguments.namespace) or "all namespaces") if kind.namespaced else "the cluster"
        bad = sum(troubled(fact) for fact in shown)
        matching = f" with {arguments.selector}" if labels else ""
        headline = f"{len(shown)} {kind.plural}{matching} in {where}" + (f", {bad} with problems" if bad else "")

        def cells(fact: Fact) -> tuple[Cell, ...]:
            state, conditions = state_of(fact), "; ".join(_told(item) for item in bad_conditions(fact)[:CONDITIONS_SHOWN])
            evidence = cite(Source.FIELD, fact.ref, "status", "; ".join(part for part in (state, conditions) if part) or "exists")
            owner = f"{fact.controller.kind}/{fact.controller.name}" if fact.controller else None
            return (fact.namespace, fact.name, state, conditions, owner, age(fact.created, now), evidence.id)

        return render_table(
            asked,
            headline=[headline],
            columns=COLUMNS,
            items=((_order(fact), fact) for fact in shown),
            cells=cells,
            missing=listing.missing,
            untrusted=True,
        )

    return Answer(render, Growth((listing.read,)), listing.cost)


def _labels(selector: str | None) -> dict[str, str]:
    if not selector:
        return {}
    pairs = [item.partition("=") for item in selector.split(",") if item.strip()]
    return {key.strip(): value.removeprefix("=").strip() for key, _, value in pairs}


def _told(item: Condition) -> str:
    reason = f" ({item.reason}{': ' + item.message if item.message else ''})" if item.reason else ""
    return f"{item.type}={item.status}{reason}"


def _order(fact: Fact) -> Order:
    return (not troubled(fact), fact.namespace or "", fact.name)


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="resources_list",
        title="List objects of a kind",
        group="core",
        description="Objects of any kind that is readable (never Secrets): state, conditions, owner; troubled ones first.",
        arguments=ResourcesListArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=ALL_KINDS_READ,
        run=_resources_list,
    ),
)
