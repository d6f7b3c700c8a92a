"""Which rank a hanging collective waited for: of all that report a timeout, the one that is behind, or the one that reports nothing.

Every rank of a synchronous training dies with the same words, and none of them says whose fault it is. PyTorch's watchdog names, rank by
rank, the collective in which it waited and the last one that it completed (ProcessGroupNCCL.cpp; failures.md F20). Compared over the pods
of one job they tell the rank that never came from those that waited for it. Limits: where all ranks report the same, the fabric or the
code is at fault and no rank is accused; ranks of another framework than PyTorch are not told apart.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from cluster.facts.pod import Pod
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding, LogWant, Source, cite

_TIMEOUT = re.compile(
    r"Rank (?P<rank>\d+)\] Watchdog caught collective operation timeout: WorkNCCL\("
    r"SeqNum=(?P<sequence>\d+), OpType=(?P<operation>\w+)(?:, NumelIn=(?P<size>\d+))?"
)
_PROGRESS = re.compile(r"Rank (?P<rank>\d+)\].*last enqueued NCCL work: (?P<enqueued>\d+), last completed NCCL work: (?P<completed>\d+)")
WORKERS_READ = 64
RANKS_NAMED = 8


class Report(Struct, frozen=True):
    """What one rank said of the collective in which it waited. `completed` is -1 where it said nothing of it."""

    rank: int
    pod: Pod
    sequence: int
    operation: str
    size: str
    completed: int
    evidence: Evidence


def hanging_ranks(world: World) -> Iterator[Finding]:
    """Trainings that died in a collective, blamed on the rank that did not take part."""
    jobs: dict[ObjectRef, list[Report]] = defaultdict(list)
    for (container, previous), reading in world.logs.items():
        pod = world.get(Pod, container.namespace, container.pod)
        if pod is not None:
            jobs[world.top_owner(pod.ref)] += _reports(pod, container, reading.value.lines, previous=previous)
    for job, reports in jobs.items():
        if reports:
            yield _judged(world, job, reports)


def _reports(pod: Pod, container: ContainerRef, lines: tuple[str, ...], *, previous: bool) -> Iterator[Report]:
    where = f"log[{container.container}{', previous' if previous else ''}]"
    completed = {found["rank"]: int(found["completed"]) for line in lines if (found := _PROGRESS.search(line)) is not None}
    told: dict[str, Report] = {}
    for line in lines:
        found = _TIMEOUT.search(line)
        if found is not None:
            told[found["rank"]] = Report(
                int(found["rank"]),
                pod,
                int(found["sequence"]),
                found["operation"],
                found["size"] or "",
                completed.get(found["rank"], -1),
                cite(Source.LOG, pod.ref, where, line.strip()),
            )
    # A rank that threw nothing itself may still have said how far it was.
    for line in lines:
        found = _PROGRESS.search(line)
        if found is not None and found["rank"] not in told:
            proof = cite(Source.LOG, pod.ref, where, line.strip())
            told[found["rank"]] = Report(int(found["rank"]), pod, int(found["completed"]) + 1, "", "", int(found["completed"]), proof)
    yield from told.values()


def _judged(world: World, job: ObjectRef, reports: list[Report]) -> Finding:
    pods = sorted((pod for pod in world.pods_of(job) if pod.spec.node_name), key=lambda pod: pod.name)
    heard = {report.pod.key for report in reports}
    container = next(iter(reports)).pod.spec.containers[0].name
    unread = [want for pod in pods if (want := _want(pod, container)) is not None and not _read(world, want.container)]
    furthest = max(report.sequence for report in reports)
    behind = [report for report in reports if report.sequence < furthest]
    silent = [pod for pod in pods if pod.key not in heard and _read(world, ContainerRef(pod.namespace or "", pod.name, container))]
    proofs = _proofs(reports, behind)
    waited = f"{len(reports) - len(behind)} of the ranks that report waited in collective {furthest}"
    kinds = {(report.operation, report.size) for report in reports if report.sequence == furthest and report.operation}
    if behind and len({report.pod.key for report in behind}) < len(pods):
        culprit = min(behind, key=lambda report: (report.sequence, report.rank))
        text = f"Rank {culprit.rank} ({_place(culprit.pod)}) of {job} came no further than collective {culprit.sequence}, while {waited}."
        return _finding("training.rank-behind", culprit.pod.ref, Certainty.LIKELY, proofs, text, job, reports)
    if len(silent) == 1 and not unread and len(pods) > 1:
        said = cite(Source.ABSENCE, silent[0].ref, f"log[{container}]", "no word of a timeout, nor of how far it came")
        text = f"{_place(silent[0])} of {job} says nothing while {waited}: it is the one that they waited for."
        return _finding("training.rank-behind", silent[0].ref, Certainty.LIKELY, (said, *proofs), text, job, reports)
    if len(kinds) > 1:
        shown = ", ".join(f"{operation} of {size or '?'}" for operation, size in sorted(kinds))
        text = f"The ranks of {job} meet in collective {furthest} with different operations ({shown}): their code took different ways."
        return _finding("training.collectives-differ", job, Certainty.LIKELY, proofs, text, job, reports)
    text = f"{job} hangs in a collective operation: {waited}, and no rank that was heard is behind."
    lacks = "the logs of the other ranks" if unread else "the links between its nodes: no rank is behind the others"
    made = _finding("training.nccl", job, Certainty.LIKELY, proofs, text, job, reports)
    return replace(made, wants=tuple(unread[:WORKERS_READ]), lacks=lacks)


def _finding(
    code: str, subject: ObjectRef, certainty: Certainty, proofs: tuple[Evidence, ...], text: str, job: ObjectRef, reports: list[Report]
) -> Finding:
    affects = tuple(dict.fromkeys((job, *(report.pod.ref for report in reports))))
    return Finding(code, subject, certainty, proofs[:RANKS_NAMED], text, affects)


def _proofs(reports: list[Report], behind: list[Report]) -> tuple[Evidence, ...]:
    """Those behind first, then what the others waited in."""
    ordered = sorted(reports, key=lambda report: (report not in behind, report.sequence, report.rank))
    return tuple(report.evidence for report in ordered)


def _want(pod: Pod, container: str) -> LogWant | None:
    if pod.container(container) is None:
        return None
    status = pod.container_status(container)
    ref = ContainerRef(pod.namespace or "", pod.name, container)
    return LogWant(ref, previous=status is not None and status.restart_count > 0, each=True)


def _read(world: World, container: ContainerRef) -> bool:
    return any((reading := world.logs.get((container, previous))) is not None and reading.value.lines for previous in (False, True))


def _place(pod: Pod) -> str:
    return f"Pod {pod.namespace}/{pod.name} on node {pod.spec.node_name or '?'}"


DETECTORS: tuple[Detector, ...] = (hanging_ranks,)
