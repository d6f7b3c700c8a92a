"""Pods: list them, worst first. What is wrong with one is `pod_diagnose`'s to say; the status word here is kubectl's."""

from __future__ import annotations

from cluster.facts.container import ContainerStatus
from cluster.facts.meta import Fact
from cluster.facts.pod import Pod
from cluster.kinds import BY_NAME
from cluster.timestamps import age
from mcp_server.arguments import ListArguments, Name
from mcp_server.probe import list_kind, unknown_namespaces
from mcp_server.registry import Access, Answer, Growth, Page, RBACRule, ToolContext, ToolSpec
from mcp_server.result import Cell, Order, TableOutput, render_table, request
from runbooks.finding import Source, cite

POD_READ = RBACRule(("get", "list"), "", ("pods",))
COLUMNS = ("namespace", "pod", "status", "ready", "restarts", "age", "node", "message", "evidence")
# Words that are normal for a while; every other word of a pod that is not ready is worse.
TRANSIENT = frozenset({"ContainerCreating", "PodInitializing", "Pending", "Running", "Terminating"})
HEALTHY, QUIET, WAITING, BAD = 3, 2, 1, 0


class PodsListArguments(ListArguments):
    problem_only: bool = True
    node: Name | None = None


async def _pods_list(context: ToolContext, arguments: PodsListArguments) -> Answer:
    listing = await list_kind(context, BY_NAME[Pod.kind], arguments.namespace)
    note = "" if listing.read.facts else await unknown_namespaces(context, arguments.namespace)
    asked, now = request("pods_list", context.reader.cluster, arguments), context.reader.now()

    def render() -> Page:
        pods = [fact for fact in listing.read.facts if isinstance(fact, Pod)]
        bad = sum(severity(pod) < QUIET for pod in pods)
        shown = [
            pod
            for pod in pods
            if (not arguments.problem_only or severity(pod) < QUIET) and (arguments.node is None or pod.spec.node_name == arguments.node)
        ]
        where = ", ".join(arguments.namespace) or "all namespaces"
        headline = [f"{len(pods)} pods in {where}, {bad} with problems"]
        if note:
            headline.append(note)

        def cells(pod: Pod) -> tuple[Cell, ...]:
            word, message = status_word(pod), status_message(pod)
            evidence = cite(Source.FIELD, pod.ref, "status", f"{word}: {message}" if message else word)
            ready = f"{sum(status.ready for status in pod.status.container_statuses or ())}/{len(pod.spec.containers)}"
            restarts = sum(status.restart_count for status in pod.all_statuses)
            return (pod.namespace, pod.name, word, ready, restarts, age(pod.created, now), pod.spec.node_name, message, evidence.id)

        return render_table(
            asked,
            headline=headline,
            columns=COLUMNS,
            items=((_order(pod), pod) for pod in shown),
            cells=cells,
            missing=listing.missing,
            untrusted=True,
        )

    return Answer(render, Growth((listing.read,)), listing.cost)


def status_word(pod: Pod) -> str:
    """The STATUS column of `kubectl get pods` (pkg/printers/internalversion, printPod), as far as facts go."""
    if pod.deleting:
        return "Terminating"
    for status in pod.status.init_container_statuses or ():
        container = pod.container(status.name)
        if container is not None and container.is_sidecar and status.started:
            continue
        ended = status.state.terminated
        if ended is not None and ended.exit_code == 0:
            continue
        if ended is not None:
            return f"Init:{ended.reason or f'ExitCode:{ended.exit_code}'}"
        if status.state.waiting is not None and status.state.waiting.reason not in (None, "PodInitializing"):
            return f"Init:{status.state.waiting.reason}"
    for status in pod.status.container_statuses or ():
        if status.state.waiting is not None and status.state.waiting.reason:
            return status.state.waiting.reason
        ended = status.state.terminated
        if ended is not None and (ended.exit_code != 0 or not pod.finished):
            return ended.reason or f"ExitCode:{ended.exit_code}"
    return pod.status.reason or ("Completed" if pod.status.phase == "Succeeded" else pod.status.phase)


def status_message(pod: Pod) -> str:
    """The first message that says why a pod is as it is, and how its last run ended."""
    for status in pod.all_statuses:
        text = _container_message(status)
        if text:
            return text
    for condition in pod.status.conditions or ():
        if condition.status == "False" and condition.message and not pod.finished:
            return condition.message
    return pod.status.message or ""


def _container_message(status: ContainerStatus) -> str:
    said = [status.state.waiting.message] if status.state.waiting and status.state.waiting.message else []
    ended = status.state.terminated or status.last_state.terminated
    if ended is not None and ended.exit_code != 0:
        said.append(f"{status.name} exited with {ended.exit_code}{f' ({ended.reason})' if ended.reason else ''}")
        if ended.message:
            said.append(ended.message)
    return "; ".join(said)


def severity(pod: Pod) -> int:
    """BAD (0) to HEALTHY (3), for order only: what needs a person comes first."""
    if pod.status.phase == "Succeeded":
        return HEALTHY
    word = status_word(pod)
    if pod.ready:
        return QUIET if sum(status.restart_count for status in pod.all_statuses) else HEALTHY
    return WAITING if word in TRANSIENT else BAD


def _order(pod: Pod) -> Order:
    restarts = sum(status.restart_count for status in pod.all_statuses)
    return (severity(pod), -restarts, pod.namespace or "", pod.name)


def pods_of(facts: tuple[Fact, ...]) -> tuple[Pod, ...]:
    """The pods among some facts, worst first."""
    return tuple(sorted((fact for fact in facts if isinstance(fact, Pod)), key=_order))


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="pods_list",
        title="List pods",
        group="core",
        description="Pods with status, restarts, node and last message, worst first. By default only those with problems.",
        arguments=PodsListArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=(POD_READ,),
        run=_pods_list,
    ),
)
