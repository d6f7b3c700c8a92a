"""Training jobs: why one fails, hangs or waits, and its workers rank by rank. `runbooks.ranks` reads; the agent diagnoses."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cluster.kinds import BY_NAME
from cluster.timestamps import age
from mcp_server.arguments import Arguments, Name, Namespace, nearest
from mcp_server.diagnosis import Beside, Detail, DiagnosisOutput
from mcp_server.errors import ToolRefusal
from mcp_server.probe import named_or_refused, read_kinds
from mcp_server.registry import Access, Answer, ToolContext, ToolSpec, rules_of
from mcp_server.result import Cell
from mcp_server.tools.diagnoses import USES, diagnosed
from runbooks.ranks import TRAINING_KINDS, Rank, ranks
from runbooks.scheduling import amount_text

COLUMNS = ("rank", "role", "pod", "phase", "ready", "restarts", "exit code", "ended", "node", "devices")
KINDS = (*TRAINING_KINDS, "ReplicaSet")


class TrainingDiagnoseArguments(Arguments):
    namespace: Namespace
    name: Name
    kind: Annotated[str | None, Field(description="such as PyTorchJob; default: whatever has the name", max_length=80)] = None
    detail: Detail = "summary"


async def _training_diagnose(context: ToolContext, arguments: TrainingDiagnoseArguments) -> Answer:
    named = await named_or_refused(context, arguments.namespace, arguments.name, _kinds(arguments.kind))
    read = await read_kinds(context, KINDS, (arguments.namespace,))

    def beside() -> Beside:
        workers = ranks(read.world(context, (arguments.namespace,)), named.subject)
        failed, ready = sum(rank.failed for rank in workers), sum(rank.ready for rank in workers)
        title = f"{len(workers)} workers, {ready} ready, {failed} failed; the first to fail first"

        def row(rank: Rank) -> tuple[Cell, ...]:
            ended = f"{age(rank.ended, context.reader.now())} ago" if rank.ended else ""
            devices = ", ".join(amount_text(name, count) for name, count in rank.accelerators)
            state = (rank.phase, "yes" if rank.ready else "no", rank.restarts, rank.exit_code, ended)
            return (rank.number, rank.role, rank.pod.name, *state, rank.node, devices)

        return Beside(title, COLUMNS, tuple(map(row, workers)), read.missing)

    question = f"Why does training job {arguments.name} fail or wait?"
    return await diagnosed(context, named.subject, question, arguments.detail, beside, growth=read.growth, cost=read.cost)


def _kinds(word: str | None) -> tuple[str, ...]:
    if word is None:
        return TRAINING_KINDS
    found = next((kind for kind in TRAINING_KINDS if kind.lower() == word.lower()), None)
    if found is None:
        raise ToolRefusal(f"{word!r} is no kind of training job; {nearest(word, TRAINING_KINDS, 'kinds')}")
    return (found,)


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="training_diagnose",
        title="Diagnose a training job",
        group="training",
        description="Why a training job fails, hangs or waits: the rank at fault, collectives, data, checkpoints; and its workers.",
        arguments=TrainingDiagnoseArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=rules_of(BY_NAME[kind] for kind in KINDS if kind in BY_NAME),
        run=_training_diagnose,
        uses=USES,
    ),
)
