"""The pods that a batch workload runs together, by the fields of its own kind: how many, with how many accelerators, since when.

What such a workload has computed is lost when it stops, so its size and its hours are what a decision about it turns on. Where a kind
leaves its size to a template of its operator, that is said, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from guardrails.accelerator import accelerators, pod_accelerators
from guardrails.manifest import annotations_of, controller, wanted_pods

# A training job, or whoever runs it, tells here when it last saved its state: RFC 3339, like 2026-11-25T10:00:00Z.
CHECKPOINT = "smokejumper.dev/last-checkpoint"
BATCH = frozenset({"Job", "CronJob", "Workload", "JobSet", "TrainJob", "PyTorchJob", "MPIJob", "RayJob"})
# Pods of these serve or keep running; a pod that starts anew has lost no work of hours.
_RUN_ON = frozenset({"ReplicaSet", "StatefulSet", "DaemonSet", "Node"})


class PodSet(Struct, frozen=True):
    """Pods that are alike. `accelerators` are those of one pod."""

    pods: int
    accelerators: int
    claims: bool = False


class Gang(Struct, frozen=True):
    """All pods of one batch workload. Not `sized`: the object does not say how large its pods are."""

    sets: tuple[PodSet, ...] = ()
    sized: bool = True

    @property
    def pods(self) -> int:
        return sum(one.pods for one in self.sets)

    @property
    def accelerators(self) -> int:
        return sum(one.pods * one.accelerators for one in self.sets)

    @property
    def uses_accelerators(self) -> bool:
        """Whether any pod holds one; assumed where the object does not say how large its pods are."""
        return not self.sized or any(one.accelerators or one.claims for one in self.sets)


def gang_of(raw: dict[str, Any]) -> Gang:
    """The gang that a batch workload runs, or will run. Without pods for a CronJob, whose Jobs run by themselves."""
    spec = _mapping(raw.get("spec"))
    match raw.get("kind"):
        case "Job":
            return Gang((_set(wanted_pods(raw), spec.get("template")),))
        case "CronJob":
            job = _mapping(_mapping(spec.get("jobTemplate")).get("spec"))
            return Gang((_set(0, job.get("template")),))
        case "JobSet":
            return Gang(tuple(_jobs(spec)))
        case "PyTorchJob":
            return Gang(tuple(_replicas(spec.get("pytorchReplicaSpecs"))))
        case "MPIJob":
            return Gang(tuple(_replicas(spec.get("mpiReplicaSpecs"))))
        case "RayJob":
            return Gang(tuple(_ray(_mapping(spec.get("rayClusterSpec")))), sized="rayClusterSpec" in spec)
        case "Workload":
            return Gang(tuple(_set(_number(one.get("count")), one.get("template")) for one in _objects(spec.get("podSets"))))
        case "TrainJob":
            return _train(_mapping(spec.get("trainer")))
    return Gang()


def started(raw: dict[str, Any]) -> datetime | None:
    """Since when a pod or a batch workload runs: its own start, a queue's admission, else at the latest since it was created."""
    status = _mapping(raw.get("status"))
    conditions = _objects(status.get("conditions"))
    admitted = next((c.get("lastTransitionTime") for c in conditions if (c.get("type"), c.get("status")) == ("Admitted", "True")), None)
    return moment(status.get("startTime")) or moment(admitted) or moment(_mapping(raw.get("metadata")).get("creationTimestamp"))


def loses_work(pod: dict[str, Any]) -> bool:
    """Whether a pod computes towards an end: its controller is none that keeps pods running on, or it has none."""
    owner = controller(pod)
    return owner is None or owner.get("kind") not in _RUN_ON


def saved(raw: dict[str, Any]) -> datetime | None:
    """When a batch workload or pod says that it saved its state last, None when it does not say."""
    return moment(annotations_of(raw).get(CHECKPOINT))


def moment(text: Any) -> datetime | None:
    """A time of the Kubernetes API, None for what is none. A time without a zone is none."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo is not None else None


def _set(pods: int, template: Any) -> PodSet:
    pod = _mapping(template)
    return PodSet(pods, pod_accelerators(pod), bool(_mapping(pod.get("spec")).get("resourceClaims")))


def _jobs(spec: dict[str, Any]) -> Iterator[PodSet]:
    for one in _objects(spec.get("replicatedJobs")):
        job = _mapping(_mapping(one.get("template")).get("spec"))
        yield _set(_number(one.get("replicas")) * wanted_pods({"kind": "Job", "spec": job}), job.get("template"))


def _replicas(specs: Any) -> Iterator[PodSet]:
    for one in _mapping(specs).values():
        role = _mapping(one)
        yield _set(_number(role.get("replicas")), role.get("template"))


def _ray(cluster: dict[str, Any]) -> Iterator[PodSet]:
    yield _set(1, _mapping(cluster.get("headGroupSpec")).get("template"))
    for group in _objects(cluster.get("workerGroupSpecs")):
        yield _set(_number(group.get("replicas"), 0) * _number(group.get("numOfHosts")), group.get("template"))


def _train(trainer: dict[str, Any]) -> Gang:
    each = _mapping(trainer.get("resourcesPerNode"))
    size = accelerators(_mapping(each.get("limits"))) or accelerators(_mapping(each.get("requests")))
    return Gang((PodSet(_number(trainer.get("numNodes")), size),), sized=bool(each))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _number(value: Any, otherwise: int = 1) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise
