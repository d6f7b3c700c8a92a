"""Troubles of Jobs, quotas, autoscalers and queues that are over, and the objects that only they have."""

from __future__ import annotations

import copy
import zlib
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from tests.healthy.manifests import Object, event, thing
from tests.healthy.retelling import Items, condition, lived_in, make_old, old_workload, stamp


def quota_was_full(items: Items, random: Random, now: datetime) -> Items:
    """Creation was refused by a quota until somebody raised it."""
    pod, then = lived_in(items, random), now - timedelta(minutes=random.randint(10, 50))
    metadata = pod["metadata"]
    owner = metadata["ownerReferences"][0]
    quota = "exceeded quota: compute, requested: pods=1, used: pods=10, limited: pods=10"
    text = f'Error creating: pods "{owner["name"]}-q8w2x" is forbidden: {quota}'
    told = event(metadata["namespace"], "ReplicaSet", owner["name"], "FailedCreate", text, count=6)
    told["metadata"]["creationTimestamp"] = stamp(then)
    told["involvedObject"]["uid"] = owner["uid"]
    told |= {
        "firstTimestamp": stamp(then),
        "lastTimestamp": stamp(then + timedelta(minutes=2)),
        "source": {"component": "replicaset-controller"},
    }
    make_old(items, pod, then + timedelta(minutes=3))
    return [*items, told]


def retried_job(items: Items, random: Random, now: datetime) -> Items:
    """A Job whose first pod failed and whose second succeeded."""
    pod, then = lived_in(items, random), now - timedelta(minutes=random.randint(20, 300))
    return [*items, *_run(pod, "monthly-close", then, failures=1, succeeded=True)]


def schedule_kept(items: Items, random: Random, now: datetime) -> Items:
    """A CronJob between two runs: its last runs succeeded, the one before them failed."""
    pod = lived_in(items, random)
    space, name, uid = pod["metadata"]["namespace"], "hourly-sync", "9a0f2b7c-11d2-4f8e-a6b3-0c0c0c0c0c01"
    hour = now.replace(minute=0, second=0, microsecond=0)
    made: Items = []
    for hours, succeeded in ((5, False), (2, True), (1, True), (0, True)):
        began = hour - timedelta(hours=hours)
        run = _run(
            pod,
            f"{name}-{int(began.timestamp()) // 60}",
            min(began + timedelta(minutes=2), now),
            failures=0 if succeeded else 1,
            succeeded=succeeded,
        )
        owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": name, "uid": uid, "controller": True}
        run[0]["metadata"] |= {"ownerReferences": [owner], "creationTimestamp": stamp(began)}
        run[0]["status"]["startTime"] = stamp(began)
        made += run
    template = {"spec": {"template": made[0]["spec"]["template"]}}
    cron = thing(
        "CronJob",
        "batch/v1",
        name,
        space,
        spec={"schedule": "0 * * * *", "jobTemplate": template, "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1},
        status={"lastScheduleTime": stamp(hour), "lastSuccessfulTime": stamp(min(hour + timedelta(minutes=2), now))},
    )
    cron["metadata"] |= {"uid": uid, "creationTimestamp": stamp(now - timedelta(days=30))}
    return [*items, cron, *made]


def _run(like: Object, name: str, ended: datetime, *, failures: int, succeeded: bool) -> Items:
    """A Job that ended at a moment and its pods, `failures` of them failed; the pods are made like another."""
    space, uid = like["metadata"]["namespace"], str(UUID(int=zlib.crc32(name.encode()) + (0x3D1F4 << 96)))
    labels = {"batch.kubernetes.io/job-name": name, "job-name": name, "batch.kubernetes.io/controller-uid": uid}
    spec = copy.deepcopy(like["spec"]) | {"restartPolicy": "Never"}
    for one in spec["containers"]:
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            one.pop(probe, None)
    began = ended - timedelta(minutes=failures + 2)
    status: Object = {"startTime": stamp(began), "failed": failures} | (
        {"succeeded": 1, "completionTime": stamp(ended)} if succeeded else {}
    )
    if succeeded:
        last = [("SuccessCriteriaMet", "CompletionsReached", ""), ("Complete", "CompletionsReached", "")]
    else:
        text = "Job has reached the specified backoff limit"
        last = [("FailureTarget", "BackoffLimitExceeded", text), ("Failed", "BackoffLimitExceeded", text)]
    status["conditions"] = [condition(kind, "True", reason, message, stamp(ended)) for kind, reason, message in last]
    body = {
        "backoffLimit": 6 if succeeded else 0,
        "completions": 1,
        "parallelism": 1,
        "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}},
        "template": {"metadata": {"labels": labels}, "spec": spec},
    }
    made: Items = [thing("Job", "batch/v1", name, space, spec=body, status=status)]
    made[0]["metadata"] |= {"uid": uid, "creationTimestamp": stamp(began)}
    for index in range(failures + succeeded):
        made.append(
            _ended_pod(like, made[0], index, 1 if index < failures else 0, ended - timedelta(minutes=failures + succeeded - 1 - index))
        )
    return made


def _ended_pod(like: Object, owner: Object, index: int, code: int, ended: datetime) -> Object:
    name, uid = owner["metadata"]["name"], owner["metadata"]["uid"]
    pod = copy.deepcopy(like)
    pod["metadata"] = {
        "name": f"{name}-{'bcdfg'[index]}7k2p",
        "namespace": like["metadata"]["namespace"],
        "uid": f"{uid[:-1]}{'abcde'[index]}",
        "labels": owner["spec"]["template"]["metadata"]["labels"],
        "creationTimestamp": stamp(ended - timedelta(minutes=1)),
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": True}],
    }
    pod["spec"] = copy.deepcopy(owner["spec"]["template"]["spec"])
    began = stamp(ended - timedelta(seconds=50))
    end = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": began, "finishedAt": stamp(ended)}
    pod["status"] |= {"phase": "Failed" if code else "Succeeded", "startTime": began}
    first = pod["status"]["containerStatuses"][0]
    first |= {"ready": False, "started": False, "restartCount": 0, "lastState": {}, "state": {"terminated": end}}
    for one in pod["status"]["conditions"]:
        if one["type"] in ("Ready", "ContainersReady"):
            one |= {"status": "False", "reason": "PodFailed" if code else "PodCompleted", "lastTransitionTime": stamp(ended)}
    return pod


def autoscaler_at_minimum(items: Items, random: Random, now: datetime) -> Items:
    """An autoscaler with metrics that keeps its target at the minimum, and one metric gap half an hour ago."""
    name, space = old_workload(items, random)
    minimum = next(item["spec"]["replicas"] for item in items if item["kind"] == "Deployment" and item["metadata"]["name"] == name)
    since = stamp(now - timedelta(hours=6))
    found = "the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)"
    conditions = [
        condition("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size", since),
        condition("ScalingActive", "True", "ValidMetricFound", found, since),
        condition("ScalingLimited", "True", "TooFewReplicas", "the desired replica count is less than the minimum replica count", since),
    ]
    target = {"type": "Utilization", "averageUtilization": 80}
    current = {"averageUtilization": random.randint(1, 20), "averageValue": "4m"}
    scaler = thing(
        "HorizontalPodAutoscaler",
        "autoscaling/v2",
        name,
        space,
        spec={
            "minReplicas": minimum,
            "maxReplicas": minimum + 7,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
        status={
            "currentReplicas": minimum,
            "desiredReplicas": minimum,
            "conditions": conditions,
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": current}}],
        },
    )
    scaler["metadata"] |= {"uid": "7c0e8c1e-4b0a-4a7e-9d53-2f1f00000001", "creationTimestamp": since}
    then = now - timedelta(minutes=random.randint(25, 50))
    text = "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)"
    told = event(space, "HorizontalPodAutoscaler", name, "FailedGetResourceMetric", text, count=2)
    told["metadata"]["creationTimestamp"] = stamp(then)
    told |= {
        "firstTimestamp": stamp(then),
        "lastTimestamp": stamp(then + timedelta(seconds=30)),
        "source": {"component": "horizontal-pod-autoscaler"},
    }
    return [*items, scaler, told]


def queue_admits_and_holds(items: Items, random: Random, now: datetime) -> Items:
    """A job queue with one Workload admitted, one finished and one that waits for its turn within its queue's order."""
    _, space = old_workload(items, random)
    since = stamp(now - timedelta(minutes=random.randint(3, 9)))
    queue = thing(
        "LocalQueue",
        "kueue.x-k8s.io/v1beta2",
        "research",
        space,
        spec={"clusterQueue": "shared"},
        status={
            "admittedWorkloads": 1,
            "pendingWorkloads": 0,
            "conditions": [condition("Active", "True", "Ready", "Can submit new workloads to localQueue", since)],
        },
    )
    shared = thing(
        "ClusterQueue",
        "kueue.x-k8s.io/v1beta2",
        "shared",
        None,
        spec={"queueingStrategy": "BestEffortFIFO"},
        status={
            "admittedWorkloads": 1,
            "pendingWorkloads": 0,
            "conditions": [condition("Active", "True", "Ready", "Can admit new workloads", since)],
        },
    )
    running = thing(
        "Workload",
        "kueue.x-k8s.io/v1beta2",
        "job-pretrain-0a1b2",
        space,
        spec={"queueName": "research", "active": True},
        status={
            "admission": {"clusterQueue": "shared"},
            "conditions": [
                condition("QuotaReserved", "True", "QuotaReserved", "Quota reserved in ClusterQueue shared", since),
                condition("Admitted", "True", "Admitted", "The workload is admitted", since),
            ],
        },
    )
    finished = thing(
        "Workload",
        "kueue.x-k8s.io/v1beta2",
        "job-tune-3c4d5",
        space,
        spec={"queueName": "research", "active": True},
        status={
            "conditions": [
                condition("Evicted", "False", "QuotaReserved", "Previously: Preempted to accommodate a higher priority Workload", since),
                condition("Finished", "True", "Succeeded", "Job finished successfully", since),
            ]
        },
    )
    waiting = thing("Workload", "kueue.x-k8s.io/v1beta2", "job-eval-6e7f8", space, spec={"queueName": "research", "active": True})
    held = thing(
        "Job",
        "batch/v1",
        "eval",
        space,
        spec={"suspend": True, "completions": 1, "parallelism": 1, "template": {"metadata": {}, "spec": lived_in(items, random)["spec"]}},
        status={"conditions": [condition("Suspended", "True", "JobSuspended", "Job suspended", since)]},
    )
    held["metadata"] |= {"uid": "5f1e0000-0000-4000-8000-00000000e7a1", "creationTimestamp": since}
    held["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "research"}
    waiting["metadata"]["ownerReferences"] = [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "eval", "uid": held["metadata"]["uid"], "controller": True}
    ]
    return [*items, queue, shared, running, finished, held, waiting]
