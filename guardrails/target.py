"""What an action may be done to: the closed list of kinds, and one object of them by its names.

Names are checked as the API server checks them, before they become part of a path. Secrets, RBAC, webhooks, custom resource
definitions and anything that is not listed here can be the target of nothing.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Struct
from msgspec.structs import replace
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from guardrails.errors import InvalidAction

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
LabelName = Annotated[str, AfterValidator(_label)]
Uid = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]


class Resource(Struct, frozen=True):
    """Where a kind lives in the API: what a path and an RBAC rule are made of. `earlier` are versions, newest first, in which all that an
    action touches stands in the same place, for servers that have no better one."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    earlier: tuple[str, ...] = ()

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version in which it may be written, newest first."""
        return (self.version, *self.earlier)

    def at(self, version: str) -> Resource:
        """The resource as a server has it that serves it in that version; itself where it is not written so."""
        return replace(self, version=version, earlier=()) if version in self.earlier else self

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
CRON_JOB = Resource("batch", "v1", "CronJob", "cronjobs", namespaced=True)
AUTOSCALER = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", namespaced=True)
DISRUPTION_BUDGET = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", namespaced=True)
POD = Resource("", "v1", "Pod", "pods", namespaced=True)
NODE = Resource("", "v1", "Node", "nodes", namespaced=False)
NAMESPACE = Resource("", "v1", "Namespace", "namespaces", namespaced=False)
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
VOLUME_CLAIM = Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", namespaced=True)
STORAGE_CLASS = Resource("storage.k8s.io", "v1", "StorageClass", "storageclasses", namespaced=False)
# v1 since 1.34; metadata and status.reservedFor are the same in all of them (k8s.io/api/resource).
RESOURCE_CLAIM = Resource("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", namespaced=True, earlier=("v1beta2", "v1beta1"))
# Read in the operators' definitions in November 2026. Kueue serves v1beta2 since 0.15, and nothing older since 0.20
# (kubernetes-sigs/kueue#8018, #14558). JobSet has v1alpha2 alone until its v1 comes (kubernetes-sigs/jobset#1232). Trainer 2 has v1alpha1,
# the training-operator before it v1, whose own MPIJob (kubeflow.org/v1) is another than the mpi-operator's and is not changed here.
KUEUE_WORKLOAD = Resource("kueue.x-k8s.io", "v1beta2", "Workload", "workloads", namespaced=True)
JOB_SET = Resource("jobset.x-k8s.io", "v1alpha2", "JobSet", "jobsets", namespaced=True)
TRAIN_JOB = Resource("trainer.kubeflow.org", "v1alpha1", "TrainJob", "trainjobs", namespaced=True)
PYTORCH_JOB = Resource("kubeflow.org", "v1", "PyTorchJob", "pytorchjobs", namespaced=True)
MPI_JOB = Resource("kubeflow.org", "v2beta1", "MPIJob", "mpijobs", namespaced=True)
RAY_JOB = Resource("ray.io", "v1", "RayJob", "rayjobs", namespaced=True)

# What an action may name as its target; nothing else is ever written.
TARGET_RESOURCES: dict[str, Resource] = {
    r.kind: r
    for r in (
        DEPLOYMENT, STATEFUL_SET, DAEMON_SET, POD, NODE, NAMESPACE, JOB, CRON_JOB, AUTOSCALER, CONFIG_MAP, VOLUME_CLAIM,
        RESOURCE_CLAIM, KUEUE_WORKLOAD, JOB_SET, TRAIN_JOB, PYTORCH_JOB, MPI_JOB, RAY_JOB,
    )
}  # fmt: skip

TargetKind = Literal[
    "Deployment", "StatefulSet", "DaemonSet", "Pod", "Node", "Namespace", "Job", "CronJob", "HorizontalPodAutoscaler", "ConfigMap",
    "PersistentVolumeClaim", "ResourceClaim", "Workload", "JobSet", "TrainJob", "PyTorchJob", "MPIJob", "RayJob",
]  # fmt: skip


class Target(BaseModel):
    """The one object that an action changes. `uid` and `generation` are None until the object was observed, and `version` is the newest;
    from then on it is the one that the server has, and every request and digest holds it."""

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
        return TARGET_RESOURCES[self.kind].at(self.version)

    @property
    def path(self) -> str:
        return self.resource.path(self.namespace, self.name)

    @property
    def home(self) -> str | None:
        """The namespace by which the target is judged: its own, or itself when it is one. None for a node."""
        return self.name if self.kind == NAMESPACE.kind else self.namespace

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"


def target(kind: str, namespace: str | None, name: str) -> Target:
    """A target by the names that people use. Raises InvalidAction for a kind that nothing may change or a name that is none."""
    resource = TARGET_RESOURCES.get(kind)
    if resource is None:
        raise InvalidAction(f"{kind[:80]!r} is no kind that may be changed.", next_step=f"Legal kinds: {', '.join(TARGET_RESOURCES)}.")
    if resource.namespaced and namespace is None:
        raise InvalidAction(f"A {kind} lives in a namespace.", next_step="Name it (-n NAMESPACE).")
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
        raise InvalidAction(first_complaint(error)) from error


def first_complaint(error: ValidationError) -> str:
    """The first complaint of pydantic as one sentence, without echoing more than 80 characters of the input."""
    detail = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in detail["loc"]) or "action"
    if detail["type"] == "missing":
        return f"{where} is missing."
    said = str(detail["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{where}: {said} (given {repr(detail.get('input'))[:80]})."
