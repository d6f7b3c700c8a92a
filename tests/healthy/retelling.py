"""How a past is written into recorded objects: who may have one, in which words a component tells it, and how old that makes an object."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

from tests.healthy.manifests import Object, event

Items = list[Object]


def stamp(moment: datetime) -> str:
    """A moment as the API writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def ready_pods(items: Items) -> Iterator[Object]:
    """Running pods with everything ready, the same order in every run."""
    for item in sorted(items, key=lambda one: str(one["metadata"]["name"])):
        conditions = item.get("status", {}).get("conditions", ()) if item["kind"] == "Pod" else ()
        if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            yield item


def lived_in(items: Items, random: Random) -> Object:
    """One of the pods that a Deployment has had for long."""
    pods = [pod for pod in ready_pods(items) if "-old-" in pod["metadata"]["name"]]
    return random.choice(pods)


def told_of(pod: Object, reason: str, message: str, first: datetime, last: datetime, count: int = 1, *, normal: bool = False) -> Object:
    """A kubelet's event about a pod."""
    metadata = pod["metadata"]
    made = event(metadata["namespace"], "Pod", metadata["name"], reason, message, count=count)
    made["metadata"]["name"] = f"{metadata['name']}.{reason.lower()}{int(first.timestamp()):x}"
    made["metadata"]["creationTimestamp"] = stamp(first)
    made["involvedObject"]["uid"] = metadata["uid"]
    made |= {"firstTimestamp": stamp(first), "lastTimestamp": stamp(last), "type": "Normal" if normal else "Warning"}
    made["source"] = {"component": "kubelet", "host": pod["spec"]["nodeName"]}
    return made


def make_old(items: Items, pod: Object, moment: datetime) -> None:
    """Make a pod and its controllers at least as old as a moment, so that its past fits it."""
    names = {pod["metadata"]["name"]}
    for item in (pod, *items):
        owned = {owner["name"] for owner in pod["metadata"].get("ownerReferences", ())}
        if item is pod or (item["kind"] in ("ReplicaSet", "Deployment") and (item["metadata"]["name"] in owned or _above(item, names))):
            item["metadata"]["creationTimestamp"] = min(item["metadata"]["creationTimestamp"], stamp(moment))
    pod["status"]["startTime"] = stamp(moment)


def _above(item: Object, names: set[str]) -> bool:
    return any(name.startswith(f"{item['metadata']['name']}-") for name in names)


def restart(pod: Object, moment: datetime, reason: str, code: int, count: int) -> None:
    """Write a restart into the pod's status: the container before ended at `moment`, the present one began right after."""
    status = pod["status"]["containerStatuses"][0]
    began, ended, again = stamp(moment - timedelta(minutes=50)), stamp(moment), stamp(moment + timedelta(seconds=11))
    status["restartCount"] = count
    status["lastState"] = {"terminated": {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": ended}}
    status["state"] = {"running": {"startedAt": again}}
    for one in pod["status"]["conditions"]:
        if one["type"] in ("Ready", "ContainersReady"):
            one["lastTransitionTime"] = stamp(moment + timedelta(seconds=30))


def condition(kind: str, status: str, reason: str, message: str, since: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def old_workload(items: Items, random: Random) -> tuple[str, str]:
    """(name, namespace) of the Deployment with a past."""
    pod = lived_in(items, random)
    return str(pod["metadata"]["labels"]["app"]), str(pod["metadata"]["namespace"])


def without_event(items: Items, kind: str, pod: Object, reason: str) -> Items:
    """The items less one event of a pod."""
    return [
        one
        for one in items
        if not (one["kind"] == kind and one.get("reason") == reason and one.get("involvedObject", {}).get("uid") == pod["metadata"]["uid"])
    ]
