"""A cluster in memory behind the port: preconditions, generations, merge patches and controllers as the API server has them.

What it persists survives the death of whoever called it, and `writes` is the witness of everything that arrived.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from guardrails.action import TARGET_RESOURCES, AccessRule, Action, Target
from guardrails.change import needs
from guardrails.clock import Clock
from guardrails.errors import TargetNotFound
from guardrails.grant import Grant
from guardrails.port import AccessVerdict, DryRun, FieldChange, Observed, Receipt, Subject
from guardrails.proposal import REHEARSAL_UID
from guardrails.request import BoundRequest
from guardrails.verification import Check, CheckResult, Query, judge, queries


class FakeCluster:
    """`heal` runs after every write and plays the controllers; `forbid` holds verbs that access reviews refuse."""

    def __init__(self, clock: Clock, *objects: dict[str, Any], rehearsal: bool = False) -> None:
        self._clock = clock
        self._objects = {self._key(o): o for o in copy.deepcopy(objects)}
        self._version = 100
        self.rehearsal = rehearsal
        self.cluster = "lab"
        self.cluster_uid = "uid-of-lab"
        self.writes: list[BoundRequest] = []
        self.dry_runs: list[BoundRequest] = []
        self.forbid: set[str] = set()
        self.forbid_subject: set[str] = set()
        self.dry_run_reason = ""
        self.answers: list[Receipt] = []
        self.lose_answer = False
        self.before_apply: Callable[[], None] = lambda: None
        self.heal: Callable[[dict[str, Any]], None] = lambda _raw: None
        self.refuse_eviction: Callable[[dict[str, Any]], str] = lambda _raw: ""

    def _uid(self) -> str:
        return REHEARSAL_UID if self.rehearsal else self.cluster_uid

    @staticmethod
    def _key(raw: dict[str, Any]) -> tuple[str, str | None, str]:
        return raw["kind"], raw["metadata"].get("namespace"), raw["metadata"]["name"]

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        return self._objects[(kind, namespace, name)]

    def put(self, raw: dict[str, Any]) -> None:
        self._objects[self._key(raw)] = raw

    def remove(self, kind: str, name: str, namespace: str | None = None) -> None:
        del self._objects[(kind, namespace, name)]

    def edit(self, raw: dict[str, Any]) -> None:
        """Somebody else changes the spec of an object."""
        self._version += 1
        raw["metadata"]["resourceVersion"] = str(self._version)
        raw["metadata"]["generation"] = raw["metadata"].get("generation", 1) + 1

    def touch(self, raw: dict[str, Any]) -> None:
        """A controller writes the status of an object."""
        self._version += 1
        raw["metadata"]["resourceVersion"] = str(self._version)

    async def observe(self, action: Action, target: Target) -> Observed:
        raw = self._objects.get((target.kind, target.namespace, target.name))
        if raw is None:
            raise TargetNotFound(f"{target} does not exist.")
        metadata = raw["metadata"]
        found = target.model_copy(update={"uid": metadata["uid"], "generation": metadata.get("generation")})
        related = tuple(copy.deepcopy(o) for query in needs(action, raw) for o in self._select(query))
        return Observed(self._uid(), found, copy.deepcopy(raw), related)

    def _select(self, query: Query) -> list[dict[str, Any]]:
        chosen = []
        for (kind, namespace, name), raw in self._objects.items():
            if kind == query.resource.kind and query.name in (None, name) and query.namespace in (None, namespace) and _fits(raw, query):
                chosen.append(raw)
        return chosen

    async def review_access(self, rules: tuple[AccessRule, ...], target: Target, subject: Subject | None) -> tuple[AccessVerdict, ...]:
        refused = self.forbid if subject is None else self.forbid_subject
        return tuple(AccessVerdict(rule, rule.verb not in refused, "no RBAC rule") for rule in rules)

    async def dry_run(self, request: BoundRequest) -> DryRun:
        self.dry_runs.append(request)
        if self.dry_run_reason:
            return DryRun(ok=False, reason=self.dry_run_reason)
        return DryRun(ok=True, changes=(FieldChange("spec", "before", "after"),))

    async def apply(self, grant: Grant, request: BoundRequest) -> Receipt:
        grant.verify(request, now=self._clock.now(), cluster_uid=self._uid())
        if self.rehearsal:
            return Receipt("rehearsed", "a recording cannot change")
        self.before_apply()
        if self.answers:
            return self.answers.pop(0)
        receipt = self._write(request)
        if self.lose_answer:
            self.lose_answer = False
            return Receipt("unknown", "the connection was lost")
        return receipt

    def _write(self, request: BoundRequest) -> Receipt:
        raw = next((o for o in self._objects.values() if _path_of(o) == request.object_path), None)
        if raw is None:
            return Receipt("gone", "not found", 404)
        body = request.body()
        holder = {"PATCH": body.get("metadata"), "DELETE": body.get("preconditions")}
        wanted = holder.get(request.method) or body["deleteOptions"]["preconditions"]
        found = raw["metadata"]
        if wanted["uid"] != found["uid"] or wanted.get("resourceVersion", found["resourceVersion"]) != found["resourceVersion"]:
            return Receipt("conflict", "the object has been modified", 409)
        if request.method == "POST":
            refusal = self.refuse_eviction(raw)
            if refusal:
                return Receipt("refused", refusal, 429)
        self.writes.append(request)
        self._version += 1
        if request.method != "PATCH":
            del self._objects[self._key(raw)]
        else:
            before = copy.deepcopy(raw.get("spec"))
            merge(raw, body)
            raw["metadata"]["resourceVersion"] = str(self._version)
            if raw.get("spec") != before and "generation" in raw["metadata"]:
                raw["metadata"]["generation"] += 1
        self.heal(raw)
        return Receipt("applied", "", 200, raw["metadata"]["uid"], str(self._version), raw["metadata"].get("generation"), "audit-1")

    async def check(self, check: Check) -> CheckResult:
        found = tuple(o for query in queries(check) for o in self._select(query))
        return judge(check, found)


def _fits(raw: dict[str, Any], query: Query) -> bool:
    """The field selectors that planning uses."""
    field, _, wanted = (query.field_selector or "").partition("=")
    value: Any = raw
    for part in field.split(".") if field else ():
        value = value.get(part) if isinstance(value, dict) else None
    return not field or value == wanted


def _path_of(raw: dict[str, Any]) -> str:
    metadata = raw["metadata"]
    resource = TARGET_RESOURCES.get(raw["kind"])
    return resource.path(metadata.get("namespace"), metadata["name"]) if resource else ""


def merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            inner = target.get(key)
            if not isinstance(inner, dict):
                inner = target[key] = {}
            merge(inner, value)
        else:
            target[key] = copy.deepcopy(value)


def template(image: str, **extra: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image, **extra}]}}


def deployment(image: str = "web:2", replicas: int = 3, name: str = "web") -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "generation": 2,
            "resourceVersion": "50",
            "annotations": {"deployment.kubernetes.io/revision": "2"},
        },
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template(image)},
        "status": {"observedGeneration": 2, "replicas": replicas, "updatedReplicas": 1, "readyReplicas": replicas - 1},
    }


def replica_set(revision: int, image: str, owner: str = "web") -> dict[str, Any]:
    inner = template(image)
    inner["metadata"] = {"labels": {"app": "web", "pod-template-hash": f"h{revision}"}, "creationTimestamp": None}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{owner}-h{revision}",
            "namespace": "shop",
            "uid": f"uid-{owner}-h{revision}",
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [{"kind": "Deployment", "name": owner, "uid": f"uid-{owner}", "controller": True}],
        },
        "spec": {"replicas": 3, "template": inner},
        "status": {"readyReplicas": 3},
    }


def node(name: str = "gpu-1", *, unschedulable: bool = False, pool: str = "a100", gpus: int = 8) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "60", "labels": {"karpenter.sh/nodepool": pool}},
        "spec": {"unschedulable": True} if unschedulable else {},
        "status": {"capacity": {"cpu": "64", "nvidia.com/gpu": str(gpus)}},
    }


def pod(name: str = "web-h2-x", *, ready: bool = False, owner: str | None = "web-h2") -> dict[str, Any]:
    owners = [{"kind": "ReplicaSet", "name": owner, "uid": f"uid-{owner}", "controller": True}] if owner else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "generation": 1,
            "resourceVersion": "70",
            "labels": {"app": "web"},
            "ownerReferences": owners,
        },
        "spec": {"containers": [{"name": "web", "image": "web:2"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def roll_out(raw: dict[str, Any]) -> None:
    """A controller that brings every workload to its spec at once."""
    if raw["kind"] in ("Deployment", "StatefulSet"):
        replicas = raw["spec"]["replicas"]
        raw["status"] = {
            "observedGeneration": raw["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas,
        }


def break_down(raw: dict[str, Any]) -> None:
    """A controller whose rollout never gets anywhere."""
    if raw["kind"] == "Deployment":
        raw["status"] = {
            "observedGeneration": raw["metadata"]["generation"],
            "replicas": raw["spec"]["replicas"],
            "updatedReplicas": 1,
            "readyReplicas": 0,
            "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "lastUpdateTime": "2099-01-01T00:00:00Z"}],
        }
