"""The permission to send one proposal's requests once, bound to their digests. Whoever writes must be shown one.

A grant is made by the executor inside the claim and by nobody else. It is verified where the write happens, so a bug between
the gate and the wire cannot turn one approved request into another.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from guardrails.errors import InvalidGrant
from guardrails.request import BoundRequest


class Grant(BaseModel):
    """Single-use permission. `request_digests` are those of the templates; `fence` grows with every claim of the proposal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proposal_id: str
    proposal_digest: str
    cluster_uid: str
    target_uid: str
    request_digests: tuple[str, ...]
    purpose: Literal["change", "rollback"] = "change"
    fence: int
    not_after: datetime

    @property
    def receipt(self) -> str:
        """The value of the receipt annotation: which proposal, with which content, and whether it is its undoing."""
        receipt = f"{self.proposal_id}.{self.proposal_digest[:16]}"
        return receipt if self.purpose == "change" else f"{receipt}.rollback"

    def verify(self, request: BoundRequest, *, now: datetime, cluster_uid: str | None = None) -> None:
        """Raise InvalidGrant unless this very request, on this object, may be sent now."""
        if now >= self.not_after:
            raise InvalidGrant(f"The grant of {self.proposal_id} ended at {self.not_after.isoformat()}.", next_step="Execute again.")
        if request.template.digest not in self.request_digests:
            raise InvalidGrant(f"The grant of {self.proposal_id} does not cover {request.method} {request.path} with this body.")
        wanted = request.template.uid or self.target_uid
        if request.uid != wanted:
            raise InvalidGrant(f"The grant of {self.proposal_id} is for uid {wanted}, the request for {request.uid}.")
        if request.receipt != self.receipt:
            raise InvalidGrant(f"The request does not carry the receipt of {self.proposal_id}.")
        if cluster_uid is not None and cluster_uid != self.cluster_uid:
            raise InvalidGrant(f"The grant of {self.proposal_id} is for another cluster.")
