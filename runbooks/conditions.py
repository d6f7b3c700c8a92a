"""How a status condition is quoted as evidence: status, reason and message, at the time of its last transition."""

from __future__ import annotations

from cluster.facts.meta import Condition
from cluster.reference import ObjectRef
from runbooks.finding import Evidence, Source, cite


def cite_condition(subject: ObjectRef, condition: Condition) -> Evidence:
    """The condition as evidence about the object that carries it."""
    quote = f"{condition.status} {condition.reason or ''} {condition.message or ''}".strip()
    return cite(Source.FIELD, subject, f"status.conditions[{condition.type}]", quote, condition.last_transition_time)
