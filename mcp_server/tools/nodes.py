"""Nodes: list them, worst first. What is wrong with one is `node_diagnose`'s to say."""

from __future__ import annotations

from collections import Counter, defaultdict

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.kinds import BY_NAME
from cluster.quantity import parse_quantity
from cluster.timestamps import age
from guardrails.accelerator import vendors_by_resource
from mcp_server.arguments import DEFAULT_ROWS, Arguments, Cursor, Limit
from mcp_server.probe import read_kinds
from mcp_server.registry import Access, Answer, Page, ToolContext, ToolSpec, rules_of
from mcp_server.result import Cell, Order, TableOutput, render_table, request
from mcp_server.tools.state import bad_conditions, state_of, troubled
from runbooks.finding import Source, cite
from runbooks.scheduling import requests_of

KINDS = (Node.kind, Pod.kind)
COLUMNS = ("node", "state", "says", "pods", "cpu requested", "memory requested", "accelerators", "taints", "age", "evidence")
TAINTS_SHOWN = 3
GIB = 2**30


class NodesListArguments(Arguments):
    problem_only: bool = False
    gpu_only: bool = False
    limit: Limit = DEFAULT_ROWS
    cursor: Cursor = None


async def _nodes_list(context: ToolContext, arguments: NodesListArguments) -> Answer:
    read = await read_kinds(context, KINDS)
    asked, now = request("nodes_list", context.reader.cluster, arguments), context.reader.now()

    def render() -> Page:
        world = read.world(context)
        nodes = world.all(Node)
        shown = [
            node for node in nodes if (not arguments.problem_only or troubled(node)) and (not arguments.gpu_only or accelerators(node))
        ]
        used: dict[str, Counter[str]] = defaultdict(Counter)
        for node in shown:
            for pod in world.pods_on(node.name):
                if not pod.finished:
                    used[node.name].update({"pods": 1, **requests_of(pod.spec)})

        def cells(node: Node) -> tuple[Cell, ...]:
            conditions = bad_conditions(node)
            says = "; ".join(f"{item.type}={item.status} {item.message or item.reason or ''}".strip() for item in conditions[:2])
            state, amounts = state_of(node), used[node.name]
            evidence = cite(Source.FIELD, node.ref, "status", f"{state}: {says}" if says else state)
            held = "; ".join(_held(node, name, amounts[name], count) for name, count in accelerators(node).items())
            taints = [f"{taint.key}:{taint.effect}" for taint in node.spec.taints or ()]
            more = f" and {len(taints) - TAINTS_SHOWN} more" if len(taints) > TAINTS_SHOWN else ""
            return (
                node.name,
                state,
                says,
                f"{amounts['pods']:g}/{node.allocatable('pods') or 0:g}",
                f"{amounts['cpu']:.3g}/{node.allocatable('cpu') or 0:g}",
                f"{amounts['memory'] / GIB:.4g}/{(node.allocatable('memory') or 0) / GIB:.4g} GiB",
                held,
                ", ".join(taints[:TAINTS_SHOWN]) + more,
                age(node.created, now),
                evidence.id,
            )

        return render_table(
            asked,
            headline=[f"{len(nodes)} nodes, {sum(map(troubled, nodes))} with problems; {len(shown)} match. Held/allocatable of each"],
            columns=COLUMNS,
            items=((_order(node), node) for node in shown),
            cells=cells,
            missing=read.missing,
            untrusted=True,
        )

    return Answer(render, read.growth, read.cost)


def accelerators(node: Node) -> dict[str, float]:
    """What the node offers to the scheduler, by resource; a resource that its plugin withdrew counts 0."""
    names = vendors_by_resource(node.status.capacity or {})
    return {name: parse_quantity((node.status.allocatable or {}).get(name)) or 0.0 for name in sorted(names)}


def _held(node: Node, resource: str, held: float, usable: float) -> str:
    whole = node.capacity(resource) or 0.0
    return f"{held:g}/{usable:g}{f' of {whole:g}' if whole != usable else ''} {resource}"


def _order(node: Node) -> Order:
    return (state_of(node) == "Ready", not troubled(node), node.name)


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="nodes_list",
        title="List nodes",
        group="core",
        description="Nodes with state, conditions, requests, accelerators and taints, worst first.",
        arguments=NodesListArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=rules_of(BY_NAME[kind] for kind in KINDS),
        run=_nodes_list,
    ),
)
