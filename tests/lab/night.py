"""A fleet's night: GPU nodes full of training, models and notebooks, and one GPU that falls off the bus while people sleep.

Objects and logs, all by arithmetic, so that every night is the same; `nightseries` has what was measured. The GPU's holder is a worker of
a gang that then waits for it; the links of its node's other GPUs carry errors, which slows one replica of a model. The rest of the fleet
does what fleets do: restarts of long ago, a node that is cordoned for maintenance, notebooks that idle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from cluster.kinds import KINDS

END = datetime(2026, 2, 17, 2, 34, tzinfo=UTC)
FAULT = END - timedelta(minutes=20)
PER_NODE = 8
DEAD_GPU = 2
GANG = 16
GANG_GPUS = 4
REPLICAS = 6
RESEARCH, SERVING, CHAT = "research", "serving", "7c9d5b6f4"
_LONG_AGO = END - timedelta(days=9)
_NCCL = (
    "[rank{rank}]:[E0217 02:24:11.402113 ProcessGroupNCCL.cpp:632] [Rank {rank}] Watchdog caught collective operation timeout: "
    "WorkNCCL(SeqNum=91822, OpType=ALLREDUCE, NumelIn=67108864, NumelOut=67108864, Timeout(ms)=600000) "
    "ran for 600021 milliseconds before timing out.\n"
)
_LOST = """\
step 48211 loss 1.8817 tokens/s 412118
RuntimeError: CUDA error: unspecified launch failure
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
NVRM: Xid (PCI:0000:{bus}:00): 79, GPU has fallen off the bus.
"""
_NO_DEVICE = "RuntimeError: CUDA error: no CUDA-capable device is detected\n"
_WAITS = "Rendezvous: waiting for 16 of 16 nodes, 15 have joined\n"


class Night(Struct, frozen=True):
    """How large the fleet is. The gang needs `GANG` nodes; `sick` is the index of the node with the dead GPU."""

    nodes: int = 64
    pods: int = 2_000
    sick: int = 7

    @property
    def node(self) -> str:
        return name_of(self.sick)

    @property
    def slow_pod(self) -> str:
        return f"chat-{CHAT}-{_suffix(0)}"


def name_of(index: int) -> str:
    return f"gpu-{index:02}"


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _suffix(number: int) -> str:
    letters = "bcdfghjklmnpqrstvwxz"
    return "".join(letters[number // len(letters) ** place % len(letters)] for place in range(4, -1, -1))


def objects(night: Night) -> Iterator[dict[str, Any]]:
    """Every object of the fleet, as an API server gives them."""
    for namespace in (RESEARCH, SERVING, "notebooks", "gpu-operator", *(f"team-{index:02}" for index in range(12))):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": _metadata(namespace, None), "status": {"phase": "Active"}}
    for index in range(night.nodes):
        yield _node(name_of(index), PER_NODE, PER_NODE - 1 if index == night.sick else PER_NODE, cordoned=index == night.nodes - 1)
    for index in range(night.nodes // 4):
        yield _node(f"cpu-{index:02}", 0, 0)
    made = 0
    nodes = [name_of(night.sick + place) for place in range(REPLICAS)]
    for item in (*_gang(night), *_deployment("chat", SERVING, CHAT, nodes, GANG_GPUS, role="server"), *_rest(night)):
        made += item["kind"] == "Pod"
        yield item
    yield from _services(night, night.pods - made)


def logs(night: Night) -> Iterator[tuple[str, str]]:
    """(file name of a recording, text) of the containers that have something to say."""
    for index in range(GANG):
        mine, prefix = index == night.sick, f"{RESEARCH}__pretrain-{index}-{_suffix(index)}__trainer"
        yield f"{prefix}.log", _NO_DEVICE if mine else _WAITS
        yield f"{prefix}.previous.log", _LOST.format(bus=f"{0x1A + DEAD_GPU:02x}") if mine else _NCCL.format(rank=index * GANG_GPUS)


def write(night: Night, folder: Path) -> None:
    """The night as a recording in a new folder."""
    found = list(objects(night))
    (folder / "logs").mkdir(parents=True)
    (folder / "objects.yaml").write_text(yaml.dump_all(found, Dumper=yaml.CSafeDumper), "utf-8")
    manifest = {"format": 1, "cluster": "night", "now": stamp(END), "kinds_read": [kind.name for kind in KINDS], "objects": len(found)}
    (folder / "recording.yaml").write_text(yaml.safe_dump(manifest), "utf-8")
    for name, text in logs(night):
        (folder / "logs" / name).write_text(text, "utf-8")


def devices_of(pod: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(node, index) of the devices that a pod holds."""
    first, _, count = pod["metadata"]["annotations"]["night/devices"].partition("+")
    return [(pod["spec"]["nodeName"], int(first) + place) for place in range(int(count))]


def _metadata(name: str, namespace: str | None, **more: Any) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, "uid": f"{namespace or 'cluster'}-{name}", "creationTimestamp": stamp(_LONG_AGO), **more}


def _owner(kind: str, name: str, namespace: str) -> dict[str, Any]:
    version = {"Job": "batch/v1", "JobSet": "jobset.x-k8s.io/v1alpha2"}.get(kind, "apps/v1")
    return {"apiVersion": version, "kind": kind, "name": name, "uid": f"{namespace}-{name}", "controller": True}


def _node(name: str, gpus: int, usable: int, *, cordoned: bool = False) -> dict[str, Any]:
    sizes = {"cpu": "192", "memory": "2Ti", "pods": "250"}
    labels = {"kubernetes.io/hostname": name}
    if gpus:
        labels |= {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": str(gpus)}
    conditions = [
        {"type": kind, "status": "True" if kind == "Ready" else "False", "lastTransitionTime": stamp(_LONG_AGO), "reason": "Kubelet"}
        for kind in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
    ]
    spec: dict[str, Any] = {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]} if gpus else {}
    if cordoned:
        spec["unschedulable"] = True
        spec["taints"] = [*spec["taints"], {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    count = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": _metadata(name, None, labels=labels),
        "spec": spec,
        "status": {
            "capacity": sizes | count,
            "allocatable": sizes | ({"nvidia.com/gpu": str(usable)} if gpus else {}),
            "conditions": conditions,
        },
    }


def _pod(
    name: str, namespace: str, node: str, owner: dict[str, Any], container: str, first_gpu: int = 0, gpus: int = 0, **more: Any
) -> dict[str, Any]:
    """A pod that runs and is ready. `first_gpu` is where its devices begin on the node, which an API server does not show."""
    wants = {"cpu": "8", "memory": "64Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    since = stamp(_LONG_AGO + timedelta(minutes=2))
    status = {"name": container, "ready": True, "started": True, "restartCount": 0, "image": "i", "imageID": "i@sha256:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(name, namespace, labels={"app": owner["name"], **more}, ownerReferences=[owner])
        | {"annotations": {"night/devices": f"{first_gpu}+{gpus}"}},
        "spec": {
            "nodeName": node,
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "containers": [
                {"name": container, "image": f"registry.example.com/{container}:1", "resources": {"limits": wants, "requests": wants}}
            ],
        },
        "status": {
            "phase": "Running",
            "startTime": since,
            "conditions": [{"type": kind, "status": "True", "lastTransitionTime": since} for kind in ("PodScheduled", "Ready")],
            "containerStatuses": [{**status, "state": {"running": {"startedAt": since}}}],
        },
    }


def _gang(night: Night) -> Iterator[dict[str, Any]]:
    """The training: its workers gave up ten minutes after the GPU died, and wait for the one that cannot come back."""
    gave_up, owner = FAULT + timedelta(minutes=10), _owner("Job", "pretrain", RESEARCH)
    yield {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata("pretrain", RESEARCH, labels={"app": "pretrain"}),
        "spec": {"completions": GANG, "parallelism": GANG, "completionMode": "Indexed", "backoffLimit": 100},
        "status": {"active": GANG, "ready": GANG - 1, "startTime": stamp(_LONG_AGO)},
    }
    for index in range(GANG):
        pod = _pod(f"pretrain-{index}-{_suffix(index)}", RESEARCH, name_of(index), owner, "trainer", 0, GANG_GPUS)
        [status] = pod["status"]["containerStatuses"]
        ended = {"startedAt": stamp(_LONG_AGO), "finishedAt": stamp(gave_up), "exitCode": 134, "reason": "Error"}
        status |= {"restartCount": 1, "lastState": {"terminated": ended}, "state": {"running": {"startedAt": stamp(gave_up)}}}
        if index == night.sick:
            died = ended | {"exitCode": 1, "startedAt": stamp(END - timedelta(minutes=4)), "finishedAt": stamp(END - timedelta(minutes=3))}
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container=trainer"}
            status |= {"restartCount": 6, "ready": False, "lastState": {"terminated": died}, "state": {"waiting": waiting}}
            pod["status"]["conditions"][1] |= {"status": "False", "lastTransitionTime": stamp(FAULT), "reason": "ContainersNotReady"}
        yield pod


def _workload(kind: str, name: str, namespace: str, count: int) -> dict[str, Any]:
    labels, template = {"app": name}, {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    status = {"replicas": count, "readyReplicas": count, "availableReplicas": count, "updatedReplicas": count}
    if kind == "DaemonSet":
        names = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "numberAvailable", "updatedNumberScheduled")
        status = dict.fromkeys(names, count)
    if kind == "ReplicaSet":
        del status["updatedReplicas"]
    spec: dict[str, Any] = {"selector": {"matchLabels": labels}, "template": template} | (
        {} if kind == "DaemonSet" else {"replicas": count}
    )
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": _metadata(name, namespace), "spec": spec, "status": status}


def _deployment(name: str, namespace: str, revision: str, nodes: Sequence[str], gpus: int = 0, **labels: str) -> Iterator[dict[str, Any]]:
    """A Deployment with its ReplicaSet and one pod for each of the nodes, which holds the last `gpus` devices there."""
    yield _workload("Deployment", name, namespace, len(nodes))
    held = _workload("ReplicaSet", f"{name}-{revision}", namespace, len(nodes))
    held["metadata"] |= {"ownerReferences": [_owner("Deployment", name, namespace)]}
    yield held
    owner = _owner("ReplicaSet", f"{name}-{revision}", namespace)
    for number, node in enumerate(nodes):
        pod, container = f"{name}-{revision}-{_suffix(number)}", "vllm" if gpus else "web"
        yield _pod(pod, namespace, node, owner, container, PER_NODE - gpus, gpus, **labels)


def _rest(night: Night) -> Iterator[dict[str, Any]]:
    """What else holds GPUs: other models, notebooks, and each node's daemons."""
    for number, name in enumerate(("embed", "rerank", "code")):
        nodes = [name_of(GANG + number * 4 + place) for place in range(4)]
        yield from _deployment(name, SERVING, f"66f{number}d8c9b", nodes, PER_NODE, role="server")
    for number in range(GANG + 12, night.nodes - 1):
        yield _workload("StatefulSet", f"lab-{number}", "notebooks", 1)
        owner = _owner("StatefulSet", f"lab-{number}", "notebooks")
        pod = _pod(f"lab-{number}-0", "notebooks", name_of(number), owner, "notebook", 0, 1 + number % 7)
        if number % 9 == 0:
            ended = {
                "exitCode": 137,
                "reason": "OOMKilled",
                "startedAt": stamp(_LONG_AGO),
                "finishedAt": stamp(_LONG_AGO + timedelta(days=1)),
            }
            pod["status"]["containerStatuses"][0] |= {"restartCount": 1, "lastState": {"terminated": ended}}
        yield pod
    for daemon in ("dcgm-exporter", "nvidia-device-plugin-daemonset"):
        yield _workload("DaemonSet", daemon, "gpu-operator", night.nodes)
        for index in range(night.nodes):
            owner = _owner("DaemonSet", daemon, "gpu-operator")
            yield _pod(f"{daemon}-{_suffix(index)}", "gpu-operator", name_of(index), owner, daemon)


def _services(night: Night, count: int) -> Iterator[dict[str, Any]]:
    """Ordinary Deployments of five pods on nodes without GPUs."""
    names = [f"cpu-{index:02}" for index in range(night.nodes // 4)]
    for first in range(0, count, 5):
        number = first // 5
        nodes = [names[(first + place) % len(names)] for place in range(min(5, count - first))]
        yield from _deployment(f"web-{number // 12}", f"team-{number % 12:02}", "5d7f9c4b8", nodes)


def complaints(night: Night, document: Mapping[str, Any]) -> list[str]:
    """What a diagnosis of the night says wrongly: [] when its only cause is the dead GPU, with both victims under it."""
    if not document["causes"]:
        return ["there is no cause"]
    first, wrong = document["causes"][0], []
    if first["object"]["name"] != night.node or first["class"] != "gpu/xid-hardware":
        wrong.append(f"the first cause is {first['class']} of {first['object']['name']}")
    if not any("79" in item["quote"] and f"gpu {DEAD_GPU}" in item["path"] for item in first["evidence"]):
        wrong.append(f"no evidence names XID 79 of GPU {DEAD_GPU}")
    victims = {(item["object"]["kind"], item["object"]["name"]) for item in first["symptoms"]}
    wrong += [f"{name} is not under it" for kind, name in (("Job", "pretrain"), ("Deployment", "chat")) if (kind, name) not in victims]
    wrong += [f"{item['object']['name']} is accused of {item['class']}" for item in document["causes"][1:]]
    return wrong
