"""What changed lately, the latest first. `runbooks.changes` finds it; who is to blame is for the diagnoses."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from cluster.facts.event import Event
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.facts.workload import ControllerRevision, DaemonSet, Deployment, Job, ReplicaSet, StatefulSet
from cluster.kinds import BY_NAME
from cluster.reference import ObjectRef
from cluster.timestamps import age
from mcp_server.arguments import ListArguments
from mcp_server.errors import ToolRefusal
from mcp_server.probe import find_kind, find_object, read_kinds
from mcp_server.registry import Access, Answer, Page, ToolContext, ToolSpec, rules_of
from mcp_server.result import Cell, TableOutput, render_table, request
from runbooks.changes import DEPLOYERS, Changed, changed
from runbooks.finding import Source, cite

KINDS = tuple(kind.kind for kind in (Deployment, StatefulSet, DaemonSet, ReplicaSet, ControllerRevision, Job, Pod, Node, Event))
COLUMNS = ("ago", "object", "what", "details", "evidence")
HOURS_LIMIT = 720


class ChangesListArguments(ListArguments):
    workload: Annotated[str | None, Field(description="KIND/NAME, in one namespace", max_length=300)] = None
    hours: Annotated[int, Field(ge=1, le=HOURS_LIMIT)] = 24


async def _changes_list(context: ToolContext, arguments: ChangesListArguments) -> Answer:
    about = await _about(context, arguments)
    read = await read_kinds(context, (*KINDS, *DEPLOYERS), arguments.namespace)
    asked, now = request("changes_list", context.reader.cluster, arguments), context.reader.now()

    def render() -> Page:
        found = changed(read.world(context, arguments.namespace), timedelta(hours=arguments.hours), about)
        where = str(about) if about else ", ".join(arguments.namespace) or "all namespaces"

        def cells(item: Changed) -> tuple[Cell, ...]:
            evidence = cite(Source.FIELD, item.object, item.what, item.details, item.at)
            ref = ObjectRef(item.object.kind, item.object.namespace, item.object.name)
            return (age(item.at, now), str(ref), item.what, item.details, evidence.id)

        return render_table(
            asked,
            headline=[
                f"{len(found)} changes of {where} in {arguments.hours} hours, the latest first; events expire, usually after an hour"
            ],
            columns=COLUMNS,
            items=(((-item.at.timestamp(), str(item.object), item.what, item.details), item) for item in found),
            cells=cells,
            missing=read.missing,
            untrusted=True,
        )

    return Answer(render, read.growth, read.cost)


async def _about(context: ToolContext, arguments: ChangesListArguments) -> ObjectRef | None:
    if arguments.workload is None:
        return None
    word, slash, name = arguments.workload.partition("/")
    if not slash or not name or len(arguments.namespace) != 1:
        raise ToolRefusal("argument 'workload' is KIND/NAME, such as Deployment/web, and needs one namespace")
    found, _ = await find_object(context, await find_kind(context, word), arguments.namespace[0], name)
    return found.ref


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="changes_list",
        title="List changes",
        group="core",
        description="What changed lately: revisions field by field, scalings, nodes, deploys; the latest first.",
        arguments=ChangesListArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=rules_of(BY_NAME[kind] for kind in (*KINDS, *DEPLOYERS)),
        run=_changes_list,
    ),
)
