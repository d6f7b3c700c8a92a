"""Why a pod has no node: the diagnosis, and what keeps it off each node. The evaluation is `runbooks.scheduling`'s."""

from __future__ import annotations

from collections import defaultdict

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolume, PersistentVolumeClaim
from cluster.kinds import BY_NAME
from cluster.reference import Scope
from cluster.world import World
from mcp_server.arguments import NAMES_SHOWN
from mcp_server.diagnosis import Beside, DiagnosisOutput, diagnosis_page
from mcp_server.errors import ToolRefusal
from mcp_server.probe import find_object, list_kind
from mcp_server.registry import Access, Answer, Growth, KindRead, Page, ToolContext, ToolSpec
from mcp_server.result import cell
from mcp_server.tools.diagnoses import USES, PodDiagnoseArguments, run_investigation
from runbooks.scheduling import Usage


async def _scheduling_explain(context: ToolContext, arguments: PodDiagnoseArguments) -> Answer:
    pod, cost = await find_object(context, BY_NAME[Pod.kind], arguments.namespace, arguments.name)
    assert isinstance(pod, Pod)
    if pod.spec.node_name:
        raise ToolRefusal(f"{pod.ref} is on node {pod.spec.node_name} already; pod_diagnose says why it does not work there")
    reads: list[KindRead] = []
    for kind in (Node.kind, Pod.kind, PersistentVolumeClaim.kind, PersistentVolume.kind):
        # Pods of every namespace: what they request is what a node has no more.
        listing = await list_kind(context, BY_NAME[kind])
        reads.append(listing.read)
        cost += listing.cost
    scope = Scope(context.reader.cluster, (arguments.namespace,), pod.ref)
    found = await run_investigation(context, scope, f"Why is pod {pod.name} not scheduled?")
    growth = Growth(tuple(reads))

    def render() -> Page:
        world = growth.grow(World(context.reader.cluster, context.reader.now(), Scope(context.reader.cluster)))
        nodes = len(world.all(Node))
        title = f"{nodes} nodes, by what keeps the pod off them:" if nodes else "no nodes could be read"
        missing = tuple(item for read in reads for item in read.missing)
        beside = Beside(title, ("nodes", "kept off by", "such as"), tuple(obstacles(world, pod)), missing)
        return diagnosis_page(found, arguments.detail, beside)

    return Answer(render, growth, cost + found.diagnosis.cost)


def obstacles(world: World, pod: Pod) -> list[tuple[str, str, str]]:
    """(number of nodes, what keeps the pod off them, some of their names), fewest obstacles first, then most nodes."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for node, hurdles in world.once(Usage).hurdles(pod).items():
        reasons = (f"{hurdle.obstacle.value}: {hurdle.detail}" if hurdle.detail else hurdle.obstacle.value for hurdle in hurdles)
        groups[tuple(reasons)].append(node)
    ordered = sorted(groups.items(), key=lambda item: (len(item[0]), -len(item[1]), item[0]))
    return [
        (str(len(names)), cell("; ".join(reasons) or "nothing that can be seen"), cell(", ".join(sorted(names)[:NAMES_SHOWN])))
        for reasons, names in ordered
    ]


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="scheduling_explain",
        title="Explain why a pod is not scheduled",
        group="core",
        description="Why a pending pod has no node: root causes with evidence, and nodes grouped by everything that keeps it off.",
        arguments=PodDiagnoseArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=(),
        run=_scheduling_explain,
        uses=USES,
    ),
)
