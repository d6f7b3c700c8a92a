"""Plays plans in the lab and records each namespace: the worlds as a real control plane leaves them once they have come to rest.

A recording holds everything of a cluster; a world keeps its namespace, the nodes that its pods are on and the cluster-scoped objects
that it uses. Then it is aged, and given its past where it has one.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import anyio
import yaml

from cluster.fleet import Fleet
from cluster.kube import KubeReader
from cluster.manifest import MANIFEST_NAME, OBJECTS_NAMES
from cluster.recording import write_recording
from cluster.reference import Scope
from tests.healthy.generator import Plan
from tests.healthy.manifests import Object, thing
from tests.healthy.past import PASTS
from tests.healthy.retelling import stamp
from tests.healthy.worlds import HealthyWorld, dump
from tests.lab import scenario
from tests.lab.api import ApiClient, wait_for
from tests.lab.lab import Lab

SETTLE_SECONDS = 90.0
STILL_SECONDS = 1.0  # nothing may have changed for this long before a world counts as at rest
BATCH = 20
EVENTS_KEPT = timedelta(hours=1)  # kube-apiserver's --event-ttl
NODE_AGE = timedelta(days=40)
CPU_NODES = 6
GPU_NODES = 6
DEVICES = 64

_MOMENT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def fleet() -> Iterator[Object]:
    """Nodes beyond the lab's own: enough for a batch, one cordoned, one whose devices are claimed."""
    base = {"lab.smokejumper.dev/kubelet": "played", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    for index in range(CPU_NODES):
        zone = "zone-c" if index < 2 else f"zone-{'ab'[index % 2]}"
        yield _node(f"pool-{index}", {**base, "lab.smokejumper.dev/machine": "cpu", "topology.kubernetes.io/zone": zone})
    gpu = {"lab.smokejumper.dev/machine": "gpu", "nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": "8"}
    for index in range(GPU_NODES):
        taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
        yield _node(f"gpu-pool-{index}", {**base, **gpu, "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, taints=[taint])
    yield _node("drained-0", {**base, "lab.smokejumper.dev/machine": "cpu"}, unschedulable=True)
    yield _node("device-0", {**base, "lab.smokejumper.dev/machine": "cpu", "topology.kubernetes.io/zone": "zone-a"})
    expression = "device.driver == 'gpu.example.com'"
    yield thing("DeviceClass", "resource.k8s.io/v1", "gpu.example.com", None, spec={"selectors": [{"cel": {"expression": expression}}]})
    devices = [{"name": f"gpu-{index}", "attributes": {"uuid": {"string": f"GPU-{index:04}"}}} for index in range(DEVICES)]
    pool = {"name": "device-0", "generation": 1, "resourceSliceCount": 1}
    slice_spec = {"driver": "gpu.example.com", "nodeName": "device-0", "pool": pool, "devices": devices}
    yield thing("ResourceSlice", "resource.k8s.io/v1", "device-0-gpu.example.com", None, spec=slice_spec)


def _node(name: str, labels: dict[str, str], **spec: Any) -> Object:
    made = thing("Node", "v1", name, None, **({"spec": spec} if spec else {}))
    made["metadata"]["labels"] = labels
    return made


def play(lab: Lab, plans: Sequence[Plan], keep: Callable[[HealthyWorld], None]) -> None:
    """Make the worlds, some at a time, and hand each to `keep`. Raises WaitTimeoutError for a plan that does not come to rest."""
    lab.apply(*fleet())
    for start in range(0, len(plans), BATCH):
        batch = plans[start : start + BATCH]
        try:
            _load(lab, batch)
            for world in anyio.run(_record_all, lab, batch):
                keep(world)
        finally:
            _clear(lab, batch)


def _load(lab: Lab, plans: Sequence[Plan]) -> None:
    client = lab.client("lab:loader")
    now = datetime.now(UTC)
    for plan in plans:
        scenario.apply(client, [_moments(one, now) for one in (*plan.cluster, *plan.manifests)])
    for plan in plans:
        # What is moving has to have come to rest before its change, else the change would meet it half made.
        _settle(client, plan, frozenset() if plan.changes else plan.moving)
    for plan in plans:
        scenario.apply(client, [_moments(one, now) for one in plan.changes])
    for plan in plans:
        _settle(client, plan, plan.moving)


def _clear(lab: Lab, plans: Sequence[Plan]) -> None:
    client = lab.client("lab:loader")
    for plan in plans:
        if client.get("v1", "Namespace", plan.namespace) is not None:
            scenario.delete_namespace(client, plan.namespace)
        for one in plan.cluster:
            client.delete(one["apiVersion"], one["kind"], one["metadata"]["name"])
    for plan in plans:
        wait_for(f"{plan.namespace} to be gone", partial(_absent, client, plan.namespace), SETTLE_SECONDS)


def _absent(client: ApiClient, namespace: str) -> bool:
    return client.get("v1", "Namespace", namespace) is None


def _settle(client: ApiClient, plan: Plan, moving: frozenset[str]) -> None:
    wait_for(
        f"{plan.namespace} ({', '.join(plan.parts)}) to come to rest", lambda: _at_rest(client, plan.namespace, moving), SETTLE_SECONDS
    )


def _at_rest(client: ApiClient, namespace: str, moving: frozenset[str]) -> bool:
    """Whether every controller has done what it was asked. Workloads that move need only have been noticed."""
    for version, kind in (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("apps/v1", "DaemonSet"), ("batch/v1", "Job")):
        for one in client.list(version, kind, namespace):
            if not _done(kind, one, moving):
                return False
    claims = client.list("v1", "PersistentVolumeClaim", namespace)
    if any(one["spec"].get("volumeName") and one["status"].get("phase") != "Bound" for one in claims):
        return False
    newest = max((stamped for one in client.list("v1", "Pod", namespace) for stamped in _stamps(one)), default="")
    return not newest or newest < stamp(datetime.now(UTC) - timedelta(seconds=STILL_SECONDS))


def _done(kind: str, one: Object, moving: frozenset[str]) -> bool:
    spec, status = one["spec"], one.get("status", {})
    if kind == "Job":
        ended = any(
            condition["type"] in ("Complete", "Suspended") and condition["status"] == "True" for condition in status.get("conditions", ())
        )
        # A Job that is to be suspended or to go on is at rest once its pod runs.
        return ended or bool(status.get("ready"))
    if status.get("observedGeneration") != one["metadata"]["generation"]:
        return False
    if one["metadata"]["name"] in moving:
        return spec.get("paused", False) or bool(status.get("readyReplicas", 0) >= spec["replicas"])
    if kind == "DaemonSet":
        return bool(status.get("numberReady") == status.get("desiredNumberScheduled"))
    wanted = spec["replicas"]
    counts = [status.get(field, 0) for field in ("replicas", "readyReplicas", "availableReplicas")]
    if kind == "Deployment":
        counts.append(status.get("updatedReplicas", 0))
    return all(count == wanted for count in counts) and status.get("updateRevision") == status.get("currentRevision")


def _stamps(pod: Object) -> Iterator[str]:
    for condition in pod.get("status", {}).get("conditions", ()):
        yield str(condition.get("lastTransitionTime") or "")


async def _record_all(lab: Lab, plans: Sequence[Plan]) -> list[HealthyWorld]:
    connection = await Fleet.find({}, Path("/nonexistent"), _now, lab.kubeconfig("reader")).connect()
    worlds = []
    async with KubeReader(connection) as reader:
        with tempfile.TemporaryDirectory(prefix="smokejumper-healthy-") as folder:
            for plan in plans:
                written = await write_recording(reader, Scope("lab", (plan.namespace,)), Path(folder) / plan.namespace, _now)
                worlds.append(world_of(plan, written.folder))
    return worlds


def _now() -> datetime:
    return datetime.now(UTC)


def world_of(plan: Plan, recording: Path) -> HealthyWorld:
    """The world of a plan out of the recording of its namespace: trimmed, aged, and with its past."""
    manifest = yaml.load((recording / MANIFEST_NAME).read_text("utf-8"), Loader=_Loader)
    items = yaml.load((recording / OBJECTS_NAMES[0]).read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["items"]
    items = _plain(items)
    now = datetime.fromisoformat(manifest["now"])
    kept = _aged(list(_trimmed(items, plan)), timedelta(hours=plan.age_hours), now)
    random = Random(plan.seed)
    for name in plan.pasts:
        kept = PASTS[name](kept, random, now)
    # Custom kinds that only a past holds were read, as it were; the lab does not have them.
    held = {item["kind"] for item in kept}
    manifest["missing"] = [gap for gap in manifest.get("missing", ()) if gap.get("kind") not in held]
    manifest["kinds_read"] = list(dict.fromkeys([*manifest["kinds_read"], *sorted(held)]))
    manifest["objects"] = len(kept)
    logs = {path.name: path.read_text("utf-8") for path in sorted((recording / "logs").glob("*.log"))}
    about = {
        "seed": plan.seed,
        "namespace": plan.namespace,
        "parts": list(plan.parts),
        "pasts": list(plan.pasts),
        "age_hours": plan.age_hours,
        "cordoned": plan.cordoned,
    }
    return HealthyWorld(about, dump(manifest), dump({"apiVersion": "v1", "kind": "List", "items": kept}), logs)


def _plain(value: Any) -> Any:
    """Without YAML's own dates: a recording has moments as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value


def _moments(value: Any, now: datetime) -> Any:
    """With `@ago 5m@` turned into moments, as scenarios have it."""
    if isinstance(value, dict):
        return {key: _moments(item, now) for key, item in value.items()}
    if isinstance(value, list):
        return [_moments(item, now) for item in value]
    if isinstance(value, str) and value.startswith("@ago "):
        return stamp(now - timedelta(minutes=int(value.removeprefix("@ago ").removesuffix("m@"))))
    return value


def _trimmed(items: Iterable[Object], plan: Plan) -> Iterator[Object]:
    """The objects of the namespace and the cluster-scoped ones that it uses, in the recording's order."""
    listed = list(items)
    inside = [item for item in listed if item["metadata"].get("namespace") == plan.namespace]
    nodes = {item["spec"].get("nodeName") for item in inside if item["kind"] == "Pod"}
    nodes |= {"drained-0"} if plan.cordoned else set()
    devices = any(item["kind"] == "ResourceClaim" for item in inside)
    nodes |= {"device-0"} if devices else set()
    own = {(one["kind"], one["metadata"]["name"]) for one in plan.cluster}
    for item in listed:
        kind, metadata = item["kind"], item["metadata"]
        used = (
            metadata.get("namespace") == plan.namespace
            or (kind, metadata["name"]) in own
            or (kind == "Namespace" and metadata["name"] == plan.namespace)
            or (kind in ("Node", "CSINode") and metadata["name"] in nodes)
            or (kind == "PriorityClass" and metadata["name"].startswith("system-"))
            or (devices and kind in ("DeviceClass", "ResourceSlice") and "example.com" in metadata["name"])
        )
        if used:
            yield item


def _aged(items: list[Object], age: timedelta, now: datetime) -> list[Object]:
    """As if everything had been made `age` earlier. Events end after an hour; schedules are left alone, for they follow the clock."""
    kept = []
    for item in items:
        if item["kind"] == "Node":
            beats = {one["type"]: one["lastHeartbeatTime"] for one in item["status"]["conditions"]}
            item = _shifted(item, NODE_AGE)
            for one in item["status"]["conditions"]:
                one["lastHeartbeatTime"] = beats[one["type"]]
            kept.append(item)
        elif item["kind"] == "Event":
            shifted = item if _written_by_plan(item) else _shifted(item, age)
            if now - datetime.fromisoformat(_latest(shifted)) < EVENTS_KEPT:
                kept.append(shifted)
        else:
            kept.append(item if item["kind"] == "CronJob" else _shifted(item, age))
    return kept


def _written_by_plan(item: Object) -> bool:
    """Whether an event came with its moments: no component of the lab writes one about something older than the lab."""
    return "uid" not in item.get("involvedObject", {})


def _latest(item: Object) -> str:
    return str(item.get("lastTimestamp") or item.get("eventTime") or item["metadata"]["creationTimestamp"])


def _shifted(value: Any, by: timedelta) -> Any:
    if isinstance(value, dict):
        return {key: _shifted(item, by) for key, item in value.items()}
    if isinstance(value, list):
        return [_shifted(item, by) for item in value]
    if isinstance(value, str) and _MOMENT.match(value):
        return (datetime.fromisoformat(value) - by).isoformat().replace("+00:00", "Z")
    return value
