"""What changed lately, from what the cluster itself still knows: revisions and what they changed, scalings, nodes and their state, deploys.

Pure over a World; who is to blame is for the detectors. Sources: pod templates of the newest two revisions, events, creation times,
condition transitions, and the status of what deploys (Argo CD Application, Flux Kustomization and HelmRelease). Limits: events expire,
usually after an hour; that an object without a controller was edited or deleted is written nowhere. Values of variables are not said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from cluster.facts.event import CustomObject, Event, items_of
from cluster.facts.node import Node
from cluster.facts.workload import DaemonSet, Deployment, StatefulSet
from cluster.reference import ObjectRef
from cluster.timestamps import parse_time
from cluster.world import World
from runbooks.revisions import Change, rollout_of

# What deploys, by kind; read where the cluster serves it.
DEPLOYERS = ("Application", "Kustomization", "HelmRelease")
FIELDS_SHOWN = 6
VALUE_LIMIT = 80
# Events that say that somebody or something changed an object, rather than that something failed.
_TELLING: dict[str, str] = {
    "ScalingReplicaSet": "scaled",
    "SuccessfulRescale": "autoscaled",
    "SuccessfulCreate": "made a pod",
    "SuccessfulDelete": "deleted a pod",
    "Preempted": "preempted",
    "EvictionByEvictionAPI": "evicted",
    "TaintManagerEviction": "evicted",
    "DeletingNode": "node deleted",
    "RemovingNode": "node removed",
    "NodeNotSchedulable": "node cordoned",
    "NodeSchedulable": "node uncordoned",
    "Rebooted": "node rebooted",
    "TriggeredScaleUp": "nodes asked for",
    "ScaleDown": "node removed",
    "DisruptionBlocked": "disruption blocked",
    "DeploymentRollback": "rolled back",
}
# Of pods only those of workloads without revisions tell something new.
_NOISE = frozenset({"made a pod", "deleted a pod"})
_VARIABLE = re.compile(r"\.env\[[^\]]*\](?:\.value)?$")


class Changed(Struct, frozen=True):
    """One change: when, of what, what it was in a few words, and its details."""

    at: datetime
    object: ObjectRef
    what: str
    details: str = ""


def changed(world: World, span: timedelta, about: ObjectRef | None = None) -> tuple[Changed, ...]:
    """The changes of the last `span`, the latest first; of one object and what it owns or is made of, where `about` says so."""
    begin = world.now - span
    near = None if about is None else {fact.ref.key for fact in world.descend(about)} | {ref.key for ref in world.owner_chain(about)}
    sources = (_revisions(world), _told(world), _nodes(world), _deploys(world))
    found = {item for source in sources for item in source if begin <= item.at <= world.now and (near is None or item.object.key in near)}
    return tuple(sorted(found, key=lambda item: (-item.at.timestamp(), item.object, item.what, item.details)))


def _revisions(world: World) -> Iterator[Changed]:
    for workload in (*world.all(Deployment), *world.all(StatefulSet), *world.all(DaemonSet)):
        rollout = rollout_of(world, workload.ref)
        if rollout is not None and rollout.at is not None:
            fields = "; ".join(_field(change) for change in rollout.changes[:FIELDS_SHOWN])
            more = f"; {len(rollout.changes) - FIELDS_SHOWN} more fields" if len(rollout.changes) > FIELDS_SHOWN else ""
            yield Changed(rollout.at, workload.ref, f"revision {rollout.previous_revision} to {rollout.revision}", fields + more)
        elif workload.created is not None:
            yield Changed(workload.created, workload.ref, "created")


def _field(change: Change) -> str:
    if _VARIABLE.search(change.path):
        return f"{change.path}: changed"
    sides = ((side if side is not None else "(absent)")[:VALUE_LIMIT] for side in (change.before, change.after))
    return f"{change.path}: {' -> '.join(sides)}"


def _told(world: World) -> Iterator[Changed]:
    for event in world.all(Event):
        what = _TELLING.get(event.reason)
        if what is None or event.last_seen is None or (what in _NOISE and event.subject.kind not in ("Job", "DaemonSet")):
            continue
        times = f" ({event.times} times)" if event.times > 1 else ""
        yield Changed(event.last_seen, event.subject, what, f"{event.text}{times}")


def _nodes(world: World) -> Iterator[Changed]:
    for node in world.all(Node):
        if node.created is not None:
            yield Changed(node.created, node.ref, "node joined")
        for item in node.status.conditions or ():
            if item.last_transition_time is not None and item.last_transition_time != node.created:
                yield Changed(item.last_transition_time, node.ref, f"{item.type} became {item.status}", item.message or item.reason or "")


def _deploys(world: World) -> Iterator[Changed]:
    for kind in DEPLOYERS:
        for item in world.custom(kind):
            if isinstance(item, CustomObject) and isinstance(item.status, dict):
                yield from _history(item, item.status)


def _history(item: CustomObject, status: dict[str, Any]) -> Iterator[Changed]:
    """Argo CD keeps `deployedAt` with a revision, helm-controller `lastDeployed` with a chart; of a Kustomization the last one is told."""
    for entry in items_of(status.get("history")):
        at = parse_time(entry.get("deployedAt") or entry.get("lastDeployed"))
        if at is not None:
            words = (f"{name} {entry[name]}" for name in ("revision", "chartVersion", "version", "status") if entry.get(name))
            yield Changed(at, item.ref, "deployed", ", ".join(words))
    for said in items_of(status.get("conditions")) if item.object_kind == "Kustomization" else ():
        at = parse_time(said.get("lastTransitionTime")) if said.get("type") == "Ready" else None
        if at is not None:
            yield Changed(at, item.ref, f"Ready became {said.get('status')}", f"revision {status.get('lastAppliedRevision', '?')}")
