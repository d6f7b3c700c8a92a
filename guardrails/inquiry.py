"""The question to the policy about one proposal, asked when it is decided and again when it is claimed: the same way both times.

What the cluster says comes as an examination; what our own records say is read here, in the caller's transaction, so that racing
proposals see each other.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.action import Action
from guardrails.budget import count, switched_on
from guardrails.directory import Person
from guardrails.emergency import Emergency
from guardrails.examination import Examination, facts
from guardrails.facts import Facts
from guardrails.office import Office
from guardrails.proposal import Evidence
from guardrails.record import Record


async def inquire(
    office: Office,
    connection: AsyncConnection,
    record: Record,
    action: Action,
    examination: Examination,
    requester: Person,
    *,
    emergency: Emergency | None = None,
) -> Facts:
    """What the policy is asked about this proposal, as of now."""
    now, rehearsal = office.clock.now(), examination.rehearsal
    return facts(
        examination,
        action,
        requester,
        office.estate,
        cluster=record.cluster,
        counters=await count(connection, record.cluster, record.action, record.draft["target"], now, rehearsal=rehearsal),
        evidence=Evidence.model_validate(record.draft["evidence"]),
        killed=await switched_on(connection, record.cluster, record.tenant) is not None,
        proposed_at=record.created_at,
        now=now,
        break_glass=emergency is not None,
    )
