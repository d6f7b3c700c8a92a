"""How guardrails meet a cluster: the port that `cluster.write` (live) and `cluster.rehearsal` (a recording) implement.

Objects cross it as plain dictionaries of the Kubernetes API, requests as `guardrails.request`. `apply` cannot be called without a
grant and must call `grant.verify` itself. Answers of the cluster are values; exceptions are for having no answer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Protocol

from msgspec import Struct

from guardrails.action import AccessRule, Action, Target
from guardrails.grant import Grant
from guardrails.request import ApiRequest, BoundRequest
from guardrails.verification import Check, CheckResult


class Observed(Struct, frozen=True):
    """What planning looks at: the raw target and the raw objects that `guardrails.change.needs` named, read just now.

    `target` carries uid and generation. `missing` holds one sentence per query that could not be answered.
    Objects have apiVersion and kind set, also those that came out of a list.
    """

    cluster_uid: str
    target: Target
    object: dict[str, Any]
    related: tuple[dict[str, Any], ...] = ()
    missing: tuple[str, ...] = ()
    observed_at: datetime | None = None

    def subject(self, request: ApiRequest) -> dict[str, Any] | None:
        """The object that a request is about, None when it was not seen."""
        if request.uid is None:
            return self.object
        return next((raw for raw in self.related if raw.get("metadata", {}).get("uid") == request.uid), None)

    def bind(self, request: ApiRequest, receipt: str) -> BoundRequest:
        """The request bound to its object as seen here."""
        found = self.subject(request) or {}
        version = str(found.get("metadata", {}).get("resourceVersion", ""))
        return request.bind(receipt=receipt, uid=request.uid or self.target.uid or "", resource_version=version)


class Subject(Struct, frozen=True):
    """A human as the cluster's authenticator would name them."""

    user: str
    groups: tuple[str, ...] = ()


class AccessVerdict(Struct, frozen=True):
    """The answer to one access review."""

    rule: AccessRule
    allowed: bool
    reason: str = ""


class FieldChange(Struct, frozen=True):
    """One field that a dry run changed. `before` and `after` are short renderings, None where the field is absent."""

    path: str
    before: str | None
    after: str | None


class DryRun(Struct, frozen=True):
    """The answer to a server-side dry run. `supported` is False where nothing could be tried: then the change is unvalidated."""

    ok: bool
    changes: tuple[FieldChange, ...] = ()
    reason: str = ""
    supported: bool = True
    status: int | None = None


class Receipt(Struct, frozen=True):
    """What became of one write.

    `applied`: the API server answered 2xx. `conflict`: 409, nothing happened. `gone`: 404, the object does not exist.
    `refused`: any other 4xx, nothing happened. `unknown`: no answer, or 5xx: it may have happened.
    `rehearsed`: a port that cannot write; nothing happened.
    """

    outcome: Literal["applied", "conflict", "gone", "refused", "unknown", "rehearsed"]
    detail: str = ""
    status: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    audit_id: str | None = None


class ClusterPort(Protocol):
    """One cluster. Methods raise `errors.TargetNotFound`, `errors.Forbidden` and `errors.Unreachable`, nothing of the client's."""

    @property
    def cluster(self) -> str:
        """The name of the cluster, for people."""
        ...

    @property
    def rehearsal(self) -> bool:
        """Whether this port cannot write at all."""
        ...

    async def observe(self, action: Action, target: Target) -> Observed:
        """GET the target, then what `guardrails.change.needs(action, object)` names. Raises TargetNotFound."""
        ...

    async def review_access(self, rules: tuple[AccessRule, ...], target: Target, subject: Subject | None) -> tuple[AccessVerdict, ...]:
        """One SelfSubjectAccessReview per rule on the target; with a subject, a SubjectAccessReview about that human."""
        ...

    async def dry_run(self, request: BoundRequest) -> DryRun:
        """Send the request with `dryRun=All` and say what would change."""
        ...

    async def apply(self, grant: Grant, request: BoundRequest) -> Receipt:
        """Verify the grant, then send the request once, without retrying. Raises InvalidGrant before anything is sent."""
        ...

    async def check(self, check: Check) -> CheckResult:
        """Read what `guardrails.verification.queries(check)` names and `judge` it, once, without waiting."""
        ...
