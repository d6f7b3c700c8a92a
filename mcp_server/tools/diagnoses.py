"""Tools that run an investigation of one pod, one workload or a question, through the port to the agent. They find nothing themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.kinds import BY_NAME
from cluster.reading import Cost
from cluster.reference import ObjectRef, Scope
from mcp_server.arguments import Arguments, Name, Namespace, Namespaces
from mcp_server.diagnosis import Beside, Detail, DiagnosisOutput, diagnosis_page
from mcp_server.errors import ToolRefusal
from mcp_server.probe import find_kind, find_object, read_kinds, unknown_namespaces
from mcp_server.registry import Access, Answer, Growth, Investigated, ToolContext, ToolSpec
from mcp_server.tools.pods import QUIET, severity, status_message, status_word
from mcp_server.tools.state import state_of
from runbooks.backends import backends

QUESTION_LIMIT = 2_000
# What the agent reads with.
USES = ("pods_list", "events_list", "logs_search", "resources_list", "telemetry_list")
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob")
NETWORK_KINDS = ("Service", "EndpointSlice", "Endpoints", "Ingress", "HTTPRoute", "Gateway", "Pod")
BACKEND_COLUMNS = ("via", "service", "ports", "exists", "pods selected", "ready addresses", "not ready")
_WORDS = {True: "yes", False: "no", None: "not seen"}
Question = Annotated[str, Field(min_length=1, max_length=QUESTION_LIMIT)]


class PodDiagnoseArguments(Arguments):
    namespace: Namespace
    name: Name
    detail: Detail = "summary"


class WorkloadDiagnoseArguments(Arguments):
    kind: Annotated[str, Field(description="Deployment, StatefulSet, DaemonSet, Job, CronJob")]
    namespace: Namespace
    name: Name
    detail: Detail = "summary"


class InvestigateArguments(Arguments):
    question: Question
    namespace: Namespaces = ()
    detail: Detail = "summary"


class NodeDiagnoseArguments(Arguments):
    name: Name
    detail: Detail = "summary"


class NetworkDiagnoseArguments(Arguments):
    kind: Literal["Service", "Ingress", "HTTPRoute", "Gateway"] = "Service"
    namespace: Namespace
    name: Name
    detail: Detail = "summary"


async def run_investigation(context: ToolContext, scope: Scope, question: str | None) -> Investigated:
    """What the agent finds in a scope. Raises ToolRefusal where nothing fills the port."""
    if context.ports is None:
        raise ToolRefusal("investigations are not available to this caller; use pods_list, events_list and logs_search")
    return await context.ports.investigate(scope, question, context.progress or _silent)


async def _pod_diagnose(context: ToolContext, arguments: PodDiagnoseArguments) -> Answer:
    pod, cost = await find_object(context, BY_NAME[Pod.kind], arguments.namespace, arguments.name)
    return await _about(context, pod.ref, cost, arguments.detail)


async def _workload_diagnose(context: ToolContext, arguments: WorkloadDiagnoseArguments) -> Answer:
    kind = await find_kind(context, arguments.kind)
    if kind.name not in WORKLOADS:
        raise ToolRefusal(f"a {kind.name} is no workload; workload kinds: {', '.join(WORKLOADS)}. investigate answers about other objects")
    workload, cost = await find_object(context, kind, arguments.namespace, arguments.name)
    return await _about(context, workload.ref, cost, arguments.detail)


async def _about(context: ToolContext, ref: ObjectRef, cost: Cost, detail: Detail) -> Answer:
    return await diagnosed(context, ref, f"What is wrong with {ref.kind} {ref.name}?", detail, cost=cost)


async def diagnosed(
    context: ToolContext,
    ref: ObjectRef,
    question: str,
    detail: Detail,
    beside: Callable[[], Beside] | None = None,
    *,
    growth: Growth | None = None,
    cost: Cost | None = None,
) -> Answer:
    """The answer of an investigation about one object, with a table beside it that is made when somebody reads the answer."""
    scope = Scope(context.reader.cluster, (ref.namespace,) if ref.namespace else (), ref)
    found = await run_investigation(context, scope, question)
    spent = found.diagnosis.cost + (cost or Cost())
    return Answer(lambda: diagnosis_page(found, detail, beside() if beside else None), growth or Growth(), spent)


async def _node_diagnose(context: ToolContext, arguments: NodeDiagnoseArguments) -> Answer:
    node, _ = await find_object(context, BY_NAME[Node.kind], None, arguments.name)
    read = await read_kinds(context, (Pod.kind, Node.kind))

    def beside() -> Beside:
        pods = sorted(read.world(context).pods_on(node.name), key=lambda pod: (severity(pod), pod.namespace or "", pod.name))
        rows = tuple((pod.namespace, pod.name, status_word(pod), status_message(pod)) for pod in pods if severity(pod) < QUIET)
        title = f"{node.ref}: {state_of(node)}, {len(pods)} pods, {len(rows)} of them with problems"
        return Beside(title, ("namespace", "pod", "status", "says"), rows, read.missing)

    question = f"What is wrong with node {node.name}?"
    return await diagnosed(context, node.ref, question, arguments.detail, beside, growth=read.growth, cost=read.cost)


async def _network_diagnose(context: ToolContext, arguments: NetworkDiagnoseArguments) -> Answer:
    found, _ = await find_object(context, BY_NAME[arguments.kind], arguments.namespace, arguments.name)
    read = await read_kinds(context, NETWORK_KINDS, (arguments.namespace,))

    def beside() -> Beside:
        ways = backends(read.world(context, (arguments.namespace,)), found.ref)
        rows = tuple((way.via, str(way.service), way.ports, _WORDS[way.exists], way.pods, way.ready, way.not_ready) for way in ways)
        return Beside(f"{len(ways)} ways in:" if ways else "it leads to no Service that can be seen", BACKEND_COLUMNS, rows, read.missing)

    question = f"What is wrong with {found.ref.kind} {found.name}?"
    return await diagnosed(context, found.ref, question, arguments.detail, beside, growth=read.growth, cost=read.cost)


async def _investigate(context: ToolContext, arguments: InvestigateArguments) -> Answer:
    absent = await unknown_namespaces(context, arguments.namespace)
    if absent:
        raise ToolRefusal(absent)
    found = await run_investigation(context, Scope(context.reader.cluster, arguments.namespace), arguments.question)
    return Answer(partial(diagnosis_page, found, arguments.detail), cost=found.diagnosis.cost)


async def _silent(message: str) -> None:
    """Progress that nobody follows."""


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="pod_diagnose",
        title="Diagnose a pod",
        group="core",
        description="Why a pod does not work: root causes with evidence, what they explain, what could be proposed, what is not proven.",
        arguments=PodDiagnoseArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=(),
        run=_pod_diagnose,
        uses=USES,
    ),
    ToolSpec(
        name="workload_diagnose",
        title="Diagnose a workload",
        group="core",
        description="Why a Deployment, StatefulSet, DaemonSet, Job or CronJob does not work: its rollout, pods, quota and dependencies.",
        arguments=WorkloadDiagnoseArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=(),
        run=_workload_diagnose,
        uses=USES,
    ),
    ToolSpec(
        name="node_diagnose",
        title="Diagnose a node",
        group="core",
        description="Why a node or its pods do not work: root causes with evidence, and its pods with problems.",
        arguments=NodeDiagnoseArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=(),
        run=_node_diagnose,
        uses=USES,
    ),
    ToolSpec(
        name="network_diagnose",
        title="Diagnose a Service or route",
        group="core",
        description="Why a Service, Ingress or route does not answer: root causes, and its backends with ready addresses.",
        arguments=NetworkDiagnoseArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=(),
        run=_network_diagnose,
        uses=USES,
    ),
    ToolSpec(
        name="investigate",
        title="Investigate a question",
        group="core",
        description="Answers a question about the cluster, such as an alert's text: reads what it needs, returns causes with evidence.",
        arguments=InvestigateArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=(),
        run=_investigate,
        uses=USES,
    ),
)
