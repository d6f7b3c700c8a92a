"""Tools that run an investigation of one pod, one workload or a question, through the port to the agent. They find nothing themselves."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from cluster.facts.pod import Pod
from cluster.kinds import BY_NAME
from cluster.reading import Cost
from cluster.reference import ObjectRef, Scope
from mcp_server.arguments import Arguments, Name, Namespace, Namespaces
from mcp_server.diagnosis import Detail, DiagnosisOutput, diagnosis_page
from mcp_server.errors import ToolRefusal
from mcp_server.probe import find_kind, find_object, unknown_namespaces
from mcp_server.registry import Access, Answer, Investigated, ToolContext, ToolSpec

QUESTION_LIMIT = 2_000
# What the agent reads with.
USES = ("pods_list", "events_list", "logs_search", "resources_list", "telemetry_list")
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob")
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
    scope = Scope(context.reader.cluster, (ref.namespace,) if ref.namespace else (), ref)
    found = await run_investigation(context, scope, f"What is wrong with {ref.kind} {ref.name}?")
    return Answer(partial(diagnosis_page, found, detail), cost=cost + found.diagnosis.cost)


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
