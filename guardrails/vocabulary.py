"""The words: every write that exists, its parameters with their bounds, and what is known about it before any cluster is asked.

A model, a person or a runbook can say only these. There is no free-form patch, command or selector among them, none that writes a
Secret, a finalizer or a webhook, and none that deletes what no controller recreates, save leftovers that are dead already.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Struct
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from guardrails.quantity import Cpu, Memory, Storage
from guardrails.redact import redact, secret_name
from guardrails.target import (
    AUTOSCALER,
    CONTROLLER_REVISION,
    DAEMON_SET,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    JOB,
    NODE,
    POD,
    REPLICA_SET,
    STATEFUL_SET,
    STORAGE_CLASS,
    LabelName,
    Resource,
    TargetKind,
)

REPLICAS_MAX = 10_000
PODS_MAX = 100
DRAIN_WAIT_SECONDS_MAX = 3_600
CONFIG_VALUE_MAX = 16_384
RESTARTS_MAX = 5

Reversibility = Literal["exact", "recreated", "none"]

# Taints of these prefixes are the node controllers': they come back, or go, whatever anybody writes.
CONTROLLERS_TAINTS = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
_QUALIFIED = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._:/@-]{0,500}", re.ASCII)
_CONFIG_KEY = re.compile(r"[-._A-Za-z0-9]{1,253}", re.ASCII)
_WORKLOAD_NAME = re.compile(r"(Deployment|StatefulSet|DaemonSet)/([a-z0-9][-a-z0-9.]{0,252})", re.ASCII)


class Traits(Struct, frozen=True):
    """What is known about an action before any cluster is asked.

    `reversibility`: `exact` has an inverse request, `recreated` is undone by the object's owner, `none` cannot be undone.
    `restarts_pods` and `removes_capacity` are risk facts that policies read. `reads` is what planning reads besides the target.
    `keeps_progress`: one that was stopped half-way stays as far as it came, and the rest may be proposed again.
    """

    kinds: tuple[TargetKind, ...]
    title: str
    reversibility: Reversibility
    write_verb: Literal["patch", "delete", "create"]
    restarts_pods: bool
    removes_capacity: bool
    reads: tuple[Resource, ...] = ()
    keeps_progress: bool = False


class Word(BaseModel):
    """One action. `example` is a legal document of it with every parameter that widens what it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    traits: ClassVar[Traits]
    example: ClassVar[dict[str, Any]] = {}

    @property
    def patience_seconds(self) -> int:
        """How long it waits for disruption budgets that refuse. Without patience, a refusal ends it."""
        return 0


def _matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"not {what}")
        return value

    return AfterValidator(check)


def _no_secret(value: str) -> str:
    if redact(value) != value:
        raise ValueError("looks like a secret, and secrets are not written here")
    return value


def _taint_key(value: str) -> str:
    if value.startswith(CONTROLLERS_TAINTS):
        raise ValueError("this taint is managed by the node controllers")
    return value


def _config_key(value: str) -> str:
    if secret_name(value):
        raise ValueError("a key of this name holds a secret, and secrets are not written here")
    return value


TaintKey = Annotated[str, _matching(_QUALIFIED, "a taint key"), AfterValidator(_taint_key)]
LabelValue = Annotated[str, _matching(_LABEL_VALUE, "a label value")]
Image = Annotated[str, _matching(_IMAGE, "an image reference")]
ConfigKey = Annotated[str, _matching(_CONFIG_KEY, "a key of a ConfigMap"), AfterValidator(_config_key)]
ConfigValue = Annotated[str, Field(max_length=CONFIG_VALUE_MAX), AfterValidator(_no_secret)]
WorkloadName = Annotated[str, _matching(_WORKLOAD_NAME, "Deployment/NAME, StatefulSet/NAME or DaemonSet/NAME")]

_ROLLOUTS: tuple[TargetKind, ...] = ("Deployment", "StatefulSet", "DaemonSet")
_SUSPENDABLE: tuple[TargetKind, ...] = ("Job", "CronJob", "Workload", "JobSet", "TrainJob", "PyTorchJob", "MPIJob", "RayJob")
_HISTORY = (REPLICA_SET, CONTROLLER_REVISION)
_OWNERS = (REPLICA_SET, STATEFUL_SET, DAEMON_SET, JOB)


class RolloutUndo(Word):
    """Put an earlier pod template back. Without `to_revision`, the newest earlier revision that differs from the current template, and
    only while the current one is not rolled out and ready: of a healthy workload, somebody has to name the revision."""

    action: Literal["rollout_undo"] = "rollout_undo"
    to_revision: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    traits: ClassVar[Traits] = Traits(_ROLLOUTS, "roll back to an earlier revision", "exact", "patch", True, False, _HISTORY)


class RolloutRestart(Word):
    """Replace all pods of a workload, at the pace of its update strategy."""

    action: Literal["rollout_restart"] = "rollout_restart"
    traits: ClassVar[Traits] = Traits(_ROLLOUTS, "restart all pods", "exact", "patch", True, False)


class RolloutPause(Word):
    """Stop a Deployment's rollout where it is."""

    action: Literal["rollout_pause"] = "rollout_pause"
    traits: ClassVar[Traits] = Traits(("Deployment",), "stop the rollout where it is", "exact", "patch", False, False)


class RolloutResume(Word):
    """Let a paused Deployment roll out again."""

    action: Literal["rollout_resume"] = "rollout_resume"
    traits: ClassVar[Traits] = Traits(("Deployment",), "let the paused rollout go on", "exact", "patch", True, False)


class Scale(Word):
    """Set the number of replicas."""

    action: Literal["scale"] = "scale"
    replicas: Annotated[int, Field(ge=0, le=REPLICAS_MAX)]
    traits: ClassVar[Traits] = Traits(
        ("Deployment", "StatefulSet"), "change the number of replicas", "exact", "patch", False, True, (AUTOSCALER,)
    )
    example: ClassVar[dict[str, Any]] = {"replicas": 3}


class SetReplicaBounds(Word):
    """Set between how many replicas an autoscaler may choose."""

    action: Literal["set_replica_bounds"] = "set_replica_bounds"
    minimum: Annotated[int, Field(ge=1, le=REPLICAS_MAX)] | None = None
    maximum: Annotated[int, Field(ge=1, le=REPLICAS_MAX)] | None = None
    traits: ClassVar[Traits] = Traits(
        ("HorizontalPodAutoscaler",), "change an autoscaler's bounds", "exact", "patch", False, True, (DEPLOYMENT, STATEFUL_SET)
    )
    example: ClassVar[dict[str, Any]] = {"minimum": 2, "maximum": 12}

    @model_validator(mode="after")
    def _ordered(self) -> SetReplicaBounds:
        if self.minimum is None and self.maximum is None:
            raise ValueError("name minimum, maximum or both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("minimum is more than maximum")
        return self


class SetImage(Word):
    """Give one container an image that a kept revision of this very workload ran before."""

    action: Literal["set_image"] = "set_image"
    container: LabelName
    image: Image
    traits: ClassVar[Traits] = Traits(_ROLLOUTS, "set an image that ran before", "exact", "patch", True, False, _HISTORY)
    example: ClassVar[dict[str, Any]] = {"container": "server", "image": "registry.example.com/server:v1"}


class SetResources(Word):
    """Set CPU and memory of one container: in a workload's template, or of one running pod in place."""

    action: Literal["set_resources"] = "set_resources"
    container: LabelName
    cpu_request: Cpu | None = None
    cpu_limit: Cpu | None = None
    memory_request: Memory | None = None
    memory_limit: Memory | None = None
    traits: ClassVar[Traits] = Traits((*_ROLLOUTS, "Pod"), "set CPU and memory of a container", "exact", "patch", True, False)
    example: ClassVar[dict[str, Any]] = {"container": "server", "memory_request": "4Gi", "memory_limit": "8Gi"}

    @model_validator(mode="after")
    def _something(self) -> SetResources:
        if not (self.requests or self.limits):
            raise ValueError("name at least one of cpu_request, cpu_limit, memory_request and memory_limit")
        return self

    @property
    def requests(self) -> dict[str, str]:
        return {name: value for name, value in (("cpu", self.cpu_request), ("memory", self.memory_request)) if value is not None}

    @property
    def limits(self) -> dict[str, str]:
        return {name: value for name, value in (("cpu", self.cpu_limit), ("memory", self.memory_limit)) if value is not None}


class Cordon(Word):
    """Keep new pods off a node; running pods stay."""

    action: Literal["cordon"] = "cordon"
    traits: ClassVar[Traits] = Traits(("Node",), "keep new pods off the node", "exact", "patch", False, True, (NODE,))


class Uncordon(Word):
    """Let new pods onto a node again."""

    action: Literal["uncordon"] = "uncordon"
    traits: ClassVar[Traits] = Traits(("Node",), "let pods onto the node again", "exact", "patch", False, False, (NODE,))


class Drain(Word):
    """Cordon a node and evict its pods, waiting for disruption budgets up to `wait_seconds`. Pods of DaemonSets and static pods stay.

    Pods without a controller and pods with emptyDir data make it impossible unless `unmanaged` or `local_data` says that they may go.
    """

    action: Literal["drain"] = "drain"
    unmanaged: bool = False
    local_data: bool = False
    wait_seconds: Annotated[int, Field(ge=0, le=DRAIN_WAIT_SECONDS_MAX)] = 300
    traits: ClassVar[Traits] = Traits(
        ("Node",), "move all pods off the node", "recreated", "patch", True, True, (NODE, POD, DISRUPTION_BUDGET), keeps_progress=True
    )

    @property
    def patience_seconds(self) -> int:
        return self.wait_seconds


class Taint(Word):
    """Keep pods that do not tolerate it off a node. NoExecute is no choice: it removes pods past their budgets, where drain asks."""

    action: Literal["taint"] = "taint"
    key: TaintKey
    value: LabelValue = ""
    effect: Literal["NoSchedule", "PreferNoSchedule"] = "NoSchedule"
    traits: ClassVar[Traits] = Traits(("Node",), "keep pods that do not tolerate it off the node", "exact", "patch", False, True, (NODE,))
    example: ClassVar[dict[str, Any]] = {"key": "example.com/suspect", "value": "gpu"}


class Untaint(Word):
    """Take a taint off a node."""

    action: Literal["untaint"] = "untaint"
    key: TaintKey
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    traits: ClassVar[Traits] = Traits(("Node",), "take a taint off the node", "exact", "patch", False, False, (NODE,))
    example: ClassVar[dict[str, Any]] = {"key": "example.com/suspect"}


class SetMigProfile(Word):
    """Ask the MIG manager for another partitioning of an empty, cordoned node's GPUs: the label `nvidia.com/mig.config`, and no more
    than the removal of its old report beside it."""

    action: Literal["set_mig_profile"] = "set_mig_profile"
    profile: Annotated[str, Field(min_length=1), _matching(_LABEL_VALUE, "a name of a MIG profile")]
    traits: ClassVar[Traits] = Traits(("Node",), "partition the node's GPUs anew", "exact", "patch", False, True, (NODE, POD))
    example: ClassVar[dict[str, Any]] = {"profile": "all-1g.10gb"}


class DeletePod(Word):
    """Delete one pod that a controller will recreate."""

    action: Literal["delete_pod"] = "delete_pod"
    traits: ClassVar[Traits] = Traits(
        ("Pod",), "delete the pod; its controller recreates it", "recreated", "delete", True, False, (*_OWNERS, DISRUPTION_BUDGET)
    )


class EvictPod(Word):
    """Evict one pod that a controller will recreate. A disruption budget that refuses ends it: it never becomes a delete."""

    action: Literal["evict_pod"] = "evict_pod"
    traits: ClassVar[Traits] = Traits(
        ("Pod",), "evict the pod; its controller recreates it", "recreated", "create", True, False, (*_OWNERS, DISRUPTION_BUDGET)
    )


class DeleteFailedPods(Word):
    """Delete the oldest pods of a namespace that have failed for good and that a controller has replaced. Pods of Jobs stay."""

    action: Literal["delete_failed_pods"] = "delete_failed_pods"
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]{1,60}$")] | None = None
    limit: Annotated[int, Field(ge=1, le=PODS_MAX)] = 20
    traits: ClassVar[Traits] = Traits(
        ("Namespace",), "delete pods that have failed for good", "none", "delete", False, False, (POD,), keeps_progress=True
    )


class Suspend(Word):
    """Suspend a batch workload by its own field. Its pods go; what they had not saved is lost."""

    action: Literal["suspend"] = "suspend"
    traits: ClassVar[Traits] = Traits(_SUSPENDABLE, "suspend it", "exact", "patch", True, True)


class Resume(Word):
    """Let a suspended batch workload run again."""

    action: Literal["resume"] = "resume"
    traits: ClassVar[Traits] = Traits(_SUSPENDABLE, "let it run again", "exact", "patch", False, False)


class ExpandVolume(Word):
    """Ask for a larger volume where the storage class allows it. Nothing makes it smaller again."""

    action: Literal["expand_pvc"] = "expand_pvc"
    size: Storage
    traits: ClassVar[Traits] = Traits(("PersistentVolumeClaim",), "make the volume larger", "none", "patch", False, False, (STORAGE_CLASS,))
    example: ClassVar[dict[str, Any]] = {"size": "200Gi"}


class EditConfigMapKey(Word):
    """Set one existing key of a ConfigMap, then restart the named workloads that use it."""

    action: Literal["edit_configmap_key"] = "edit_configmap_key"
    key: ConfigKey
    value: ConfigValue
    restart: Annotated[tuple[WorkloadName, ...], Field(max_length=RESTARTS_MAX, strict=False)] = ()
    traits: ClassVar[Traits] = Traits(
        ("ConfigMap",), "set one key of the ConfigMap", "exact", "patch", True, False, (DEPLOYMENT, STATEFUL_SET, DAEMON_SET)
    )
    example: ClassVar[dict[str, Any]] = {
        "key": "LOG_LEVEL",
        "value": "info",
        "restart": ["Deployment/web", "StatefulSet/web", "DaemonSet/web"],
    }


class DeleteClaim(Word):
    """Delete a ResourceClaim that a template made for a pod and that no pod has reserved."""

    action: Literal["delete_claim"] = "delete_claim"
    traits: ClassVar[Traits] = Traits(
        ("ResourceClaim",), "delete the claim that nobody has reserved", "recreated", "delete", False, False, (POD,)
    )
