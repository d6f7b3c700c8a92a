"""Looking at the cluster before a decision: what the target is, whether we and the human may, what a dry run says.

Cheapest first, and it stops at the first thing that makes the rest pointless. Everything asked is a read, an access review or a dry
run; what comes back is data for the policy and for the people who decide.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from msgspec import Struct, structs, to_builtins

from guardrails.action import AccessRule, Action, Target, access
from guardrails.budget import Counters
from guardrails.change import Change, plan_change
from guardrails.directory import Person
from guardrails.errors import Impossible, TargetNotFound
from guardrails.estate import Estate
from guardrails.facts import UNKNOWN, Circumstances, Facts, NodeFacts, WorkloadFacts
from guardrails.port import AccessVerdict, ClusterPort, DryRun, FieldChange, Observed, Subject
from guardrails.proposal import Evidence
from guardrails.risk import Risk, assess

UNBOUND = "unapproved"
CHANGES_MAX = 200
TOO_MANY_REQUESTS = 429
AT_STAKE = ("pods_affected", "gpus", "serving_after", "disruptions_allowed", "pool", "pool_share_percent", "namespaces")
SAID_WHEN_NONE = ("pods_affected", "serving_after", "disruptions_allowed")
GRANT_IT = "Grant that account what 'smokejumper rbac' prints for an executor, or name the context of one that may in executor_context."


class Examination(Struct, frozen=True):
    """What was found. `problems` are reasons why it cannot be done at all; `validated` needs none and a dry run that passed."""

    observed: Observed
    change: Change | None
    risk: Risk
    dry_run: DryRun
    problems: tuple[str, ...]
    requester_reviewed: bool
    rehearsal: bool = False

    @property
    def validated(self) -> bool:
        return self.change is not None and not self.problems and self.dry_run.ok

    def shown(self) -> dict[str, Any]:
        """The dry run as people see it, what the change puts at stake, and whether it was a rehearsal on a recording."""
        shown: dict[str, Any] = to_builtins(self.dry_run)
        return shown | {"stake": stake(self.risk)} | ({"rehearsal": True} if self.rehearsal else {})


def stake(risk: Risk) -> dict[str, Any]:
    """The numbers of a risk that people read before they agree; those that mean nothing for the change are left out."""
    known = {name: getattr(risk, name) for name in AT_STAKE}
    return {name: value for name, value in known.items() if value not in (UNKNOWN, "", ()) and (value or name in SAID_WHEN_NONE)}


async def examine(port: ClusterPort, action: Action, target: Target, requester: Person, *, now: datetime) -> Examination:
    """Observe, plan, review access and dry-run. Raises TargetNotFound, Forbidden, Unreachable and InvalidAction."""
    return structs.replace(await _examine(port, action, target, requester, now), rehearsal=port.rehearsal)


async def _examine(port: ClusterPort, action: Action, target: Target, requester: Person, now: datetime) -> Examination:
    observed = await port.observe(action, target)
    risk = assess(action, observed)
    try:
        change = plan_change(action, observed, now=now)
    except Impossible as error:
        return Examination(observed, None, risk, DryRun(ok=False, supported=False), (str(error),), requester_reviewed=False)
    rules = access(action, observed.target)
    verdicts = await port.review_access(rules, observed.target, None)
    problems = [f"Our account may not {_place(v.rule, observed.target)}. {v.reason}".strip() for v in verdicts if not v.allowed]
    if problems:
        problems.append(GRANT_IT)
    reviewed, refused = await _review_requester(port, tuple(rule for rule in rules if rule.writes), observed.target, requester)
    if refused is not None:
        problems.append(f"{requester.name} may not {_place(refused.rule, observed.target)} themselves. {refused.reason}".strip())
        problems.append("Somebody who may has to ask for it.")
    if problems:
        return Examination(observed, change, risk, DryRun(ok=False, supported=False), tuple(problems), reviewed)
    dry_run = await try_out(port, action, change, observed)
    if not dry_run.ok:
        problems.append(f"The dry run failed: {dry_run.reason or 'no reason given'}.")
    return Examination(observed, change, risk, dry_run, tuple(problems), reviewed)


async def try_out(port: ClusterPort, action: Action, change: Change, observed: Observed) -> DryRun:
    """Dry-run every request against the object as it is now. A port over a recording that cannot try anything passes with no diff.

    An eviction that a budget refuses now may pass when its turn comes in a change that waits for budgets; then that is no failure.
    """
    changes: list[FieldChange] = []
    supported = True
    patient = action.patience_seconds > 0
    for request in change.requests:
        try:
            answer = await port.dry_run(observed.bind(request, UNBOUND))
        except TargetNotFound:
            if request.uid is None or not request.removes:
                raise
            continue
        supported = supported and answer.supported
        if not answer.ok and not (port.rehearsal and not answer.supported) and not (patient and answer.status == TOO_MANY_REQUESTS):
            return answer
        changes += answer.changes[: CHANGES_MAX - len(changes)]
    reason = "" if supported else "A recording cannot be tried out."
    return DryRun(ok=True, changes=tuple(changes), supported=supported, reason=reason)


def facts(
    examination: Examination,
    action: Action,
    requester: Person,
    estate: Estate,
    *,
    cluster: str,
    counters: Counters,
    evidence: Evidence,
    killed: bool,
    proposed_at: datetime,
    now: datetime,
    break_glass: bool = False,
) -> Facts:
    """What the policy is asked."""
    observed, risk = examination.observed, examination.risk
    on = observed.target
    environment = estate.environment(cluster, on.home)
    weekday, minute = estate.local(now)
    tenant, team = estate.tenant, estate.team(on.home)
    resource: NodeFacts | WorkloadFacts
    if on.kind == "Node":
        resource = NodeFacts(tenant, cluster, environment, team, on.name, risk.pool, risk.uses_gpu, risk.control_plane)
    else:
        protected = estate.is_protected(on.home)
        resource = WorkloadFacts(tenant, cluster, environment, team, on.home or "", on.kind, on.name, risk.uses_gpu, protected)
    circumstances = Circumstances(
        now=now,
        weekday=weekday,
        minute_of_day=minute,
        kill_switch=killed,
        frozen=estate.is_frozen(now, environment),
        validated=examination.validated,
        requester_reviewed=examination.requester_reviewed,
        tainted=evidence.tainted,
        unseen=bool(observed.missing),
        reversible=action.traits.reversibility != "none",
        controlled=risk.controlled,
        pods_affected=risk.pods_affected,
        gpus=risk.gpus,
        gpu_hours=math.ceil(sum(work.accelerators * max(0.0, (now - work.since).total_seconds()) for work in risk.work) / 3600),
        checkpoint_minutes=_minutes(risk.saved_at, now),
        pool_disrupted=risk.pool_disrupted,
        pool_share_percent=risk.pool_share_percent,
        serving_after=risk.serving_after,
        disruptions_allowed=risk.disruptions_allowed,
        namespaces=risk.namespaces,
        protected_affected=any(estate.is_protected(namespace) for namespace in risk.namespaces),
        changes_last_hour=counters.changes,
        automatic_last_hour=counters.automatic,
        failed_last_hour=counters.failed,
        failed_minutes=_minutes(counters.failed_at, now),
        denied_minutes=_minutes(counters.denied_at, now),
        proposed_minutes=max(0, _minutes(proposed_at, now)),
        evidence_minutes=_minutes(evidence.read_at, now),
        break_glass=break_glass,
        replicas=risk.replicas,
    )
    return Facts(action.action, requester.name, resource, circumstances, requester.groups, requester.tenants)


def _minutes(since: datetime | None, now: datetime) -> int:
    """Whole minutes since then. UNKNOWN when there is no such time, or it is to come: what claims to be fresher than now proves nothing."""
    if since is None or since > now:
        return UNKNOWN
    return int((now - since).total_seconds() // 60)


async def _review_requester(
    port: ClusterPort, rules: tuple[AccessRule, ...], target: Target, requester: Person
) -> tuple[bool, AccessVerdict | None]:
    """(whether the cluster was asked and agreed, the refusal if it refused). Who has no name in the cluster cannot be reviewed."""
    if requester.kubernetes_user is None:
        return False, None
    subject = Subject(requester.kubernetes_user, requester.kubernetes_groups)
    verdicts = await port.review_access(rules, target, subject)
    refused = next((verdict for verdict in verdicts if not verdict.allowed), None)
    return refused is None and bool(verdicts), refused


def _place(rule: AccessRule, target: Target) -> str:
    return f"{rule} {target.name}" + (f" in namespace {target.home}" if target.home else "")
