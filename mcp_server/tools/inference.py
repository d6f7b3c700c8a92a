"""Model servers: all of them in one list, and why one is broken or slow. `runbooks.modelservers` knows what serves; the agent diagnoses."""

from __future__ import annotations

from cluster.kinds import BY_NAME
from mcp_server.arguments import Arguments, ListArguments, Name, Namespace
from mcp_server.diagnosis import Beside, Detail, DiagnosisOutput
from mcp_server.ownership import kinds_of
from mcp_server.probe import Read, named_or_refused, read_kinds
from mcp_server.registry import Access, Answer, Page, ToolContext, ToolSpec, rules_of
from mcp_server.result import Cell, Order, TableOutput, render_table, request
from mcp_server.tools.diagnoses import USES, diagnosed
from runbooks.finding import Source, cite
from runbooks.modelservers import ModelServer, model_servers
from runbooks.scheduling import amount_text

CUSTOM = tuple(kind.name for kind in kinds_of("inference"))
# What owns the pods of a model server, so that one row stands for a model.
PLAIN = ("Pod", "Deployment", "ReplicaSet", "StatefulSet", "Node", "RayService", "RayCluster")
# What people call a model, the outermost first.
NAMED = ("InferenceService", "LLMInferenceService", "RayService", "InferencePool", "LeaderWorkerSet", "Deployment", "StatefulSet", "Pod")
COLUMNS = (
    *("namespace", "name", "kind", "engine", "ready", "per replica", "on"),
    *("waiting", "KV cache", "first token p95", "adapters", "evidence"),
)


class InferenceDiagnoseArguments(Arguments):
    namespace: Namespace
    name: Name
    detail: Detail = "summary"


async def _read(context: ToolContext, namespaces: tuple[str, ...]) -> Read:
    return await read_kinds(context, (*PLAIN, *CUSTOM), namespaces, telemetry=True)


async def _inference_list(context: ToolContext, arguments: ListArguments) -> Answer:
    read = await _read(context, arguments.namespace)
    asked = request("inference_list", context.reader.cluster, arguments)

    def render() -> Page:
        found = model_servers(read.world(context, arguments.namespace))
        where = ", ".join(arguments.namespace) or "all namespaces"
        lacking = sum(not item.whole for item in found)
        return render_table(
            asked,
            headline=[f"{len(found)} model servers in {where}, {lacking} lack replicas; load where metrics show it"],
            columns=COLUMNS,
            items=((_order(item), item) for item in found),
            cells=cells,
            missing=read.missing,
            untrusted=True,
        )

    return Answer(render, read.growth, read.cost)


def cells(item: ModelServer) -> tuple[Cell, ...]:
    """A model server as a row."""
    ready = f"{item.ready}/{item.wanted}"
    asks = ", ".join(amount_text(name, count) for name, count in item.accelerators)
    load = (
        f"{item.waiting:g}" if item.waiting is not None else "",
        f"{item.cache:.0%}" if item.cache is not None else "",
        f"{item.first_token_seconds:.3g} s" if item.first_token_seconds is not None else "",
        item.adapters.text if item.adapters is not None else "",
    )
    evidence = cite(Source.FIELD, item.workload, "pods", f"ready {ready}; {item.engine}; {'; '.join(load)}")
    place = (item.workload.namespace, item.workload.name, item.workload.kind)
    return (*place, item.engine, ready, asks, ", ".join(item.models), *load, evidence.id)


def _order(item: ModelServer) -> Order:
    return (item.whole, -(item.waiting or 0.0), item.workload.namespace or "", item.workload.kind, item.workload.name)


async def _inference_diagnose(context: ToolContext, arguments: InferenceDiagnoseArguments) -> Answer:
    named = await named_or_refused(context, arguments.namespace, arguments.name, NAMED)
    read = await _read(context, (arguments.namespace,))

    def beside() -> Beside:
        world = read.world(context, (arguments.namespace,))
        tops = {named.subject.key, world.top_owner(named.subject).key}
        rows = tuple(cells(item) for item in model_servers(world) if item.workload.key in tops)
        title = f"{named.subject} serves:" if rows else f"no model server of {named.subject} can be seen by its image or command"
        return Beside(title, COLUMNS, rows, read.missing)

    question = f"Why is model {arguments.name} broken or slow?"
    return await diagnosed(context, named.subject, question, arguments.detail, beside, growth=read.growth, cost=read.cost)


READ = rules_of((*(BY_NAME[kind] for kind in PLAIN if kind in BY_NAME), *kinds_of("inference")))
TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="inference_list",
        title="List model servers",
        group="inference",
        description="Model servers with engine, replicas, devices and load, those that lack replicas first.",
        arguments=ListArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=READ,
        run=_inference_list,
    ),
    ToolSpec(
        name="inference_diagnose",
        title="Diagnose a model server",
        group="inference",
        description="Why a model does not load, is slow or saturated: queue, KV cache, prefill, routing, scaling; by its name.",
        arguments=InferenceDiagnoseArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=READ,
        run=_inference_diagnose,
        uses=USES,
    ),
)
