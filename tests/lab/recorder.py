"""Recordings of scenarios: what the product's own recorder writes, less what every fresh cluster holds.

Kept are the objects of the scenario's namespaces, the nodes that every scenario finds and whatever cluster-wide objects it applied.
Built-in roles, priorities and APIs would be most of a recording and tell nothing.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from cluster.fleet import Fleet
from cluster.kinds import Kind
from cluster.kube import KubeReader
from cluster.reading import LogText, Reading
from cluster.recording import write_recording
from cluster.reference import ContainerRef, Scope
from tests.lab.batches import cluster_wide
from tests.lab.lab import Lab
from tests.lab.scenario import Scenario

FOLDER = Path(__file__).parent.parent / "recordings"
FLEET = frozenset({"cpu-0", "cpu-1", "gpu-0", "gpu-1"})
# In every object, namespace, pod or container alike, and told by nobody: what the API server adds by itself.
DROPPED_METADATA = ("generateName", "resourceVersion")
DROPPED_FIELDS = frozenset({"terminationMessagePath", "terminationMessagePolicy", "reportingInstance", "daemonEndpoints"})
# Events of every start that goes well.
ROUTINE = frozenset({"Scheduled", "Pulled", "Created", "Started", "SuccessfulCreate"})
TOKEN_VOLUME = "kube-api-access-"
ROOT_CERTIFICATES = ("ConfigMap", "kube-root-ca.crt")


class Trimmed:
    """A reader that leaves out what a scenario does not touch."""

    def __init__(self, reader: KubeReader, scene: Scenario) -> None:
        self._reader = reader
        self._names = cluster_wide(scene) | {("Node", name) for name in FLEET} | {("Namespace", name) for name in scene.namespaces}

    @property
    def cluster(self) -> str:
        return "lab"

    async def documents(self, kind: Kind, scope: Scope) -> Reading[tuple[dict[str, Any], ...]]:
        """What the live reader gives, without the cluster-wide objects of others."""
        reading = await self._reader.documents(kind, scope)
        named = [(one, (kind.name, one["metadata"]["name"])) for one in reading.value]
        kept = tuple(lean(one) for one, name in named if (kind.namespaced or name in self._names) and not tells_nothing(one))
        return Reading(kept, reading.missing, reading.cost)

    async def logs(self, container: ContainerRef, *, previous: bool, limit_bytes: int, since: datetime | None = None) -> Reading[LogText]:
        return await self._reader.logs(container, previous=previous, limit_bytes=limit_bytes, since=since)


def tells_nothing(document: dict[str, Any]) -> bool:
    """Whether every fresh namespace and every start has such an object."""
    routine = document["kind"] == "Event" and document["reason"] in ROUTINE
    return routine or (document["kind"], document["metadata"]["name"]) == ROOT_CERTIFICATES


def lean(document: dict[str, Any]) -> dict[str, Any]:
    """An object without what the API server adds to every one of its kind."""
    if document["kind"] == "Event":
        # Nothing refers to an event, and what it is about is known by name and uid.
        about = {key: value for key, value in document["involvedObject"].items() if key not in ("resourceVersion", "apiVersion")}
        named = {key: document["metadata"][key] for key in ("name", "namespace", "creationTimestamp")}
        document = {**document, "involvedObject": about, "metadata": named}
    document = {**document, "metadata": {key: value for key, value in document["metadata"].items() if key not in DROPPED_METADATA}}
    return cast("dict[str, Any]", _pruned(document))


def _pruned(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _pruned(value) for key, value in node.items() if key not in DROPPED_FIELDS and value is not None}
    if isinstance(node, list):
        return [_pruned(one) for one in node if not (isinstance(one, dict) and str(one.get("name", "")).startswith(TOKEN_VOLUME))]
    return node


async def record(lab: Lab, scene: Scenario, folder: Path) -> Path:
    """Record what the lab's reader sees of a scene, over an earlier recording of the same name."""
    fleet = Fleet.find(os.environ, Path.home(), lambda: datetime.now(UTC), lab.kubeconfig("reader"))
    async with KubeReader(await fleet.connect()) as reader:
        scope = Scope("lab", tuple(sorted(scene.namespaces)))
        shutil.rmtree(folder, ignore_errors=True)
        written = await write_recording(Trimmed(reader, scene), scope, folder, reader.now)
    return written.folder
