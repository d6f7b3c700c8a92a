"""The first look: how much there is, how much of it is in trouble, and the troubled objects, nodes and workloads before pods."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from cluster.facts.event import Event
from cluster.facts.meta import Fact
from cluster.facts.node import Namespace, Node
from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolumeClaim
from cluster.facts.workload import DaemonSet, Deployment, Job, StatefulSet
from cluster.kinds import BY_NAME
from cluster.quantity import parse_quantity
from cluster.reading import Cost
from cluster.timestamps import age
from mcp_server.arguments import ListArguments
from mcp_server.probe import list_kind, together
from mcp_server.registry import Access, Answer, Growth, Page, RBACRule, ToolContext, ToolSpec
from mcp_server.result import Cell, TableOutput, render_table, request
from mcp_server.tools.pods import status_message
from mcp_server.tools.state import bad_conditions, state_of, troubled
from runbooks.finding import Source, cite

# Troubled objects are shown in this order: what breaks most comes first.
KINDS: tuple[type[Fact], ...] = (Node, Deployment, StatefulSet, DaemonSet, Job, PersistentVolumeClaim, Pod)
COUNTED: tuple[type[Fact], ...] = (*KINDS, Namespace, Event)
COLUMNS = ("kind", "namespace", "name", "state", "says", "age", "evidence")
SHOWN = 5
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}")


async def _cluster_overview(context: ToolContext, arguments: ListArguments) -> Answer:
    listings = await together(list_kind(context, BY_NAME[fact.kind], arguments.namespace) for fact in COUNTED)
    asked, now = request("cluster_overview", context.reader.cluster, arguments), context.reader.now()
    cost = sum((listing.cost for listing in listings), Cost())

    def render() -> Page:
        facts = {listing.read.kind: listing.read.facts for listing in listings}
        broken = {(fact.kind, fact.namespace, fact.name) for kind in KINDS for fact in facts[kind.kind] if troubled(fact)}
        items = [
            ((rank, fact.namespace or "", fact.name), fact)
            for rank, kind in enumerate(KINDS)
            for fact in facts[kind.kind]
            if (fact.kind, fact.namespace, fact.name) in broken and not (isinstance(fact, Pod) and _workload_of(fact) in broken)
        ]

        def cells(fact: Fact) -> tuple[Cell, ...]:
            state, said = state_of(fact), _said(fact)
            evidence = cite(Source.FIELD, fact.ref, "status", f"{state}: {said}" if said else state)
            return (fact.kind, fact.namespace, fact.name, state, said, age(fact.created, now), evidence.id)

        return render_table(
            asked,
            headline=_headline(context.reader.cluster, arguments.namespace, facts),
            columns=COLUMNS,
            items=items,
            cells=cells,
            missing=tuple(item for listing in listings for item in listing.missing),
            untrusted=True,
        )

    return Answer(render, Growth(tuple(listing.read for listing in listings)), cost)


def _headline(cluster: str, namespaces: tuple[str, ...], facts: dict[str, tuple[Fact, ...]]) -> list[str]:
    where = f"{cluster}, {', '.join(namespaces)}" if namespaces else f"{cluster}, {len(facts[Namespace.kind])} namespaces"
    counts = ", ".join(_count(kind, facts[kind.kind]) for kind in KINDS if facts[kind.kind])
    lines = [f"{where}: {counts or 'nothing that can be read'}"]
    bad = Counter(fact.namespace for fact in facts[Pod.kind] if troubled(fact))
    if len(bad) > 1:
        lines.append("pods with problems by namespace: " + ", ".join(f"{name} {count}" for name, count in bad.most_common(SHOWN)))
    devices = _devices(facts[Node.kind])
    if devices:
        lines.append(f"devices, allocatable/capacity: {devices}")
    # A reason is a word; whoever may write events can write more, and this line stands outside the fence.
    warned = (event.reason for event in facts[Event.kind] if isinstance(event, Event) and event.warning)
    reasons = Counter(reason if _REASON.fullmatch(reason) else "(no word)" for reason in warned)
    if reasons:
        lines.append("warning events: " + ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(SHOWN)))
    return lines


def _count(kind: type[Fact], facts: tuple[Fact, ...]) -> str:
    bad = sum(troubled(fact) for fact in facts)
    return f"{len(facts)} {BY_NAME[kind.kind].plural}" + (f" ({bad} with problems)" if bad else "")


def _devices(nodes: Iterable[Fact]) -> str:
    """Extended resources over all nodes. A device whose plugin is gone has capacity and nothing allocatable."""
    capacity: Counter[str] = Counter()
    allocatable: Counter[str] = Counter()
    for node in nodes:
        if isinstance(node, Node):
            for resource, quantity in (node.status.capacity or {}).items():
                # Extended resources are the ones with a domain; hugepages and attachable volumes have none.
                if "/" in resource:
                    capacity[resource] += int(parse_quantity(quantity) or 0)
                    allocatable[resource] += int(parse_quantity((node.status.allocatable or {}).get(resource)) or 0)
    return ", ".join(f"{resource} {allocatable[resource]}/{count}" for resource, count in sorted(capacity.items())[:SHOWN] if count)


def _workload_of(pod: Pod) -> tuple[str, str | None, str]:
    """The workload whose row stands for the pod's, when that is in trouble."""
    owner = pod.controller
    if owner is None:
        return ("", pod.namespace, pod.name)
    # The name of a Deployment's ReplicaSet is the Deployment's and the hash of the template.
    if owner.kind == "ReplicaSet":
        return (Deployment.kind, pod.namespace, owner.name.rpartition("-")[0])
    return (owner.kind, pod.namespace, owner.name)


def _said(fact: Fact) -> str:
    if isinstance(fact, Pod):
        return status_message(fact)
    return "; ".join(f"{item.type}={item.status} {item.message or item.reason or ''}".strip() for item in bad_conditions(fact)[:2])


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="cluster_overview",
        title="Look over the cluster",
        group="core",
        description="Start here. Counts, devices and warning events of the cluster or some namespaces, then the troubled objects.",
        arguments=ListArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=(
            RBACRule(("get", "list"), "", ("nodes", "namespaces", "pods", "events", "persistentvolumeclaims")),
            RBACRule(("get", "list"), "apps", ("deployments", "statefulsets", "daemonsets")),
            RBACRule(("get", "list"), "batch", ("jobs",)),
        ),
        run=_cluster_overview,
    ),
)
