"""The port over a recording: the same plan and the same requests, and nothing that could change anything.

A recording has no API server: a dry run is unsupported there and says only what the request itself would change in the recorded object,
a check stays inconclusive, and an access review lets the rehearsal go on with a reason that says nothing was reviewed. `requests` keeps
what would have been sent, in order, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from cluster.difference import difference, removal
from cluster.reading import Missing
from cluster.recorded import RecordedReader
from guardrails.action import TARGET_RESOURCES, AccessRule, Action, Target
from guardrails.change import needs
from guardrails.errors import TargetNotFound
from guardrails.grant import Grant
from guardrails.manifest import merged
from guardrails.port import AccessVerdict, DryRun, Observed, Receipt, Subject
from guardrails.proposal import REHEARSAL_UID
from guardrails.request import BoundRequest
from guardrails.verification import Check, CheckResult, Query


class RehearsedRequest(Struct, frozen=True):
    """One request that would have been sent. `query` is sorted; `body` is the JSON text of it."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    content_type: str
    body: str

    def __str__(self) -> str:
        parameters = "&".join(f"{key}={value}" for key, value in self.query)
        return f"{self.method} {self.path}{'?' + parameters if parameters else ''}\nContent-Type: {self.content_type}\n\n{self.body}"


class Rehearsal:
    """`ClusterPort` over a recording. Whether a grant fits is checked as strictly as by the live port."""

    rehearsal = True

    def __init__(self, recording: RecordedReader, clock: Callable[[], datetime]) -> None:
        self.cluster = recording.cluster
        self.requests: list[RehearsedRequest] = []
        self._recording = recording
        self._clock = clock

    async def cluster_uid(self) -> str:
        """The recorded uid of the namespace kube-system, marked as rehearsed: what was approved over a recording, without a dry run,
        fits no live cluster. A fixed word where it was not recorded."""
        found = next((item for item in self._recording.raw_objects("Namespace") if item["metadata"]["name"] == "kube-system"), None)
        return f"{REHEARSAL_UID}:{found['metadata'].get('uid') or ''}" if found else REHEARSAL_UID

    async def observe(self, action: Action, target: Target) -> Observed:
        found = await self._find(target.kind, target.namespace, target.name)
        if found is None:
            raise TargetNotFound(f"{target} is not in the recording of {self.cluster}.", next_step="Check name and namespace.")
        metadata = found["metadata"]
        if target.uid is not None and metadata.get("uid") not in (None, target.uid):
            raise TargetNotFound(f"{target} in the recording of {self.cluster} is another object (uid {metadata.get('uid')}).")
        related: list[dict[str, Any]] = []
        missing: list[str] = []
        for query in needs(action, found):
            objects = self._query(query)
            related += objects
            if not objects and not self._recording.holds(query.resource.kind):
                missing.append(f"{query.resource.plural} were not recorded")
        # Hand-made recordings leave uids out; a name is then the best identity there is.
        uid = str(metadata.get("uid") or f"recorded-{target.name}")
        version = str(found.get("apiVersion", "")).rpartition("/")[2]
        served = {"version": version} if version in target.resource.versions else {}
        seen = target.model_copy(update={"uid": uid, "generation": metadata.get("generation"), **served})
        return Observed(await self.cluster_uid(), seen, found, tuple(related), tuple(missing), self._recording.now())

    async def review_access(self, rules: tuple[AccessRule, ...], target: Target, subject: Subject | None) -> tuple[AccessVerdict, ...]:
        """A recording has no permissions to review: everything is allowed in a rehearsal, and the reason says what that is worth."""
        return tuple(AccessVerdict(rule, True, "rehearsal: permissions were not recorded") for rule in rules)

    async def dry_run(self, request: BoundRequest) -> DryRun:
        """What the request would change in the recorded object, as far as it alone tells: no server fills in, refuses or mutates."""
        found = await self._subject(request)
        changes = difference(found, merged(found, request.template.body)) if request.method == "PATCH" else removal(found)
        return DryRun(False, changes, reason="a recording has no API server to try it on", supported=False)

    async def apply(self, grant: Grant, request: BoundRequest) -> Receipt:
        grant.verify(request, now=self._clock(), cluster_uid=await self.cluster_uid())
        rehearsed = rehearse(request)
        self.requests.append(rehearsed)
        return Receipt("rehearsed", str(rehearsed), uid=request.uid)

    async def check(self, check: Check) -> CheckResult:
        return CheckResult("inconclusive", "a recording does not change, so nothing can be verified on it")

    async def _subject(self, request: BoundRequest) -> dict[str, Any]:
        """The recorded object that a request is about. Raises TargetNotFound."""
        *before, plural, name = request.object_path.split("/")
        for resource in TARGET_RESOURCES.values():
            namespace = before[-1] if resource.namespaced else None
            paths = {resource.at(version).path(namespace, name) for version in resource.versions}
            if resource.plural == plural and request.object_path in paths:
                found = await self._find(resource.kind, namespace, name)
                if found is not None:
                    return found
        raise TargetNotFound(f"{request.object_path} is not in the recording of {self.cluster}.", next_step="Check name and namespace.")

    async def _find(self, kind: str, namespace: str | None, name: str) -> dict[str, Any] | None:
        known = await self._recording.find_kind(kind)
        found = await self._recording.raw(known, namespace, name) if known is not None else None
        return None if found is None or isinstance(found, Missing) else found

    def _query(self, query: Query) -> list[dict[str, Any]]:
        return [
            item
            for item in self._recording.raw_objects(query.resource.kind)
            if (query.name is None or item["metadata"]["name"] == query.name)
            and (query.namespace is None or item["metadata"].get("namespace") == query.namespace)
            and _selected(item["metadata"].get("labels") or {}, query.label_selector)
            and _fields_match(item, query.field_selector)
        ]


def rehearse(request: BoundRequest) -> RehearsedRequest:
    """The request exactly as the live port would send it."""
    body = json.dumps(request.body(), indent=2, sort_keys=True)
    return RehearsedRequest(request.method, request.path, tuple(sorted(request.query(dry_run=False).items())), request.content_type, body)


def _selected(labels: Mapping[str, Any], selector: str | None) -> bool:
    """The `labelSelector` forms that `guardrails.change.selector` writes: `k=v`, `k in (a,b)`, `k notin (a,b)`, `k`, `!k`."""
    for requirement in _requirements(selector or ""):
        key, _, rest = requirement.partition(" ")
        if rest.startswith(("in (", "notin (")):
            word, _, listed = rest.partition(" ")
            if (labels.get(key) in listed.strip("()").split(",")) != (word == "in"):
                return False
        elif "=" in requirement:
            name, _, value = requirement.partition("=")
            if labels.get(name) != value:
                return False
        elif requirement.startswith("!"):
            if requirement[1:] in labels:
                return False
        elif requirement not in labels:
            return False
    return True


def _requirements(selector: str) -> list[str]:
    """Split at the commas outside parentheses."""
    parts, depth, current = [], 0, ""
    for letter in selector:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += letter
    return [part for part in (*parts, current) if part]


def _fields_match(item: Mapping[str, Any], selector: str | None) -> bool:
    for requirement in (selector or "").split(","):
        path, equals, wanted = requirement.partition("=")
        if not equals:
            continue
        value: Any = item
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if (str(value).lower() if isinstance(value, bool) else str(value or "")) != wanted:
            return False
    return True
