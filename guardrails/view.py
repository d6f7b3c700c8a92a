"""A proposal as people and tools see it: everything that a decision needs, with nothing that an agent wrote shown as fact."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from guardrails.approval import Approval, Tally
from guardrails.policy import Requirement, Verdict
from guardrails.proposal import NEEDS_A_HUMAN, State
from guardrails.record import Record
from guardrails.redact import present, redact_object
from guardrails.request import ApiRequest

REASON_LIMIT = 2000
REHEARSAL = "[rehearsal on a recording] "


class ProposalView(BaseModel):
    """One proposal. `reason` is the requester's own words, unverified; `detail` is why it stands as it does.

    `missing` counts approvals still needed by group; `void` says why given ones do not count. `changes` is the dry run's difference,
    `stake` the numbers of what it puts at stake. A `rehearsal` was asked of a recording: it says so in its summary, and nothing of it is
    ever sent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    state: State
    rehearsal: bool
    digest: str | None
    cluster: str
    action: dict[str, Any]
    target: str
    summary: str
    reason: str
    requester: str
    contributors: tuple[str, ...]
    requests: tuple[dict[str, Any], ...]
    inverse: tuple[dict[str, Any], ...]
    reversibility: str
    checks: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    changes: tuple[dict[str, Any], ...]
    stake: dict[str, Any]
    verdict: Verdict | None
    requirement: Requirement | None
    approvals: tuple[Approval, ...]
    missing: dict[str, int]
    void: dict[str, str]
    evidence_ids: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    detail: str
    outcome: dict[str, Any]
    next_step: str

    @property
    def needs_a_human(self) -> bool:
        return self.state in NEEDS_A_HUMAN


def view(record: Record, approvals: tuple[Approval, ...], tally: Tally | None) -> ProposalView:
    """The view of a record. `tally` is None where no approvals are counted."""
    sealed = record.proposal
    change = sealed.change if sealed else None
    target = record.draft["target"]
    where = "/".join(str(part) for part in (target["kind"], target.get("namespace"), target["name"]) if part)
    summary = change.summary if change else f"{record.action} {where}"
    return ProposalView(
        id=record.id,
        state=record.state,
        rehearsal=record.rehearsal,
        digest=record.digest,
        cluster=record.cluster,
        action=record.draft["action"],
        target=where,
        summary=f"{REHEARSAL}{summary}" if record.rehearsal else summary,
        reason=present(record.draft.get("reason", ""), REASON_LIMIT),
        requester=record.requester,
        contributors=record.contributors,
        requests=shown_requests(change.requests) if change else (),
        inverse=shown_requests(change.inverse) if change else (),
        reversibility=sealed.action.traits.reversibility if sealed else "",
        checks=tuple(c.model_dump(mode="json") for c in change.checks) if change else (),
        notes=change.notes if change else (),
        changes=tuple(record.dry_run.get("changes", ())),
        stake=record.dry_run.get("stake", {}),
        verdict=record.verdict,
        requirement=record.requirement,
        approvals=approvals,
        missing=tally.missing if tally else {},
        void=tally.void if tally else {},
        evidence_ids=sealed.evidence.ids if sealed else (),
        created_at=record.created_at,
        expires_at=record.expires_at,
        detail=record.reason,
        outcome=record.outcome,
        next_step=_next_step(record, tally),
    )


def shown_requests(requests: tuple[ApiRequest, ...]) -> tuple[dict[str, Any], ...]:
    """Requests for people and tools: what looks like a secret in them is not shown, though it is sent as it is."""
    return tuple(redact_object(request.model_dump(mode="json")) for request in requests)


def _next_step(record: Record, tally: Tally | None) -> str:
    if record.state is State.PENDING and tally is not None and not tally.enough:
        who = ", ".join(f"{count} more of {group}" for group, count in tally.missing.items())
        return f"Needs approval by {who}: smokejumper approve {record.id}"
    if record.state in (State.PENDING, State.APPROVED) and record.rehearsal:
        return f"May be rehearsed: smokejumper execute {record.id} --recording DIR"
    if record.state in (State.PENDING, State.APPROVED):
        return f"May be executed: smokejumper execute {record.id}"
    if record.state in NEEDS_A_HUMAN:
        return "Look at the object: what happened could not be proven, and nothing more is done automatically."
    if record.state is State.REJECTED:
        return "It cannot be done for the reason that is given. Put that right first, then propose again."
    if record.state in (State.EXPIRED, State.STALE, State.WITHDRAWN, State.CLOSED):
        return "Propose again if it is still wanted."
    return ""
