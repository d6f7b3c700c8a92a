"""The closed vocabulary of what may be changed in a cluster, and what each word is allowed to touch.

A model, a person or a runbook can say only these words; parameters are bounded here, before anything else looks at them.
This module refuses free-form patches, commands, selectors and kinds that it does not list. How a word becomes a request is
`guardrails.change`.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Struct
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from guardrails.errors import InvalidAction

REPLICAS_MAX = 10_000
NAME_MAX = 253
LABEL_MAX = 63

# RFC 1123 as the API server checks it (apimachinery validation.IsDNS1123Subdomain and IsDNS1123Label).
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)


def _subdomain(value: str) -> str:
    if len(value) > NAME_MAX or not _SUBDOMAIN.fullmatch(value):
        raise ValueError("not a name of a Kubernetes object (lower-case letters, digits, '-' and '.', at most 253)")
    return value


def _label(value: str) -> str:
    if len(value) > LABEL_MAX or not _LABEL.fullmatch(value):
        raise ValueError("not a name of a namespace (lower-case letters, digits and '-', at most 63)")
    return value


ObjectName = Annotated[str, AfterValidator(_subdomain)]
NamespaceName = Annotated[str, AfterValidator(_label)]
Uid = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]


class Resource(Struct, frozen=True):
    """Where a kind lives in the API: what a path and an RBAC rule are made of."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """The API path of one object, or of the collection."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{inside}/{self.plural}" + (f"/{name}" if name else "")


DEPLOYMENT = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)
STATEFUL_SET = Resource("apps", "v1", "StatefulSet", "statefulsets", namespaced=True)
DAEMON_SET = Resource("apps", "v1", "DaemonSet", "daemonsets", namespaced=True)
REPLICA_SET = Resource("apps", "v1", "ReplicaSet", "replicasets", namespaced=True)
CONTROLLER_REVISION = Resource("apps", "v1", "ControllerRevision", "controllerrevisions", namespaced=True)
JOB = Resource("batch", "v1", "Job", "jobs", namespaced=True)
AUTOSCALER = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", namespaced=True)
DISRUPTION_BUDGET = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", namespaced=True)
POD = Resource("", "v1", "Pod", "pods", namespaced=True)
NODE = Resource("", "v1", "Node", "nodes", namespaced=False)

# What an action may name as its target; nothing else is ever written.
TARGET_RESOURCES: dict[str, Resource] = {r.kind: r for r in (DEPLOYMENT, STATEFUL_SET, DAEMON_SET, POD, NODE)}

TargetKind = Literal["Deployment", "StatefulSet", "DaemonSet", "Pod", "Node"]


class Target(BaseModel):
    """The one object that an action changes. `uid` and `generation` are None until the object was observed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    group: str
    version: str
    kind: TargetKind
    namespace: NamespaceName | None = None
    name: ObjectName
    uid: Uid | None = None
    generation: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None

    @property
    def resource(self) -> Resource:
        return TARGET_RESOURCES[self.kind]

    @property
    def path(self) -> str:
        return self.resource.path(self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"


def target(kind: str, namespace: str | None, name: str) -> Target:
    """A target by the names that people use. Raises InvalidAction for a kind that nothing may change or a name that is none."""
    resource = TARGET_RESOURCES.get(kind)
    if resource is None:
        raise InvalidAction(f"{kind[:80]!r} is no kind that may be changed.", next_step=f"Legal kinds: {', '.join(TARGET_RESOURCES)}.")
    if resource.namespaced and namespace is None:
        raise InvalidAction(f"A {kind} lives in a namespace.", next_step="Name it.")
    try:
        return Target.model_validate(
            {
                "group": resource.group,
                "version": resource.version,
                "kind": resource.kind,
                "namespace": namespace if resource.namespaced else None,
                "name": name,
            }
        )
    except ValidationError as error:
        raise InvalidAction(_first(error)) from error


class AccessRule(Struct, frozen=True, order=True):
    """One thing an account must be allowed to do: the atoms of RBAC and of an access review."""

    verb: str
    group: str
    resource: str
    subresource: str = ""

    def __str__(self) -> str:
        whole = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {whole}/{self.subresource}" if self.subresource else f"{self.verb} {whole}"


Reversibility = Literal["exact", "recreated", "none"]


class Traits(Struct, frozen=True):
    """What is known about an action before any cluster is asked.

    `reversibility`: `exact` has an inverse request, `recreated` is undone by the object's owner, `none` cannot be undone.
    `restarts_pods` and `removes_capacity` are risk facts that policies read. `reads` is what planning lists besides the target.
    """

    kinds: tuple[TargetKind, ...]
    title: str
    reversibility: Reversibility
    write_verb: Literal["patch", "delete"]
    restarts_pods: bool
    removes_capacity: bool
    reads: tuple[Resource, ...] = ()


class _Word(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    traits: ClassVar[Traits]


_ROLLOUTS: tuple[TargetKind, ...] = ("Deployment", "StatefulSet", "DaemonSet")


class RolloutUndo(_Word):
    """Put an earlier pod template back. Without `to_revision`, the newest revision that differs from the current template."""

    action: Literal["rollout_undo"] = "rollout_undo"
    to_revision: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    traits: ClassVar[Traits] = Traits(
        _ROLLOUTS, "roll back to an earlier revision", "exact", "patch", True, False, (REPLICA_SET, CONTROLLER_REVISION)
    )


class RolloutRestart(_Word):
    """Replace all pods of a workload, at the pace of its update strategy."""

    action: Literal["rollout_restart"] = "rollout_restart"
    traits: ClassVar[Traits] = Traits(_ROLLOUTS, "restart all pods", "exact", "patch", True, False)


class Scale(_Word):
    """Set the number of replicas."""

    action: Literal["scale"] = "scale"
    replicas: Annotated[int, Field(ge=0, le=REPLICAS_MAX)]
    traits: ClassVar[Traits] = Traits(
        ("Deployment", "StatefulSet"), "change the number of replicas", "exact", "patch", False, True, (AUTOSCALER,)
    )


class Cordon(_Word):
    """Keep new pods off a node; running pods stay."""

    action: Literal["cordon"] = "cordon"
    traits: ClassVar[Traits] = Traits(("Node",), "keep new pods off the node", "exact", "patch", False, True, (NODE,))


class Uncordon(_Word):
    """Let new pods onto a node again."""

    action: Literal["uncordon"] = "uncordon"
    traits: ClassVar[Traits] = Traits(("Node",), "let pods onto the node again", "exact", "patch", False, False, (NODE,))


class DeletePod(_Word):
    """Delete one pod that a controller will recreate."""

    action: Literal["delete_pod"] = "delete_pod"
    traits: ClassVar[Traits] = Traits(
        ("Pod",),
        "delete the pod; its controller recreates it",
        "recreated",
        "delete",
        True,
        False,
        (REPLICA_SET, STATEFUL_SET, DAEMON_SET, JOB, DISRUPTION_BUDGET),
    )


Action = Annotated[RolloutUndo | RolloutRestart | Scale | Cordon | Uncordon | DeletePod, Field(discriminator="action")]
WORDS: tuple[type[_Word], ...] = (RolloutUndo, RolloutRestart, Scale, Cordon, Uncordon, DeletePod)
_ADAPTER: TypeAdapter[Action] = TypeAdapter(Action)
BY_NAME: dict[str, type[_Word]] = {word.model_fields["action"].default: word for word in WORDS}


def parse_action(document: str | bytes | dict[str, Any]) -> Action:
    """One action from JSON text or an already parsed object. Raises InvalidAction, also for duplicate keys in text."""
    try:
        value = json.loads(document, object_pairs_hook=_no_duplicates) if isinstance(document, str | bytes) else document
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        raise InvalidAction(_first(error), next_step=f"Actions: {', '.join(BY_NAME)}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidAction(f"The action is no JSON object: {str(error)[:200]}.") from error


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of every action by name, for tools and documentation."""
    return {name: word.model_json_schema() for name, word in BY_NAME.items()}


def check_target(action: Action, on: Target) -> None:
    """Raise InvalidAction unless the action may be done to a target of this kind."""
    if on.kind not in action.traits.kinds:
        raise InvalidAction(
            f"{action.action} does not apply to a {on.kind}.", next_step=f"It applies to: {', '.join(action.traits.kinds)}."
        )
    resource = on.resource
    if (on.group, on.version) != (resource.group, resource.version):
        raise InvalidAction(f"{on.kind} is written as {resource.group or 'core'}/{resource.version} only.")
    if resource.namespaced != (on.namespace is not None):
        raise InvalidAction(f"A {on.kind} {'needs a' if resource.namespaced else 'has no'} namespace.")


def access(action: Action, on: Target) -> tuple[AccessRule, ...]:
    """The least an account needs to plan, do and verify this action: the write, the target's read, and what planning lists."""
    resource = on.resource
    write = AccessRule(action.traits.write_verb, resource.group, resource.plural)
    read = AccessRule("get", resource.group, resource.plural)
    return (write, read)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"key {name[:80]!r} appears twice")
    return dict(pairs)


def _first(error: ValidationError) -> str:
    """The first complaint of pydantic as one sentence, without echoing more than 80 characters of the input."""
    detail = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in detail["loc"]) or "action"
    given = repr(detail.get("input"))[:80]
    return f"{where}: {detail['msg']} (given {given})."
