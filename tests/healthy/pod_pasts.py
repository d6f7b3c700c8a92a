"""Troubles of pods that are over: what kubelets and the scheduler wrote of them. Nothing that is still wrong may follow from any."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from random import Random

from tests.healthy.retelling import Items, lived_in, make_old, ready_pods, restart, stamp, told_of, without_event


def crashed_at_start(items: Items, random: Random, now: datetime) -> Items:
    """A pod that crashed twice while its database came up, forty minutes ago, and has run since; the warnings are still listed."""
    pod, then = lived_in(items, random), now - timedelta(minutes=random.randint(35, 55))
    make_old(items, pod, then - timedelta(minutes=2))
    restart(pod, then, "Error", 1, 2)
    name = pod["spec"]["containers"][0]["name"]
    metadata = pod["metadata"]
    text = f"Back-off restarting failed container {name} in pod {metadata['name']}_{metadata['namespace']}({metadata['uid']})"
    return [*items, told_of(pod, "BackOff", text, then - timedelta(minutes=1), then, 4)]


def out_of_memory_last_week(items: Items, random: Random, now: datetime) -> Items:
    """One out-of-memory kill, days ago."""
    pod, then = lived_in(items, random), now - timedelta(days=random.randint(2, 9))
    make_old(items, pod, then - timedelta(hours=4))
    restart(pod, then, "OOMKilled", 137, 1)
    return items


def waited_for_a_node(items: Items, random: Random, now: datetime) -> Items:
    """Unschedulable until a node joined; the scheduler's warnings are still listed, and after them its success."""
    pod, then = lived_in(items, random), now - timedelta(minutes=random.randint(12, 50))
    make_old(items, pod, then)
    text = (
        "0/6 nodes are available: 6 Insufficient cpu. preemption: 0/6 nodes are available: 6 No preemption victims found for incoming pod."
    )
    placed = then + timedelta(minutes=6)
    target = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    success = f"Successfully assigned {target} to {pod['spec']['nodeName']}"
    for one in pod["status"]["conditions"]:
        one["lastTransitionTime"] = stamp(placed if one["type"] == "PodScheduled" else placed + timedelta(seconds=20))
    events = [
        told_of(pod, "FailedScheduling", text, then, then + timedelta(minutes=5), 3),
        told_of(pod, "Scheduled", success, placed, placed, normal=True),
    ]
    for one in events:
        one["source"] = {"component": "default-scheduler"}
    return [*without_event(items, "Event", pod, "Scheduled"), *events]


def pulled_at_last(items: Items, random: Random, now: datetime) -> Items:
    """The registry did not answer twice, then it did."""
    pod, then = lived_in(items, random), now - timedelta(minutes=random.randint(8, 45))
    make_old(items, pod, then)
    image = pod["spec"]["containers"][0]["image"]
    failed = f'Failed to pull image "{image}": failed to pull and unpack image: dial tcp 192.0.2.7:443: i/o timeout'
    pulled = then + timedelta(minutes=2)
    done = f'Successfully pulled image "{image}" in 4.2s (4.2s including waiting). Image size: 83886080 bytes.'
    pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": stamp(pulled + timedelta(seconds=1))}}
    for one in pod["status"]["conditions"]:
        if one["type"] in ("Ready", "ContainersReady"):
            one["lastTransitionTime"] = stamp(pulled + timedelta(seconds=15))
    return [
        *items,
        told_of(pod, "Failed", failed, then, then + timedelta(seconds=50), 2),
        told_of(pod, "BackOff", f'Back-off pulling image "{image}"', then, then + timedelta(seconds=70), 3),
        told_of(pod, "Pulled", done, pulled, pulled, normal=True),
    ]


def probe_failed_while_starting(items: Items, random: Random, now: datetime) -> Items:
    """The readiness probe failed until the program listened, as it does at every start."""
    pod, then = lived_in(items, random), now - timedelta(minutes=random.randint(5, 40))
    make_old(items, pod, then)
    pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": stamp(then)}}
    for one in pod["status"]["conditions"]:
        if one["type"] in ("Ready", "ContainersReady"):
            one["lastTransitionTime"] = stamp(then + timedelta(seconds=40))
    text = 'Readiness probe failed: Get "http://10.244.1.7:8080/healthz": dial tcp 10.244.1.7:8080: connect: connection refused'
    return [*items, told_of(pod, "Unhealthy", text, then + timedelta(seconds=5), then + timedelta(seconds=35), 4)]


def mounted_late(items: Items, random: Random, now: datetime) -> Items:
    """A volume that was not there at the first try."""
    pod, then = lived_in(items, random), now - timedelta(minutes=random.randint(6, 50))
    make_old(items, pod, then)
    text = (
        'MountVolume.SetUp failed for volume "kube-api-access-x2b4c" : failed to sync configmap cache: timed out waiting for the condition'
    )
    return [*items, told_of(pod, "FailedMount", text, then, then + timedelta(seconds=1), 2)]


def leaving_in_time(items: Items, random: Random, now: datetime) -> Items:
    """A pod of a rollout that is over is still terminating, within its grace."""
    pod, began = copy.deepcopy(lived_in(items, random)), now - timedelta(seconds=random.randint(3, 20))
    metadata = pod["metadata"]
    metadata["name"] = metadata["name"][:-5] + "zzq4x"
    metadata["uid"] = f"{metadata['uid'][:-4]}dead"
    grace = random.choice((30, 60, 300))
    metadata["deletionTimestamp"] = stamp(began + timedelta(seconds=grace))
    metadata["deletionGracePeriodSeconds"] = grace
    pod["spec"]["terminationGracePeriodSeconds"] = grace
    pod["status"]["podIP"] = "10.244.9.9"
    name = pod["spec"]["containers"][0]["name"]
    stopping = told_of(pod, "Killing", f"Stopping container {name}", began, began, normal=True)
    unready = told_of(
        pod, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", began, now - timedelta(seconds=1), 2
    )
    return [*items, pod, stopping, unready]


def preempted_and_placed_again(items: Items, random: Random, now: datetime) -> Items:
    """A pod of low priority gave way; its successor found another node."""
    pod, then = lived_in(items, random), now - timedelta(minutes=random.randint(10, 50))
    make_old(items, pod, then)
    victim = copy.deepcopy(pod)
    victim["metadata"]["name"] = pod["metadata"]["name"][:-5] + "gone7"
    victim["metadata"]["uid"] = f"{pod['metadata']['uid'][:-4]}beef"
    text = f"Preempted by pod 5b1c2c9e-2d6c-4a53-9f0e-6a1f9be1c111 on node {pod['spec']['nodeName']}"
    told = told_of(victim, "Preempted", text, then, then)
    told["source"] = {"component": "default-scheduler"}
    stopped = told_of(victim, "Killing", f"Stopping container {pod['spec']['containers'][0]['name']}", then, then, normal=True)
    return [*items, told, stopped]


def node_pressure_passed(items: Items, random: Random, now: datetime) -> Items:
    """A node was short of memory and is not any more; what it evicted has been replaced and deleted."""
    pod, then = lived_in(items, random), now - timedelta(minutes=random.randint(25, 55))
    node = next(item for item in items if item["kind"] == "Node" and item["metadata"]["name"] == pod["spec"]["nodeName"])
    for one in node["status"]["conditions"]:
        if one["type"] == "MemoryPressure":
            one["lastTransitionTime"] = stamp(then + timedelta(minutes=5))
    victim = copy.deepcopy(pod)
    victim["metadata"]["name"] = pod["metadata"]["name"][:-5] + "evct9"
    victim["metadata"]["uid"] = f"{pod['metadata']['uid'][:-4]}cafe"
    text = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 81264Ki. "
    return [*items, told_of(victim, "Evicted", text, then, then)]


def node_rebooted(items: Items, random: Random, now: datetime) -> Items:
    """A node was rebooted two days ago: every container on it has one restart."""
    node, then = lived_in(items, random)["spec"]["nodeName"], now - timedelta(hours=random.randint(5, 50))
    for pod in ready_pods(items):
        if pod["spec"]["nodeName"] == node:
            make_old(items, pod, then - timedelta(days=3))
            restart(pod, then, "Unknown", 255, 1)
    for item in items:
        if item["kind"] == "Node" and item["metadata"]["name"] == node:
            for one in item["status"]["conditions"]:
                if one["type"] == "Ready":
                    one["lastTransitionTime"] = stamp(then)
    return items
