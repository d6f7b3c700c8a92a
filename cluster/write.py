"""The one door that writes to a cluster: `guardrails.port.ClusterPort` over the live API.

Every write carries a grant that this module verifies itself, goes out exactly once, and holds uid and resourceVersion as the
precondition of the request. It never impersonates (an executor acts as itself, and admission sees it so), never retries, never
forces a conflict, and has no method that takes a free-form request.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from cluster.connection import Connection
from cluster.difference import difference, removal
from cluster.errors import ClusterError, CredentialError
from cluster.rawobject import tidy
from cluster.response import Response, decode_status
from guardrails.action import AccessRule, Action, Target
from guardrails.change import needs
from guardrails.errors import Forbidden, TargetNotFound, Unreachable
from guardrails.grant import Grant
from guardrails.port import AccessVerdict, DryRun, Observed, Receipt, Subject
from guardrails.redact import present
from guardrails.request import BoundRequest
from guardrails.verification import Check, CheckResult, Query, judge, queries

READ_PAGE = 500
READ_LIMIT = 5_000
WRITE_SECONDS = 30.0
DRY_RUN_ATTEMPTS = 5
DETAIL_LIMIT = 500
REVIEW_PATH = "/apis/authorization.k8s.io/v1"

Outcome = Literal["applied", "conflict", "gone", "refused", "unknown"]


class KubeWriter:
    """`ClusterPort` for one cluster, as the account of its connection. Closing connections is their opener's business.

    With a second connection, dry runs and reviews of humans are that account's: what nobody has approved yet then never leaves as
    the account that can store it. `cluster` is what people call the cluster, where that is not the context of the connection.
    """

    rehearsal = False

    def __init__(
        self, connection: Connection, clock: Callable[[], datetime], trying: Connection | None = None, cluster: str | None = None
    ) -> None:
        trying = trying or connection
        if connection.impersonating or trying.impersonating:
            raise ClusterError(f"writes to {cluster or connection.cluster} never impersonate. Connect with the executor's own account.")
        self.cluster = cluster or connection.cluster
        self._connection = connection
        self._trying = trying
        self._clock = clock
        self._cluster_uid: str | None = None

    async def cluster_uid(self) -> str:
        """The uid of the namespace kube-system, which is what tells one cluster from another. Read once."""
        if self._cluster_uid is None:
            self._cluster_uid = await self._uid_of(self._connection)
        return self._cluster_uid

    async def observe(self, action: Action, target: Target) -> Observed:
        uid = await self.cluster_uid()
        target, found = await self._target(target)
        related: list[dict[str, Any]] = []
        missing: list[str] = []
        for query in needs(action, found):
            objects, gap = await self._query(query)
            related += objects
            if gap:
                missing.append(gap)
        metadata = found.get("metadata", {})
        seen = target.model_copy(update={"uid": metadata.get("uid"), "generation": metadata.get("generation")})
        return Observed(uid, seen, found, tuple(related), tuple(missing), self._clock())

    async def review_access(self, rules: tuple[AccessRule, ...], target: Target, subject: Subject | None) -> tuple[AccessVerdict, ...]:
        return tuple([await self._review(rule, target, subject) for rule in rules])

    async def dry_run(self, request: BoundRequest) -> DryRun:
        """Sends the request with `dryRun=All`. A webhook that does not support dry runs makes it unsupported, not failed.

        It is tried against the object as it is now: controllers write the status of a sick object all the time, and a version that is
        a second old would make every such dry run fail.
        """
        if self._trying is not self._connection and await self._uid_of(self._trying) != await self.cluster_uid():
            raise Unreachable(f"dry runs of {self.cluster} would reach another cluster.", next_step="Correct dry_run_context.")
        for _ in range(DRY_RUN_ATTEMPTS):
            before = _decoded(self._readable(await self._trying.get(request.object_path), request.object_path))
            fresh = request.model_copy(update={"resource_version": str(before.get("metadata", {}).get("resourceVersion", ""))})
            response = await self._send(self._trying, fresh, dry_run=True)
            if response.status != 409:
                break
        if response.ok:
            if request.method != "PATCH":
                return DryRun(True, removal(before))
            return DryRun(True, difference(before, _decoded(response)))
        if response.status == 0:
            raise Unreachable(f"{self.cluster} did not answer the dry run: {response.detail}.", next_step="Try again.")
        if response.status == 404:
            raise TargetNotFound(f"{request.path} does not exist in {self.cluster}.")
        said = _said(response)
        return DryRun(False, reason=said, supported="does not support dry run" not in said, status=response.status)

    async def apply(self, grant: Grant, request: BoundRequest) -> Receipt:
        grant.verify(request, now=self._clock(), cluster_uid=await self.cluster_uid())
        response = await self._send(self._connection, request, dry_run=False)
        if response.ok:
            try:
                metadata = _decoded(response).get("metadata") or {}
            except Unreachable as error:
                # A proxy may have said yes: whether the server did, only a look at the object tells.
                return Receipt("unknown", error.message, response.status, audit_id=response.audit_id)
            return Receipt(
                "applied",
                status=response.status,
                uid=metadata.get("uid") or request.uid,
                resource_version=metadata.get("resourceVersion"),
                generation=metadata.get("generation"),
                audit_id=response.audit_id,
            )
        detail = response.detail if response.status == 0 else _said(response)
        if not response.sent:
            return Receipt("refused", f"nothing was sent: {detail}")
        return Receipt(_outcome(response), detail, response.status or None, audit_id=response.audit_id)

    async def check(self, check: Check) -> CheckResult:
        objects: list[dict[str, Any]] = []
        for query in queries(check):
            found, gap = await self._query(query)
            objects += found
            if gap:
                return CheckResult("inconclusive", gap)
        return judge(check, tuple(objects))

    async def _send(self, connection: Connection, request: BoundRequest, *, dry_run: bool) -> Response:
        body = request.body()
        if dry_run and request.method == "DELETE":
            # A DELETE with a body takes its options from there and ignores the query: `dryRun` in the query alone would delete
            # (kubernetes/kubernetes staging/src/k8s.io/apiserver/pkg/endpoints/handlers/delete.go, DeleteResource).
            body = {**body, "dryRun": ["All"]}
        try:
            return await connection.request(
                request.method,
                request.path,
                request.query(dry_run=dry_run),
                body=body,
                content_type=request.content_type,
                seconds=WRITE_SECONDS,
            )
        except CredentialError as error:
            raise Unreachable(f"nothing was sent to {self.cluster}: {error}") from error

    async def _uid_of(self, connection: Connection) -> str:
        response = await connection.get("/api/v1/namespaces/kube-system")
        uid = _decoded(self._readable(response, "namespace kube-system")).get("metadata", {}).get("uid")
        if not isinstance(uid, str) or not uid:
            raise Unreachable(f"{self.cluster} did not say which cluster it is.", next_step="Check what answers at its address.")
        return uid

    async def _target(self, target: Target) -> tuple[Target, dict[str, Any]]:
        """The target in the version that is served, and the object. What was observed before is looked for nowhere else."""
        versions = target.resource.versions if target.uid is None else (target.version,)
        for version in versions:
            served = target.model_copy(update={"version": version})
            response = await self._connection.get(served.path)
            if not _unserved(response):
                break
        else:
            known = f"{target.kind} as {target.group or 'core'}/{' or '.join(versions)}, in which alone it is changed here"
            if target.uid is not None:
                raise Unreachable(f"{self.cluster} no longer serves {known}: nothing is known about it.", next_step="Propose it again.")
            raise TargetNotFound(
                f"{self.cluster} does not serve {known}.",
                next_step="Install or update the operator that brings this kind, or change it by that operator's own means.",
            )
        if response.status == 404:
            raise TargetNotFound(f"{target} does not exist in {self.cluster}.", next_step="Check name and namespace.")
        found = tidy(_decoded(self._readable(response, str(target))))
        uid = found.get("metadata", {}).get("uid")
        if target.uid is not None and uid != target.uid:
            raise TargetNotFound(f"{target} in {self.cluster} is another object by now (uid {uid}).", next_step="Diagnose again.")
        return served, {"apiVersion": _api_version(served.group, served.version), "kind": served.kind, **found}

    async def _query(self, query: Query) -> tuple[list[dict[str, Any]], str | None]:
        """The objects of a query, and a sentence when they could not be read or not all of them."""
        resource = query.resource
        typed = {"apiVersion": _api_version(resource.group, resource.version), "kind": resource.kind}
        what = f"{resource.plural} in {query.namespace}" if query.namespace else resource.plural
        path = resource.path(query.namespace, query.name)
        if query.name:
            response = await self._connection.get(path)
            if response.ok:
                return [typed | tidy(_decoded(response))], None
            gone = response.status == 404 and not _unserved(response)
            return [], None if gone else f"{resource.kind} {query.name} could not be read: {_why(response)}"
        objects: list[dict[str, Any]] = []
        selectors = {"labelSelector": query.label_selector, "fieldSelector": query.field_selector}
        parameters = {"limit": str(READ_PAGE), **{key: value for key, value in selectors.items() if value}}
        while True:
            response = await self._connection.get(path, parameters)
            if not response.ok:
                return objects, f"{what} could not be read: {_why(response)}"
            page = _decoded(response)
            objects += (typed | tidy(item) for item in page.get("items") or () if isinstance(item, dict))
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return objects, None
            if len(objects) >= READ_LIMIT:
                return objects, f"only the first {len(objects)} {what} were read"
            parameters["continue"] = token

    async def _review(self, rule: AccessRule, target: Target, subject: Subject | None) -> AccessVerdict:
        attributes = {"verb": rule.verb, "group": rule.group, "resource": rule.resource, "subresource": rule.subresource}
        if rule.resource == target.resource.plural and rule.group == target.group:
            attributes["name"] = target.name
        if target.home:
            attributes["namespace"] = target.home
        asking, kind, who = self._connection, "SelfSubjectAccessReview", {}
        body: dict[str, Any] = {"apiVersion": "authorization.k8s.io/v1"}
        inside = ""
        if subject is not None:
            asking, kind, who = self._trying, "SubjectAccessReview", {"user": subject.user, "groups": list(subject.groups)}
            if target.home:
                # The review that lives in a namespace can be granted there, to an account confined to it.
                kind, inside = f"Local{kind}", f"namespaces/{target.home}/"
                body["metadata"] = {"namespace": target.home}
        path = f"{kind.lower()}s"
        body |= {"kind": kind, "spec": {"resourceAttributes": attributes, **who}}
        response = await asking.request("POST", f"{REVIEW_PATH}/{inside}{path}", body=body)
        status = _decoded(self._readable(response, f"access review of {rule}", f"create on {path}.authorization.k8s.io")).get("status")
        status = status if isinstance(status, dict) else {}
        reason = status.get("reason") or status.get("evaluationError") or ""
        return AccessVerdict(rule, status.get("allowed") is True and status.get("denied") is not True, present(str(reason), DETAIL_LIMIT))

    def _readable(self, response: Response, what: str, rule: str = "") -> Response:
        """The response, when it is a success; otherwise the exception that says what stands in the way."""
        if response.ok:
            return response
        if response.status == 404:
            raise TargetNotFound(f"{what} does not exist in {self.cluster}.")
        if response.status in (401, 403):
            step = f"Grant the executor {rule or 'get on it'}." if response.status == 403 else "Log in to the cluster again."
            raise Forbidden(f"{self.cluster} refuses {what}: {_said(response)}.", next_step=step)
        raise Unreachable(f"{self.cluster} did not answer for {what}: {_why(response)}.", next_step="Try again when it answers.")


def _outcome(response: Response) -> Outcome:
    """What an answer says about whether the write happened. 5xx and silence prove neither."""
    if response.status == 409:
        return "conflict"
    if response.status == 404 and not _unserved(response):
        return "gone"
    return "refused" if 400 <= response.status < 500 else "unknown"


def _unserved(response: Response) -> bool:
    """Whether nothing serves the path: then the answer is plain text, where a missing object is told by a Status."""
    return response.status == 404 and decode_status(response.body).reason != "NotFound"


def _decoded(response: Response) -> dict[str, Any]:
    try:
        document = json.loads(response.body)
    except ValueError as error:
        raise Unreachable("the API server's answer is not JSON.", next_step="Look for a proxy that cuts responses.") from error
    return document if isinstance(document, dict) else {}


def _said(response: Response) -> str:
    """The server's words, with the causes that a refusal by a budget or a policy carries."""
    status = decode_status(response.body)
    causes = [cause.message or cause.reason for cause in (status.details.causes if status.details else None) or ()]
    extra = f" ({'; '.join(causes)})" if causes and not all(cause in status.message for cause in causes) else ""
    return present(f"{status.message or f'HTTP {response.status}'}{extra}", DETAIL_LIMIT)


def _why(response: Response) -> str:
    return response.detail if response.status == 0 else _said(response)


def _api_version(group: str, version: str) -> str:
    return f"{group}/{version}" if group else version
