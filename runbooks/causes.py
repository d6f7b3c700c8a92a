"""Folds findings into root causes with their symptoms, ranked, with what was ruled out and what is not proven.

It knows no detector. Who explains whom is the object graph, time, and the role and weight of each code. It reads nothing.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from msgspec.structs import replace

from cluster.facts.event import Event
from cluster.facts.network import EndpointSlice, Service
from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolumeClaim
from cluster.facts.workload import DaemonSet, Deployment, Job, ReplicaSet, StatefulSet
from cluster.reading import Cost, Why
from cluster.reference import ObjectRef
from cluster.world import World
from guardrails.redact import present
from runbooks.catalogue import Role, code_of
from runbooks.finding import Cause, Certainty, Diagnosis, Evidence, Finding, NotProven, RuledOut, Source, Symptom
from runbooks.folding import Candidate, roots
from runbooks.graph import Graph, Key

EVIDENCE_LIMIT = 8
SYMPTOM_LIMIT = 20
ADVISORY_LIMIT = 50
UNLINKED_LIMIT = 20
TEXT_LIMIT = 2_000
NO_COST = Cost()
_BUILT_IN = (Pod, Event, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, Service, EndpointSlice, PersistentVolumeClaim)
# Of these the object alone says that it waits or failed: it may have no pod. One that is refused is there: an absent kind is not asked for.
_JOBS_AND_SERVERS = (
    *("Workload", "PodGroup", "JobSet", "TrainJob", "PyTorchJob", "MPIJob", "RayJob", "RayCluster", "RayService", "Workflow"),
    *("InferenceService", "LLMInferenceService", "InferencePool", "LeaderWorkerSet"),
)
_HEALTH_RESTS_ON = frozenset((*(kind.kind for kind in _BUILT_IN), *_JOBS_AND_SERVERS))
# Not among them: a kind that the cluster does not have, and one that a recording does not hold.
_HIDDEN = frozenset({Why.FORBIDDEN, Why.OTHER_VERSION, Why.UNAUTHENTICATED, Why.UNREACHABLE, Why.TIMEOUT, Why.TRUNCATED, Why.MALFORMED})


def explain(world: World, findings: tuple[Finding, ...], focus: tuple[ObjectRef, ...] = (), cost: Cost = NO_COST) -> Diagnosis:
    """The diagnosis of one world. `focus` are the objects that the question is about: causes that reach them come first."""
    near = _neighbourhood(world, focus)
    candidates = sorted((_candidate(finding, world, near) for finding in merged(findings)), key=lambda candidate: candidate.order)
    explained_by = roots(candidates)
    accusing = [index for index in range(len(candidates)) if index not in explained_by]
    faults = [index for index in accusing if candidates[index].code.role is not Role.ADVISORY]
    certain = [index for index in faults if candidates[index].finding.certainty > Certainty.POSSIBLE]
    shown = certain or [index for index in faults if candidates[index].focused or not _is_hearsay(candidates[index].finding)]
    advice = [index for index in accusing if candidates[index].code.role is Role.ADVISORY]
    below: dict[int, list[Candidate]] = defaultdict(list)
    for index, earlier in explained_by.items():
        below[earlier].append(candidates[index])
    unlinked: list[int] = []
    if world.scope.subject is not None or any(candidates[index].focused for index in shown):
        unlinked = [index for index in shown if not candidates[index].focused]
        shown = [index for index in shown if candidates[index].focused]
    # A cause is where its consequences are, too: its own reach may end at a node, and what it explains lie in a namespace.
    of_cluster = [index for index in shown if candidates[index].finding.subject.namespace is None]
    elsewhere = {index for index in of_cluster if all(_elsewhere(item, world) for item in (candidates[index], *below[index]))}
    unlinked += [index for index in shown if index in elsewhere]
    shown = [index for index in shown if index not in elsewhere]
    if focus:
        advice = [index for index in advice if candidates[index].focused]
    ranked = sorted(shown, key=lambda index: _rank(candidates[index], below[index], world.now))
    causes = tuple(_cause(candidates[index], below[index]) for index in ranked)
    told = set(shown)
    rivals = [(candidates[index], candidates[earlier]) for index, earlier in explained_by.items() if earlier in told]
    unproven = sorted(set(faults) - told - set(unlinked))
    return Diagnosis(
        cluster=world.cluster,
        scope=describe(world),
        now=world.now,
        healthy=not causes and not _blind(world),
        causes=causes,
        advisories=tuple(_cause(candidates[index], []) for index in advice[:ADVISORY_LIMIT]),
        ruled_out=(
            *(_ruled_out(rival, winner) for rival, winner in rivals if _is_rival(rival, winner)),
            *(_unlinked(candidates[index]) for index in unlinked[:UNLINKED_LIMIT]),
        ),
        not_proven=tuple(_not_proven(candidates[index]) for index in unproven),
        cannot_see=world.missing,
        cost=cost,
    )


def merged(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """One finding per code and subject: evidence, wants and affected objects united, the strongest certainty, the earliest onset."""
    groups: dict[tuple[str, Key], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[(finding.code, finding.subject.key)].append(finding)
    return tuple(_merge(group) for group in groups.values())


def _merge(group: list[Finding]) -> Finding:
    if len(group) == 1:
        return group[0]
    best = max(group, key=lambda finding: finding.certainty)
    evidence = dict.fromkeys(item for finding in (best, *group) for item in finding.evidence)
    return replace(
        best,
        evidence=tuple(evidence),
        affects=tuple(dict.fromkeys(ref for finding in group for ref in finding.affects)),
        wants=tuple(dict.fromkeys(want for finding in group for want in finding.wants)),
        since=min((finding.since for finding in group if finding.since), default=None),
    )


def describe(world: World) -> str:
    """The scope in words."""
    where = ", ".join(world.scope.namespaces) if world.scope.namespaces else "all namespaces"
    return f"{world.scope.subject} in {world.cluster}" if world.scope.subject else f"{where} in {world.cluster}"


def _neighbourhood(world: World, focus: tuple[ObjectRef, ...]) -> frozenset[Key]:
    """The objects asked about, their owners and what they are made of."""
    keys: set[Key] = set()
    for ref in focus:
        keys.update(owner.key for owner in world.owner_chain(ref))
        keys.update(fact.ref.key for fact in world.descend(world.top_owner(ref)))
    return frozenset(keys)


def _candidate(finding: Finding, world: World, near: frozenset[Key]) -> Candidate:
    reach = world.once(Graph).reach((finding.subject, *finding.affects))
    if finding.since is not None and finding.since > world.now:
        # Of a node whose clock is ahead. It cannot have begun later than it was seen.
        finding = replace(finding, since=world.now)
    return Candidate(finding, code_of(finding.code), world.top_owner(finding.subject).key, reach, not near.isdisjoint(reach))


def _is_hearsay(finding: Finding) -> bool:
    """Whether a finding is a suspicion that rests on logs alone: a program said something once, and it is not known that it still holds.
    It answers those who ask about that program, and accuses nobody by itself."""
    return finding.certainty is Certainty.POSSIBLE and all(item.source is Source.LOG for item in finding.evidence)


def _elsewhere(candidate: Candidate, world: World) -> bool:
    """Whether a question about namespaces met a fault (a lost node, a broken API, what follows from them) that reaches nothing in them."""
    subject = candidate.finding.subject
    if not world.scope.namespaces or subject.name in world.scope.namespaces:
        return False
    return not any(namespace is not None and world.scope.includes(namespace) for _, namespace, _ in candidate.reach)


def _rank(candidate: Candidate, below: list[Candidate], now: datetime) -> tuple[object, ...]:
    """Smaller is better: what was asked about, certainty, specificity, how much it explains, the most recent onset."""
    age = (now - candidate.finding.since).total_seconds() if candidate.finding.since else float("inf")
    return (
        not candidate.focused,
        candidate.code.role is not Role.CAUSE,
        -int(candidate.finding.certainty),
        candidate.code.severity != "error",
        -candidate.code.weight,
        -len(below),
        age,
        candidate.finding.code,
        str(candidate.finding.subject),
    )


def _cause(candidate: Candidate, below: list[Candidate]) -> Cause:
    """The cause that a candidate and what it explains make. A symptom that nothing explains is true, but that it is the root is not
    proven: it is at most likely."""
    finding = candidate.finding
    symptom = candidate.code.role is Role.SYMPTOM
    evidence: dict[str, Evidence] = {}
    for item in (*finding.evidence, *(item for child in below for item in child.finding.evidence[:1])):
        evidence.setdefault(item.id, item)
    symptoms = tuple(
        Symptom(child.finding.code, child.finding.subject, _shown(child.finding.explanation)) for child in below[:SYMPTOM_LIMIT]
    )
    return Cause(
        object=finding.subject,
        code=finding.code,
        class_=candidate.code.class_,
        title=candidate.code.title,
        explanation=_shown(finding.explanation),
        certainty=min(finding.certainty, Certainty.LIKELY) if symptom else finding.certainty,
        evidence=tuple(evidence.values())[:EVIDENCE_LIMIT],
        symptoms=symptoms,
        since=finding.since,
        severity=candidate.code.severity,
        page=candidate.code.page,
    )


def _is_rival(rival: Candidate, winner: Candidate) -> bool:
    """Whether somebody would have accused another object; a vaguer word for the same object is no rival."""
    return rival.code.role is Role.CAUSE and rival.owner != winner.owner


def _ruled_out(rival: Candidate, winner: Candidate) -> RuledOut:
    why = f"explained by {winner.code.title.lower()} of {winner.finding.subject}, which it follows from"
    return RuledOut(rival.finding.code, rival.finding.subject, why)


def _unlinked(candidate: Candidate) -> RuledOut:
    why = "true, but nothing links it to what was asked about"
    return RuledOut(candidate.finding.code, candidate.finding.subject, why)


def _not_proven(candidate: Candidate) -> NotProven:
    finding = candidate.finding
    lacks = _shown(finding.lacks) or "no observation confirms it yet"
    return NotProven(finding.code, finding.subject, _shown(finding.explanation), lacks)


def _shown(text: str) -> str:
    """What a detector wrote, fit to show: it quotes names, images, arguments and messages of the cluster."""
    return present(text, TEXT_LIMIT)


def _blind(world: World) -> bool:
    """Whether something could hide behind what was not seen: no pods at all, or a kind on which health rests refused or cut."""
    if Pod.kind not in world.read_kinds and not world.facts.get(Pod.kind):
        return True
    return any(missing.kind in _HEALTH_RESTS_ON and missing.why in _HIDDEN for missing in world.missing)
