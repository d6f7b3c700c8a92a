"""A proposed change as data: what is agreed to, its digest, and the only ways its state may change.

The digest covers everything a person agrees to. The state machine is one table; whatever is not in it is illegal.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Any

import rfc8785
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from guardrails.action import Action, Target
from guardrails.change import Change
from guardrails.errors import IllegalTransition
from guardrails.policy import Requirement
from guardrails.request import FIELD_MANAGER

DIGEST_DOMAIN = b"sre-proposal-v1\0"
_SAFE_INTEGER = 2**53 - 1


class State(StrEnum):
    """Where a proposal stands.

    `superseded`: its requester asked for something else of the same object. `rehearsed`: carried out against a recording, which cannot
    change.
    """

    PROPOSED = "proposed"
    VALIDATING = "validating"
    REJECTED = "rejected"
    DENIED = "denied"
    PENDING = "pending"
    APPROVED = "approved"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"
    EXECUTING = "executing"
    STALE = "stale"
    REHEARSED = "rehearsed"
    VERIFYING = "verifying"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    INCONCLUSIVE = "inconclusive"
    ROLLING_BACK = "rolling_back"
    CLOSED = "closed"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"


S = State
TRANSITIONS: dict[State, frozenset[State]] = {
    S.PROPOSED: frozenset({S.VALIDATING}),
    S.VALIDATING: frozenset({S.REJECTED, S.DENIED, S.PENDING, S.APPROVED}),
    S.PENDING: frozenset({S.APPROVED, S.DENIED, S.EXPIRED, S.WITHDRAWN, S.SUPERSEDED}),
    S.APPROVED: frozenset({S.EXECUTING, S.STALE, S.EXPIRED, S.PENDING, S.WITHDRAWN, S.SUPERSEDED}),
    S.EXECUTING: frozenset({S.VERIFYING, S.FAILED, S.UNKNOWN, S.REHEARSED}),
    S.VERIFYING: frozenset({S.SUCCEEDED, S.FAILED, S.INCONCLUSIVE}),
    S.FAILED: frozenset({S.ROLLING_BACK, S.CLOSED}),
    S.ROLLING_BACK: frozenset({S.ROLLED_BACK, S.ROLLBACK_FAILED}),
}
TERMINAL = frozenset(State) - frozenset(TRANSITIONS)
# Decided on or waiting for it, and nothing done yet.
OPEN = frozenset({S.PENDING, S.APPROVED})
NEEDS_A_HUMAN = frozenset({S.UNKNOWN, S.INCONCLUSIVE, S.ROLLBACK_FAILED})
RUNNING = frozenset({S.EXECUTING, S.VERIFYING, S.FAILED, S.ROLLING_BACK})


def check_transition(before: State, after: State) -> None:
    """Raise IllegalTransition unless the table has it."""
    if after not in TRANSITIONS.get(before, frozenset()):
        raise IllegalTransition(f"A proposal that is {before} cannot become {after}.")


# What stands for the uid of a cluster where a recording is rehearsed on, alone or before a colon and the recorded uid.
REHEARSAL_UID = "recording"


class Evidence(BaseModel):
    """What a proposal argues with. `root` is a digest over the evidence; `tainted` when any of it is free text of a cluster; `read_at` is
    when it was read from the cluster, None where that is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str = ""
    ids: tuple[str, ...] = ()
    tainted: bool = True
    # Left out when unknown: digests of proposals that were made without it stay what they were.
    read_at: AwareDatetime | None = Field(default=None, exclude_if=lambda value: value is None)


class Proposal(BaseModel):
    """All that a person agrees to. Two proposals with the same digest ask for the same thing of the same object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: int = 1
    id: str
    tenant: str
    cluster: str
    cluster_uid: str
    action: Action
    target: Target
    change: Change
    field_manager: str = FIELD_MANAGER
    evidence: Evidence
    requester: str
    contributors: tuple[str, ...] = ()
    reason: str = ""
    not_after: datetime
    requirement: Requirement
    automatic: bool
    bundle: str

    def canonical(self) -> bytes:
        """RFC 8785 JSON. Integers beyond 2**53 become strings, because JSON cannot carry them."""
        return rfc8785.dumps(_safe(self.model_dump(mode="json")))

    @property
    def rehearsal(self) -> bool:
        """Whether it was planned on a recording: then nothing can be sent, and no live cluster takes it."""
        return self.cluster_uid.partition(":")[0] == REHEARSAL_UID

    @property
    def digest(self) -> str:
        """Hex sha256 with a domain prefix."""
        return hashlib.sha256(DIGEST_DOMAIN + self.canonical()).hexdigest()


def _safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _safe(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_safe(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _SAFE_INTEGER:
        return f"int:{value}"
    return value
