"""Accelerators of one node or pod: who holds which by which way, and how healthy they are. `runbooks` reckons and the agent diagnoses."""

from __future__ import annotations

from cluster.facts.meta import Fact
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.kinds import BY_NAME
from mcp_server.arguments import DEFAULT_ROWS, Arguments, Cursor, Limit, Name, Namespace
from mcp_server.diagnosis import Beside, Detail, DiagnosisOutput
from mcp_server.errors import ToolRefusal
from mcp_server.probe import find_object
from mcp_server.registry import Access, Answer, Page, ToolContext, ToolSpec
from mcp_server.result import Cell, Order, TableOutput, render_table, request
from mcp_server.tools.diagnoses import USES, diagnosed
from mcp_server.tools.gpus import DEVICES_READ, notes_of, order, place_of, read_devices, state_of, why
from runbooks.allocations import Allocation, allocations
from runbooks.finding import Source, cite
from runbooks.inventory import inventory, notes

ALLOCATION_COLUMNS = ("node", "resource", "count", "by", "pod", "workload", "devices", "sick", "evidence")
HEALTH_COLUMNS = ("node", "resource", "model", "state", "total", "held", "free", "sick", "says")
DEVICES_SHOWN = 8


class _About(Arguments):
    """A node, or a pod of a namespace."""

    node: Name | None = None
    namespace: Namespace | None = None
    pod: Name | None = None


class GpuAllocationArguments(_About):
    limit: Limit = DEFAULT_ROWS
    cursor: Cursor = None


class GpuHealthArguments(_About):
    detail: Detail = "summary"


async def _gpu_allocation(context: ToolContext, arguments: GpuAllocationArguments) -> Answer:
    about = await _about(context, arguments)
    read = await read_devices(context)
    asked = request("gpu_allocation", context.reader.cluster, arguments)

    def render() -> Page:
        found = [
            item
            for item in allocations(read.world(context))
            if about is None or item.pod.key == about.key or (isinstance(about, Node) and item.node == about.name)
        ]

        def cells(item: Allocation) -> tuple[Cell, ...]:
            more = f" and {len(item.devices) - DEVICES_SHOWN} more" if len(item.devices) > DEVICES_SHOWN else ""
            devices = ", ".join(item.devices[:DEVICES_SHOWN]) + more
            evidence = cite(Source.FIELD, item.pod, item.resource, f"{item.count} by {item.way} on {item.node}: {devices}")
            sick = ", ".join(item.sick[:DEVICES_SHOWN])
            named = (f"{item.pod.namespace}/{item.pod.name}", str(item.workload))
            return (item.node, item.resource, item.count, item.way, *named, devices, sick, evidence.id)

        pods = {item.pod.key for item in found}
        # Pods of one claim share its devices.
        held = sum({(item.node, item.resource, item.claim or item.pod.key): item.count for item in found}.values())
        return render_table(
            asked,
            headline=[f"{held} accelerators held by {len(pods)} pods{f' of {about.ref}' if about else ''}"],
            columns=ALLOCATION_COLUMNS,
            items=((_order(item), item) for item in found),
            cells=cells,
            missing=read.missing,
            untrusted=True,
        )

    return Answer(render, read.growth, read.cost)


async def _gpu_health(context: ToolContext, arguments: GpuHealthArguments) -> Answer:
    about = await _about(context, arguments)
    if about is None:
        raise ToolRefusal("gpu_health is about one node, or one pod of a namespace; gpu_inventory lists those of the whole cluster")
    read = await read_devices(context)
    node = about.name if isinstance(about, Node) else getattr(getattr(about, "spec", None), "node_name", None)

    def beside() -> Beside:
        world = read.world(context)
        offers = [offer for offer in world.once(inventory) if offer.node == node]
        said = notes_of(offers, notes(world))
        rows = tuple(
            (
                *(offer.node, offer.resource, offer.model, state_of(offer, said), offer.capacity, offer.held),
                *("?" if offer.overlapping else offer.free, offer.sick, why(offer, said.get(place_of(offer), ()))),
            )
            for offer in sorted(offers, key=lambda offer: order(offer, said))
        )
        place = f"node {node}" if node else f"{about.ref} (it has no node yet)"
        title = f"accelerators of {place}:" if rows else f"no accelerator of {place} can be seen"
        return Beside(title, HEALTH_COLUMNS, rows, read.missing)

    question = f"Are the accelerators of {about.ref.kind} {about.name} healthy?"
    return await diagnosed(context, about.ref, question, arguments.detail, beside, growth=read.growth, cost=read.cost)


async def _about(context: ToolContext, arguments: _About) -> Fact | None:
    if arguments.node is not None and arguments.pod is not None:
        raise ToolRefusal("give node, or namespace and pod, not both")
    if arguments.node is not None:
        return (await find_object(context, BY_NAME[Node.kind], None, arguments.node))[0]
    if arguments.pod is not None:
        return (await find_object(context, BY_NAME[Pod.kind], arguments.namespace, arguments.pod))[0]
    return None


def _order(item: Allocation) -> Order:
    return (not item.sick, item.node, item.resource, item.pod.namespace or "", item.pod.name, item.way)


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="gpu_allocation",
        title="List who holds accelerators",
        group="gpu",
        description="Accelerators pod by pod: device plugin, MIG, shared or claim, with devices. Of all, a node or a pod.",
        arguments=GpuAllocationArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=DEVICES_READ,
        run=_gpu_allocation,
    ),
    ToolSpec(
        name="gpu_health",
        title="Diagnose accelerators",
        group="gpu",
        description="Whether a node's or pod's accelerators are healthy: XID, ECC, heat, links, driver, plugin; causes with evidence.",
        arguments=GpuHealthArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=DEVICES_READ,
        run=_gpu_health,
        uses=USES,
    ),
)
