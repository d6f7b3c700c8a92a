"""What the policy would say of a change if it were proposed now. Nothing is stored, nobody is asked, nothing is sent but a dry run.

It looks at the cluster as a proposal would and puts the same question; only that it is nobody's proposal yet: an open emergency, a
key, or a twin of it play no part.
"""

from __future__ import annotations

from anyio import to_thread
from msgspec import Struct

from guardrails.action import Action, Target, check_target
from guardrails.budget import count, switched_on
from guardrails.counterfactual import NearMiss, near_misses
from guardrails.directory import Person
from guardrails.examination import Examination, examine, facts
from guardrails.office import Office
from guardrails.policy import Verdict, decide
from guardrails.proposal import Evidence


class Weighed(Struct, frozen=True):
    """The verdict, the facts, single or in pairs, that would have led to another one, and what was found in the cluster."""

    verdict: Verdict
    near: tuple[NearMiss, ...]
    examination: Examination


async def weigh(office: Office, action: Action, target: Target, *, cluster: str, requester: Person, evidence: Evidence) -> Weighed:
    """The verdict on a change that nobody has proposed. Raises InvalidAction, UnknownCluster, TargetNotFound, Forbidden, Unreachable."""
    check_target(action, target)
    now = office.clock.now()
    examination = await examine(office.port(cluster), action, target, requester, now=now)
    async with office.store.read() as connection:
        asked = facts(
            examination,
            action,
            requester,
            office.estate,
            cluster=cluster,
            counters=await count(connection, cluster, action.action, target.model_dump(mode="json"), now, rehearsal=examination.rehearsal),
            evidence=evidence,
            killed=await switched_on(connection, cluster, office.estate.tenant) is not None,
            proposed_at=now,
            now=now,
        )
    policy = office.bundles.policy
    # Hundreds of questions: nobody else who is served waits for them.
    near = await to_thread.run_sync(near_misses, policy, asked)
    return Weighed(decide(policy, asked), near, examination)
