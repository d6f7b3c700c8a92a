"""How far a change came: the grant of each step, and what the objects and the recorded outcome say about what is done. Pure.

The outcome of a record remembers which requests are done and the generations they left; the objects are asked whenever it may not know.
"""

from __future__ import annotations

from typing import Any, Literal

from guardrails.grant import Grant
from guardrails.manifest import annotations_of, holds
from guardrails.port import Observed, Receipt
from guardrails.record import Record
from guardrails.request import RECEIPT_ANNOTATION, ApiRequest
from guardrails.verification import MIG_STATE

Purpose = Literal["change", "rollback"]
OPERATORS_ANSWERS = frozenset({MIG_STATE})


def grant_of(record: Record, purpose: Purpose) -> Grant:
    """The permission of this claim. It is made from the sealed document alone."""
    sealed = record.sealed
    requests = sealed.change.requests if purpose == "change" else sealed.change.inverse
    return Grant(
        proposal_id=record.id,
        proposal_digest=record.digest or "",
        cluster_uid=sealed.cluster_uid,
        target_uid=sealed.target.uid or "",
        request_digests=tuple(request.digest for request in requests),
        purpose=purpose,
        fence=record.fence,
        not_after=record.lease_until or record.updated_at,
    )


def is_done(request: ApiRequest, observed: Observed, receipt: str) -> bool:
    """Whether the effect of a request is there: what it removes is gone or going, what it changes carries the receipt.

    A write to a subresource leaves no receipt; there the fields themselves tell.
    """
    found = observed.subject(request)
    if request.removes:
        return (found is None and not observed.missing) or bool((found or {}).get("metadata", {}).get("deletionTimestamp"))
    if found is None:
        return False
    return holds(found, request.body) if request.subresource else annotations_of(found).get(RECEIPT_ANNOTATION) == receipt


def is_ours(record: Record, number: int, observed: Observed) -> bool:
    """Whether the object is as our change left it: our receipt, and our generation or, on kinds that have none, our fields."""
    request = record.sealed.change.requests[number]
    found = observed.subject(request)
    if found is None or not is_done(request, observed, grant_of(record, "change").receipt):
        return False
    generation = found.get("metadata", {}).get("generation")
    if generation is None:
        return holds(found, _without_answers(request.body))
    return bool(generation == record.outcome.get("generations", {}).get(str(number)))


def _without_answers(body: dict[str, Any]) -> dict[str, Any]:
    """A patch without the labels in which an operator answers: that it has answered is no sign of somebody else's hand."""
    metadata = body.get("metadata", {})
    labels = {key: value for key, value in metadata.get("labels", {}).items() if key not in OPERATORS_ANSWERS}
    return {**body, "metadata": {**metadata, "labels": labels}}


def undoable(record: Record) -> tuple[int, ...]:
    """The numbers of the requests that were done and have an inverse, in the order in which they are undone."""
    done = record.outcome.get("done", ())
    return tuple(n for n in range(len(record.sealed.change.inverse)) if n in done)


def progress(record: Record, request: ApiRequest, receipt: Receipt, number: int, purpose: Purpose) -> dict[str, Any]:
    """What the outcome learns from one receipt of the change: which requests are done, and the generations they left."""
    if purpose != "change" or not (receipt.outcome == "applied" or (receipt.outcome == "gone" and request.removes)):
        return {}
    generations = record.outcome.get("generations", {}) | ({} if receipt.generation is None else {str(number): receipt.generation})
    return {"done": sorted({*record.outcome.get("done", ()), number}), "generations": generations}


def step_number(number: int, purpose: Purpose) -> int:
    return number if purpose == "change" else 1000 + number
