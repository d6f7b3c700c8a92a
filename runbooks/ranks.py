"""The workers of a training job in one view: rank by rank, where it runs, on what, and how often it was started.

Pure over a World. It judges nothing: which rank failed first or is behind is for the detectors. A rank is what the job's controller wrote
on the pod (completion index, replica index, node rank); where nothing did, the number at the end of the pod's name stands for it.
"""

from __future__ import annotations

import re
from datetime import datetime

from msgspec import Struct

from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from guardrails.accelerator import vendor_of
from runbooks.scheduling import requests_of

# Kinds that people train with, the outermost first.
TRAINING_KINDS = (
    *("TrainJob", "PyTorchJob", "MPIJob", "RayJob", "JobSet", "RayCluster", "LeaderWorkerSet"),
    *("Job", "CronJob", "StatefulSet", "Deployment", "Pod"),
)
# kubernetes batch/v1, jobset, kubeflow training operator, LeaderWorkerSet and KubeRay, the widest numbering first.
_RANK_LABELS = (
    "jobset.sigs.k8s.io/job-global-index",
    "training.kubeflow.org/replica-index",
    "leaderworkerset.sigs.k8s.io/worker-index",
    "batch.kubernetes.io/job-completion-index",
    "ray.io/rank",
)
_ROLE_LABELS = ("training.kubeflow.org/replica-type", "jobset.sigs.k8s.io/replicatedjob-name", "ray.io/node-type")
_NUMBER = re.compile(r"-(\d+)(?:-[a-z0-9]{5})?$")


class Rank(Struct, frozen=True):
    """One worker. `number` is None where nothing tells; `role` is what its job calls it ("worker", "launcher"), "" where nothing does.
    `ended` is when its last container run ended, `exit_code` with what."""

    pod: ObjectRef
    number: int | None
    role: str
    phase: str
    ready: bool
    restarts: int
    node: str
    accelerators: tuple[tuple[str, float], ...]
    exit_code: int | None = None
    ended: datetime | None = None

    @property
    def failed(self) -> bool:
        return self.phase == "Failed" or (self.exit_code or 0) != 0


def ranks(world: World, job: ObjectRef) -> tuple[Rank, ...]:
    """The workers below a job: the failed in the order in which they ended, then those that do not run, then by role and number."""
    found = [_rank(pod) for pod in world.pods_of(job)]
    late = world.now

    def order(rank: Rank) -> tuple[object, ...]:
        ended = rank.ended.timestamp() if rank.ended is not None else late.timestamp()
        number = rank.number if rank.number is not None else len(found)
        return (not rank.failed, ended if rank.failed else 0.0, rank.ready, rank.role, number, rank.pod.name)

    return tuple(sorted(found, key=order))


def _rank(pod: Pod) -> Rank:
    ended = [item for status in pod.all_statuses for item in (status.state.terminated, status.last_state.terminated) if item is not None]
    # Of several containers the one that ended first and badly: the others often follow it.
    bad = sorted((item for item in ended if item.exit_code), key=lambda item: (item.finished_at is None, item.finished_at))
    last = bad[0] if bad else (ended[0] if ended else None)
    return Rank(
        pod.ref,
        _number(pod),
        next((pod.labels[label] for label in _ROLE_LABELS if pod.labels.get(label)), ""),
        pod.status.phase,
        pod.ready,
        sum(status.restart_count for status in pod.all_statuses),
        pod.spec.node_name or "",
        tuple(sorted((name, count) for name, count in requests_of(pod.spec).items() if vendor_of(name) is not None)),
        last.exit_code if last is not None else None,
        last.finished_at if last is not None else None,
    )


def _number(pod: Pod) -> int | None:
    said = next((value for label in _RANK_LABELS if (value := pod.labels.get(label) or pod.annotations.get(label))), "")
    if said.isdigit():
        return int(said)
    found = _NUMBER.search(pod.name)
    return int(found[1]) if found else None
