"""One thing that could be done about a cause, in words of the closed vocabulary, with what people need to decide on it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from cluster.reference import ObjectRef
from guardrails.redact import present
from runbooks.finding import Cause

TEXT_LIMIT = 2_000


class Candidate(Struct, frozen=True):
    """One action that would treat a cause. `action` and `parameters` are words of `guardrails.action`; the rest is for people."""

    action: str
    target: ObjectRef
    parameters: dict[str, Any]
    why: str
    precondition: str
    inverse: str
    verification: str
    evidence: tuple[str, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The action as `guardrails.action.parse_action` reads it."""
        return {"action": self.action, **self.parameters}

    @property
    def fit_to_show(self) -> Candidate:
        """The same with its texts redacted and bounded: they quote fields of the cluster."""
        texts = {name: present(getattr(self, name), TEXT_LIMIT) for name in ("why", "precondition", "inverse", "verification")}
        return replace(self, **texts)


def evidence_of(cause: Cause) -> tuple[str, ...]:
    return tuple(item.id for item in cause.evidence)
