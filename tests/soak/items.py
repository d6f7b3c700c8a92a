"""What the storm proposes: one change for each object of its own, and where the process that is at it dies or falls asleep. Pure.

Steps are the executor's own (`change:sent`), and those that the worker adds around them: `:leaving` and `:answered` are the wire before
and after a request, `:entry` is the middle of a database transaction.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

How = Literal["kill", "stop"]

PROPOSING = ("propose:entry", "propose:try:leaving", "propose:try:answered", "proposed", "approve:entry", "approved")
CLAIMING = ("claim:try:leaving", "claim:try:answered", "claim:entry", "claimed")
CHANGING = ("change:intended", "change:leaving", "change:answered", "change:sent", "change:sent:entry", "change:recorded")
VERIFYING = ("verifying", "looking", "verified")
SUCCEEDING = ("ending:succeeded", "ending:succeeded:entry", "ended:succeeded")
ROLLING_BACK = (
    "failed",
    "rolling_back",
    "rollback:intended",
    "rollback:leaving",
    "rollback:answered",
    "rollback:sent",
    "rollback:sent:entry",
    "rollback:recorded",
    "ending:rolled_back",
    "ended:rolled_back",
)
STRAIGHT = (*PROPOSING, *CLAIMING, *CHANGING, *VERIFYING, *SUCCEEDING)
UNDONE = (*VERIFYING, *ROLLING_BACK)
# Of a hundred items: how many of each sort.
SHARES = {"suspend": 22, "pause": 12, "configuration": 14, "scale": 8, "delete": 12, "evict": 8, "partition": 20, "moved": 4}
BAD_PROFILE = "all-bad"
MIG_CONFIG = "nvidia.com/mig.config"


@dataclass(frozen=True)
class Fate:
    """What befalls the process that comes to this step with the item."""

    step: str
    how: How


@dataclass(frozen=True)
class Item:
    """One change to one object. The second fate can only befall whoever takes over after the first."""

    number: int
    sort: str
    space: str
    fates: tuple[Fate, ...]

    @property
    def name(self) -> str:
        return f"item-{self.number:03}"

    @property
    def subject(self) -> tuple[str, str | None, str]:
        """(kind, namespace, name) of the target."""
        if self.sort == "partition":
            return "Node", None, f"{self.space}-{self.number:03}"
        kinds = {"pause": "Deployment", "scale": "Deployment", "configuration": "ConfigMap", "delete": "Pod", "evict": "Pod"}
        return kinds.get(self.sort, "CronJob"), self.space, f"{self.name}-0" if self.sort in ("delete", "evict") else self.name

    @property
    def action(self) -> dict[str, Any]:
        actions: dict[str, dict[str, Any]] = {
            "suspend": {"action": "suspend"},
            "moved": {"action": "suspend"},
            "pause": {"action": "rollout_pause"},
            "scale": {"action": "scale", "replicas": 1},
            "configuration": {"action": "edit_configmap_key", "key": "LEVEL", "value": "debug", "restart": [f"Deployment/{self.name}"]},
            "delete": {"action": "delete_pod"},
            "evict": {"action": "evict_pod"},
            "partition": {"action": "set_mig_profile", "profile": BAD_PROFILE},
        }
        return actions[self.sort]

    def manifests(self) -> tuple[dict[str, Any], ...]:
        """What must be there before: controllers without pods wherever the pods do not matter."""
        container: dict[str, Any] = {"name": "server", "image": "example.com/server:v1"}
        if self.sort == "configuration":
            container["envFrom"] = [{"configMapRef": {"name": self.name}}]
        pod: dict[str, Any] = {"containers": [container]}
        if self.sort in ("suspend", "moved"):
            job = {"spec": {"template": {"spec": {**pod, "restartPolicy": "Never"}}}}
            return (self._object("batch/v1", "CronJob", {"spec": {"schedule": "0 3 1 1 *", "jobTemplate": job}}),)
        if self.sort == "partition":
            labels = {"nvidia.com/mig.capable": "true", MIG_CONFIG: "all-disabled"}
            metadata = {"name": self.subject[2], "labels": labels}
            return ({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"unschedulable": True}},)
        labels = {"app": self.name}
        template = {"metadata": {"labels": labels}, "spec": pod}
        spec: dict[str, Any] = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        if self.sort in ("delete", "evict"):
            return (self._object("apps/v1", "StatefulSet", {"spec": {**spec, "replicas": 1, "serviceName": self.name}}),)
        deployment = self._object("apps/v1", "Deployment", {"spec": spec})
        configuration = self._object("v1", "ConfigMap", {"data": {"LEVEL": "info"}})
        return (configuration, deployment) if self.sort == "configuration" else (deployment,)

    def _object(self, version: str, kind: str, parts: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": version, "kind": kind, "metadata": {"name": self.name, "namespace": self.space}, **parts}


def draw(count: int, space: str, seed: int) -> tuple[Item, ...]:
    """That many items, well mixed. Six of seven meet a fate, one of three of those a second one; every step has its turn."""
    chance = random.Random(seed)
    sorts = [sort for sort, share in SHARES.items() for _ in range(share)]
    drawn: list[Item] = []
    turns = {STRAIGHT: 0, UNDONE: 0}
    chosen = [sorts[n % len(sorts)] for n in range(0, count * 37, 37)]
    for number, sort in enumerate(chosen):
        fates: tuple[Fate, ...] = ()
        if sort != "moved" and chance.random() < 6 / 7:
            steps = UNDONE if sort == "partition" else STRAIGHT
            turn = turns[steps]
            turns[steps] += 1
            step = steps[turn % len(steps)]
            stops = turn // len(steps) % 4 == 1 and not step.endswith(":entry")
            fates = (Fate(step, "stop" if stops else "kill"),)
            if chance.random() < 1 / 3:
                fates = (*fates, Fate(chance.choice(UNDONE if sort == "partition" else (*CLAIMING, *CHANGING, *VERIFYING)), "kill"))
        drawn.append(Item(number, sort, space, fates))
    return tuple(drawn)
