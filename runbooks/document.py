"""The one JSON form of a diagnosis, stable since 0.1 and described in docs/diagnosis-format.md and docs/diagnosis.schema.json.

The command line, the MCP tools and everything that stores a diagnosis write this form and no other. It adds nothing that the
diagnosis does not say and leaves nothing out; whoever has to show less shortens the document and says so in `cut`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.reading import Missing
from cluster.reference import ObjectRef
from runbooks.candidate import Candidate
from runbooks.finding import Cause, Diagnosis, Evidence, Impact

FORMAT = "smokejumper.diagnosis/1"


def diagnosis_document(diagnosis: Diagnosis, remedies: Sequence[Sequence[Candidate]] = (), *, seconds: float = 0.0) -> dict[str, Any]:
    """The diagnosis as plain JSON types. `remedies` are the candidates of each cause, in the order of the causes; `seconds` is what
    the investigation took, the only member that differs between two runs over the same observations."""
    offered = [*remedies, *[()] * (len(diagnosis.causes) - len(remedies))]
    return {
        "format": FORMAT,
        "healthy": diagnosis.healthy,
        "cluster": diagnosis.cluster,
        "scope": diagnosis.scope,
        "now": _time(diagnosis.now),
        "causes": [_cause(cause, candidates) for cause, candidates in zip(diagnosis.causes, offered, strict=True)],
        "advisories": [_cause(item, ()) for item in diagnosis.advisories],
        "ruled_out": [{"code": item.code, "object": object_document(item.object), "why": item.why} for item in diagnosis.ruled_out],
        "not_proven": [
            {"code": item.code, "object": object_document(item.object), "text": item.text, "lacks": item.lacks}
            for item in diagnosis.not_proven
        ],
        "cannot_see": [_missing(item) for item in diagnosis.cannot_see],
        "cost": {"requests": diagnosis.cost.requests, "bytes": diagnosis.cost.bytes, "seconds": round(seconds, 3)},
    }


def _cause(cause: Cause, candidates: Sequence[Candidate]) -> dict[str, Any]:
    return {
        "object": object_document(cause.object),
        "code": cause.code,
        "class": cause.class_ or None,
        "title": cause.title,
        "explanation": cause.explanation,
        "certainty": cause.certainty.word,
        "severity": cause.severity,
        "since": _time(cause.since),
        "page": cause.page or None,
        "evidence": [_evidence(item) for item in cause.evidence],
        "symptoms": [{"code": item.code, "object": object_document(item.object), "text": item.text} for item in cause.symptoms],
        "handover": cause.handover or None,
        "impact": _impact(cause.impact),
        "remedies": [_remedy(item) for item in candidates],
    }


def _impact(item: Impact | None) -> dict[str, Any] | None:
    if item is None:
        return None
    return {"devices": item.devices, "per_hour": item.per_hour, "currency": item.currency or None, "text": item.text}


def _evidence(item: Evidence) -> dict[str, Any]:
    return {
        "id": item.id,
        "source": item.source.value,
        "object": object_document(item.object),
        "path": item.path,
        "quote": item.quote,
        "at": _time(item.at),
    }


def _remedy(item: Candidate) -> dict[str, Any]:
    return {
        "action": item.action,
        "target": object_document(item.target),
        "parameters": dict(item.parameters),
        "why": item.why,
        "precondition": item.precondition,
        "inverse": item.inverse,
        "verification": item.verification,
        "evidence": list(item.evidence),
    }


def _missing(item: Missing) -> dict[str, Any]:
    return {
        "what": item.what,
        "why": item.why.value,
        "detail": item.detail,
        "next_step": item.next_step,
        "kind": item.kind,
        "namespace": item.namespace,
    }


def object_document(ref: ObjectRef) -> dict[str, str | None]:
    """An object as every document names it."""
    return {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name}


def _time(at: datetime | None) -> str | None:
    """RFC 3339 in UTC, to the second or as fine as it was observed."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at is not None else None
