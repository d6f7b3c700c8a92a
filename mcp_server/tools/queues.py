"""Queues of batch work: what each may use and uses, and why a workload is not admitted. `runbooks.quotas` reads; the agent diagnoses."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.kinds import BY_NAME
from cluster.world import Key, World
from mcp_server.arguments import DEFAULT_ROWS, Arguments, Cursor, Limit, Name, Namespace, nearest
from mcp_server.diagnosis import Beside, Detail, DiagnosisOutput
from mcp_server.errors import ToolRefusal
from mcp_server.ownership import kinds_of
from mcp_server.probe import named_or_refused, read_kinds
from mcp_server.registry import Access, Answer, Page, ToolContext, ToolSpec, rules_of
from mcp_server.result import Cell, Order, TableOutput, render_table, request
from mcp_server.tools.diagnoses import USES, diagnosed
from runbooks.finding import Source, cite
from runbooks.quotas import WORKLOAD, QueueState, Quota, Waiting, queues, waiting
from runbooks.ranks import TRAINING_KINDS
from runbooks.scheduling import amount_text

KINDS = tuple(kind.name for kind in kinds_of("queueing"))
COLUMNS = ("queue", "flavor", "resource", "used", "nominal", "borrowed", "pending", "admitted", "says", "evidence")
WAITING_COLUMNS = ("workload", "of", "queue", "cluster queue", "wants", "says")
NO_QUOTA = Quota("", "", 0.0, None)


class QueueStatusArguments(Arguments):
    queue: Name | None = None
    limit: Limit = DEFAULT_ROWS
    cursor: Cursor = None


class QueueExplainArguments(Arguments):
    namespace: Namespace
    workload: Name
    detail: Detail = "summary"


async def _queue_status(context: ToolContext, arguments: QueueStatusArguments) -> Answer:
    read = await read_kinds(context, KINDS)
    asked = request("queue_status", context.reader.cluster, arguments)
    every = queues(read.world(context))
    chosen = tuple(item for item in every if arguments.queue is None or arguments.queue in (item.ref.name, *(f.name for f in item.feeders)))
    if arguments.queue is not None and not chosen and not read.missing:
        names = {item.ref.name for item in every} | {feeder.name for item in every for feeder in item.feeders}
        raise ToolRefusal(f"there is no queue {arguments.queue!r}; {nearest(arguments.queue, names, 'queues')}")

    def render() -> Page:
        pending, stopped = sum(item.pending for item in chosen), sum(bool(item.inactive) for item in chosen)
        held = [item for item in waiting(read.world(context)) if not item.admitted]
        stopping = f", {stopped} admit nothing" if stopped else ""
        return render_table(
            asked,
            headline=[
                f"{len(chosen)} queues, {pending} workloads pending{stopping}; {len(held)} workloads not admitted: queue_explain says why"
            ],
            columns=COLUMNS,
            items=((_order(queue, quota), (queue, quota)) for queue in chosen for quota in queue.quotas or (NO_QUOTA,)),
            cells=lambda row: cells(*row),
            missing=read.missing,
            untrusted=True,
        )

    return Answer(render, read.growth, read.cost)


def cells(queue: QueueState, quota: Quota) -> tuple[Cell, ...]:
    """One resource of one queue as a row."""
    used, nominal, borrowed = (
        "" if value is None or not quota.resource else amount_text(quota.resource, value).removesuffix(quota.resource).strip()
        for value in (quota.used, quota.nominal, quota.borrowed)
    )
    evidence = cite(
        Source.FIELD, queue.ref, f"status {quota.flavor} {quota.resource}", f"{used} of {nominal}, borrowed {borrowed}; {queue.inactive}"
    )
    limit = f", may borrow {quota.borrowing_limit:g}" if quota.borrowing_limit is not None else ""
    says = queue.inactive or (f"cohort {queue.cohort}{limit}" if queue.cohort else "")
    counts = (queue.pending, queue.admitted)
    return (queue.ref.name, quota.flavor, quota.resource, used, nominal, borrowed, *counts, says, evidence.id)


def _order(queue: QueueState, quota: Quota) -> Order:
    return (not queue.inactive, -queue.pending, queue.ref.name, not quota.full, quota.flavor, quota.resource)


async def _queue_explain(context: ToolContext, arguments: QueueExplainArguments) -> Answer:
    named = await named_or_refused(context, arguments.namespace, arguments.workload, (*TRAINING_KINDS, WORKLOAD))
    read = await read_kinds(context, (*KINDS, *TRAINING_KINDS))

    def beside() -> Beside:
        rows = tuple(_waiting(read.world(context), named.subject.key))
        title = f"{named.subject} in its queue:" if rows else f"no queue has a workload of {named.subject}"
        return Beside(title, WAITING_COLUMNS, rows, read.missing)

    question = f"Why is {arguments.workload} not admitted by its queue?"
    return await diagnosed(context, named.subject, question, arguments.detail, beside, growth=read.growth, cost=read.cost)


def _waiting(world: World, key: Key) -> Iterator[tuple[Cell, ...]]:
    for item in waiting(world):
        if key in (item.workload.key, item.owner.key, *(ref.key for ref in world.owner_chain(item.workload))):
            yield _row(item)


def _row(item: Waiting) -> tuple[Cell, ...]:
    wants = ", ".join(amount_text(name, value) for name, value in item.wants)
    says = "admitted" if item.admitted else item.says
    return (item.workload.name, f"{item.owner.kind}/{item.owner.name}", item.queue, item.cluster_queue, wants, says)


READ = rules_of(kinds_of("queueing"))
TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="queue_status",
        title="List queues and their quota",
        group="queueing",
        description="Queues by flavor and resource: used, nominal, borrowed, pending; those that admit nothing first.",
        arguments=QueueStatusArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=READ,
        run=_queue_status,
        kinds=KINDS,
    ),
    ToolSpec(
        name="queue_explain",
        title="Explain why a job waits in its queue",
        group="queueing",
        description="Why a job is not admitted: which quota, flavor, limit, check or topology; by the job's name.",
        arguments=QueueExplainArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=(*READ, *rules_of(BY_NAME[kind] for kind in TRAINING_KINDS if kind in BY_NAME)),
        run=_queue_explain,
        uses=USES,
        kinds=KINDS,
    ),
)
