"""Which rank a hanging collective waited for: of all that report a timeout, the one that is behind, or the one that reports nothing.

Every rank of a synchronous training dies with the same words, and none of them says whose fault it is. PyTorch's watchdog names, rank by
rank, the collective in which it waited and the last one that it completed (ProcessGroupNCCL.cpp; failures.md F20). Compared over the pods
of one job they tell the rank that never came from those that waited for it; they count within one process group and one run. Limits: where
all ranks report the same, the fabric or the code is at fault and no rank is accused; ranks of another framework are not told apart.
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

# "[rank5]:[E…] [PG ID 1 PG GUID 3(mesh_tp) Rank 1] …": the rank in brackets is that of its group, the one at the beginning that of the job.
# The GUID names a group alike on all ranks; the ID counts the groups of one process, and older releases say neither.
_WHO = r"(?:PG (?:ID )?(?P<id>(?!GUID )\S+) )?(?:PG GUID (?P<guid>[^\s(]+)[^\]]*? )?Rank (?P<rank>\d+)\]"
_TIMEOUT = re.compile(
    _WHO + r" Watchdog caught collective operation timeout: WorkNCCL\("
    r"SeqNum=(?P<sequence>\d+), OpType=(?P<operation>\w+)(?:, NumelIn=(?P<size>\d+))?"
)
_PROGRESS = re.compile(_WHO + r".*last enqueued NCCL work: (?P<enqueued>\d+), last completed NCCL work: (?P<completed>\d+)")
_OF_JOB = re.compile(r"\[rank(?P<rank>\d+)\]")
WORKERS_READ = 64
RANKS_NAMED = 8


class Report(Struct, frozen=True):
    """What one rank said of the collective in which it waited: `sequence` counts within its process `group` ("" where none is named) and
    one run of its container. `rank` is that of the whole job where the line tells it."""

    group: str
    rank: int
    pod: Pod
    container: str
    previous: bool
    sequence: int
    operation: str
    size: str
    evidence: Evidence

    @property
    def waited(self) -> bool:
        """Whether it timed out there, and did not only say how far it was."""
        return bool(self.operation)


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
    progress = [(found, line) for line in lines if (found := _PROGRESS.search(line)) is not None]
    # Of a release that names the group in one of the two lines only.
    named = {found["rank"]: _group(found) for found, _ in progress}
    told: dict[tuple[str, str], Report] = {}
    for line in lines:
        found = _TIMEOUT.search(line)
        if found is not None:
            group = _group(found) or named.get(found["rank"], "")
            proof = cite(Source.LOG, pod.ref, where, line.strip())
            told[group, found["rank"]] = Report(
                group,
                _rank(found, line),
                pod,
                container.container,
                previous,
                int(found["sequence"]),
                found["operation"],
                found["size"] or "",
                proof,
            )
    # A rank that threw nothing itself may still have said how far it was.
    for found, line in progress:
        who = (_group(found), found["rank"])
        if who not in told:
            proof = cite(Source.LOG, pod.ref, where, line.strip())
            told[who] = Report(who[0], _rank(found, line), pod, container.container, previous, int(found["completed"]) + 1, "", "", proof)
    yield from told.values()


def _group(found: re.Match[str]) -> str:
    return found["guid"] or found["id"] or ""


def _rank(found: re.Match[str], line: str) -> int:
    of_job = _OF_JOB.match(line.strip())
    return int(of_job["rank"] if of_job is not None else found["rank"])


def _judged(world: World, job: ObjectRef, told: list[Report]) -> Finding:
    pods = sorted((pod for pod in world.pods_of(job) if pod.spec.node_name), key=lambda pod: pod.name)
    heard = {report.pod.key for report in told}
    # Numbers of two runs are not of one count: the newest run in which the job reports.
    previous = all(report.previous for report in told)
    reports = [report for report in told if report.previous == previous]
    container = min(report.container for report in reports)
    quiet = [(pod, want) for pod in pods if pod.key not in heard and (want := _want(pod, container, previous=previous)) is not None]
    unread = [want for _, want in quiet if not _read(world, want)]
    silent = [pod for pod, want in quiet if _read(world, want)]
    groups: dict[str, list[Report]] = defaultdict(list)
    for report in reports:
        groups[report.group].append(report)
    furthest = {group: max(report.sequence for report in members) for group, members in groups.items()}
    # Whoever waits for others in one group comes late in another, by no fault of its own.
    waits = {(item.pod.key, item.rank) for item in reports if item.waited and item.sequence == furthest[item.group]}
    behind = [item for item in reports if item.sequence < furthest[item.group] and (item.pod.key, item.rank) not in waits]
    proofs = _proofs(reports, behind)
    if behind and len({report.pod.key for report in behind}) < len(pods):
        culprit = min(behind, key=lambda report: (report.sequence - furthest[report.group], report.rank, report.group))
        waited = _waited(groups[culprit.group], furthest[culprit.group])
        text = f"Rank {culprit.rank} ({_place(culprit.pod)}) of {job} came no further than collective {culprit.sequence}, while {waited}."
        return _finding("training.rank-behind", culprit.pod.ref, Certainty.LIKELY, proofs, text, job, reports)
    waited = _waited(reports, max(furthest.values())) if len(groups) == 1 else f"in each of {len(groups)} process groups ranks waited"
    if len(silent) == 1 and not unread and len(pods) > 1 and len(groups) == 1:
        said = cite(Source.ABSENCE, silent[0].ref, f"log[{container}]", "no word of a timeout, nor of how far it came")
        text = f"{_place(silent[0])} of {job} says nothing while {waited}: it is the one that they waited for."
        return _finding("training.rank-behind", silent[0].ref, Certainty.LIKELY, (said, *proofs), text, job, reports)
    for group, members in sorted(groups.items()):
        kinds = {(item.operation, item.size) for item in members if item.waited and item.sequence == furthest[group]}
        if len(kinds) > 1:
            shown = ", ".join(f"{operation} of {size or '?'}" for operation, size in sorted(kinds))
            text = (
                f"The ranks of {job} meet in collective {furthest[group]} with different operations ({shown}): "
                "their code took different ways."
            )
            return _finding("training.collectives-differ", job, Certainty.LIKELY, proofs, text, job, reports)
    text = f"{job} hangs in a collective operation: {waited}, and no rank that was heard is behind."
    lacks = "the logs of the other ranks" if unread else "the links between its nodes: no rank is behind the others"
    made = _finding("training.nccl", job, Certainty.LIKELY, proofs, text, job, reports)
    return replace(made, wants=tuple(unread[:WORKERS_READ]), lacks=lacks)


def _waited(reports: list[Report], furthest: int) -> str:
    return f"{sum(report.sequence == furthest for report in reports)} of the ranks that report waited in collective {furthest}"


def _finding(
    code: str, subject: ObjectRef, certainty: Certainty, proofs: tuple[Evidence, ...], text: str, job: ObjectRef, reports: list[Report]
) -> Finding:
    affects = tuple(dict.fromkeys((job, *(report.pod.ref for report in reports))))
    return Finding(code, subject, certainty, proofs[:RANKS_NAMED], text, affects)


def _proofs(reports: list[Report], behind: list[Report]) -> tuple[Evidence, ...]:
    """Those behind first, then what the others waited in."""
    ordered = sorted(reports, key=lambda report: (report not in behind, report.sequence, report.rank, report.group))
    return tuple(report.evidence for report in ordered)


def _want(pod: Pod, container: str, *, previous: bool) -> LogWant | None:
    """The log of the run in question. A pod that never restarted is still in the run that the others have behind them."""
    if pod.container(container) is None:
        return None
    status = pod.container_status(container)
    ref = ContainerRef(pod.namespace or "", pod.name, container)
    return LogWant(ref, previous=previous and status is not None and status.restart_count > 0, each=True)


def _read(world: World, want: LogWant) -> bool:
    reading = world.logs.get((want.container, want.previous))
    return reading is not None and bool(reading.value.lines)


def _place(pod: Pod) -> str:
    return f"Pod {pod.namespace}/{pod.name} on node {pod.spec.node_name or '?'}"


DETECTORS: tuple[Detector, ...] = (hanging_ranks,)
