"""Any kind, listed or read whole: names, state, conditions. Secrets are refused by name and read by nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from cluster.facts.meta import Condition, Fact
from cluster.kinds import KINDS
from cluster.reading import Cost, Missing, Why
from cluster.reference import ObjectRef
from cluster.timestamps import age
from guardrails.redact import redact_object
from mcp_server.arguments import Arguments, ListArguments, Name, Namespace
from mcp_server.errors import ToolRefusal
from mcp_server.probe import explain_missing, find_kind, find_object, list_kind
from mcp_server.registry import Access, Answer, Growth, Page, RBACRule, ToolContext, ToolSpec
from mcp_server.result import DEFAULT_BYTES, HARD_BYTES, Cell, Order, Output, TableOutput, fence, flattened, render_table, request
from mcp_server.tools.state import bad_conditions, state_of, troubled
from runbooks.finding import Source, cite

COLUMNS = ("namespace", "name", "state", "conditions", "owner", "age", "evidence")
CONDITIONS_SHOWN = 3
METADATA_SHOWN = ("uid", "generation", "creationTimestamp", "deletionTimestamp", "labels", "finalizers")


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


class ResourceGetArguments(Arguments):
    kind: Kind
    name: Name
    namespace: Namespace | None = None
    view: Literal["summary", "status", "spec"] = "summary"


class ObjectOutput(Output):
    """One object as paths and values."""

    object: str
    view: str
    fields: list[str] = Field(description="path: value")
    cut: str = ""


async def _resource_get(context: ToolContext, arguments: ResourceGetArguments) -> Answer:
    kind = await find_kind(context, arguments.kind)
    if kind.namespaced and arguments.namespace is None:
        raise ToolRefusal(f"argument 'namespace' is required for a {kind.name}")
    namespace = arguments.namespace if kind.namespaced else None
    found = await context.reader.raw(kind, namespace, arguments.name)
    if isinstance(found, Missing):
        if found.why is Why.NOT_FOUND:
            await find_object(context, kind, namespace, arguments.name)
        raise ToolRefusal(f"cannot read {kind.name} {arguments.name}: {explain_missing(found)}")
    ref = ObjectRef(kind.name, namespace, arguments.name)

    def render() -> Page:
        budget_bytes = DEFAULT_BYTES if arguments.view == "summary" else HARD_BYTES // 2
        fields, cut = flattened(redact_object(projected(found, arguments.view)), budget_bytes)
        evidence = cite(Source.FIELD, ref, arguments.view, "; ".join(fields))
        lines = [f"{ref}, {arguments.view} ({evidence.id}); annotations and values of variables and of ConfigMap keys are left out"]
        document = ObjectOutput(object=str(ref), view=arguments.view, fields=fields, cut=cut)
        return Page((*lines, *fence(fields or ["(empty)"])), document.model_dump(mode="json"), cut=cut)

    return Answer(render, cost=Cost(requests=1))


def projected(document: dict[str, Any], view: str) -> dict[str, Any]:
    """The part of an object that a view shows, without annotations, managedFields, and what variables and ConfigMap keys hold."""
    metadata, status = document.get("metadata") or {}, document.get("status") or {}
    if view == "status":
        return {"status": status}
    if view == "spec":
        rest = {key: value for key, value in document.items() if key not in ("apiVersion", "kind", "metadata", "status")}
        if document.get("kind") == "ConfigMap":
            return {key: _sizes(value) if key in ("data", "binaryData") else value for key, value in rest.items()}
        return {key: _without_values(value) for key, value in rest.items()}
    scalars = {key: value for key, value in status.items() if isinstance(value, str | int | float)} if isinstance(status, dict) else {}
    conditions = status.get("conditions") if isinstance(status, dict) else None
    return {
        "apiVersion": document.get("apiVersion"),
        "metadata": {key: metadata[key] for key in METADATA_SHOWN if key in metadata},
        "owners": [f"{owner.get('kind')}/{owner.get('name')}" for owner in metadata.get("ownerReferences") or ()],
        "status": {**scalars, "conditions": conditions},
    }


def _sizes(value: Any) -> Any:
    return {key: f"{len(str(item))} characters" for key, item in value.items()} if isinstance(value, dict) else value


def _without_values(value: Any) -> Any:
    """Without the values of environment variables, at any depth (pod templates stand at several)."""
    if isinstance(value, list):
        return [_without_values(item) for item in value]
    if not isinstance(value, dict):
        return value
    copy = {key: _without_values(item) for key, item in value.items() if key not in ("annotations", "managedFields")}
    if isinstance(value.get("env"), list):
        copy["env"] = [_variable(item) for item in value["env"]]
    return copy


def _variable(item: Any) -> Any:
    if isinstance(item, dict) and "value" in item:
        return {**item, "value": f"({len(str(item['value']))} characters)"}
    return item


async def _resources_list(context: ToolContext, arguments: ResourcesListArguments) -> Answer:
    kind = await find_kind(context, arguments.kind)
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
    ToolSpec(
        name="resource_get",
        title="Read one object",
        group="core",
        description="One object of any readable kind (never Secrets) as path: value lines.",
        arguments=ResourceGetArguments,
        output=ObjectOutput,
        access=Access.READ,
        rbac=(),
        run=_resource_get,
        uses=("resources_list",),
    ),
)
