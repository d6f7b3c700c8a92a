"""Model servers in one view: what serves, with which engine, on which accelerators, how much of it is ready, and how loaded it is.

Pure over a World. It judges nothing: what is slow or broken is for the detectors. A container counts as a model server by its image or
command; a resource that promises one (InferenceService and its like) counts also without pods. Limits: load is what metrics show, and
None where no series are at hand.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache

from msgspec import Struct

from cluster.facts.container import Container
from cluster.facts.node import Node
from cluster.facts.pod import Pod, PodSpec
from cluster.facts.workload import Deployment, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import Key, World
from guardrails.accelerator import vendor_of, vendors_by_resource
from runbooks.adapters import AdapterLoad, adapter_loads
from runbooks.detectors.probes import MODEL_SERVER
from runbooks.levels import by_pod
from runbooks.scheduling import requests_of

# Resources that promise a served model; what they make is found below them.
_PROMISES = ("InferenceService", "LLMInferenceService", "RayService")
_ENGINES = (
    ("vLLM", re.compile(r"vllm", re.I)),
    ("SGLang", re.compile(r"sglang", re.I)),
    ("TGI", re.compile(r"text-generation-inference|\btgi\b", re.I)),
    ("Triton", re.compile(r"tritonserver|triton", re.I)),
    ("TensorRT-LLM", re.compile(r"tensorrt|trtllm", re.I)),
    ("Ollama", re.compile(r"ollama", re.I)),
    ("llama.cpp", re.compile(r"llama", re.I)),
    ("LMDeploy", re.compile(r"lmdeploy", re.I)),
)
_WAITING = re.compile(r"^(?:vllm:num_requests_waiting|sglang:num_queue_reqs|tgi_queue_size|nv_inference_pending_request_count)$")
_CACHE = re.compile(r"^(?:vllm:(?:kv|gpu)_cache_usage_perc|sglang:token_usage)$")
_FIRST_TOKEN = re.compile(r"time_to_first_token_seconds_p95$")


class ModelServer(Struct, frozen=True):
    """One served model as a person knows it. `accelerators` is what one replica asks for, by resource; `models` the products of the
    devices' nodes. `waiting` counts requests over all replicas, `cache` is the fullest replica's share of KV cache (0 to 1),
    `first_token_seconds` the slowest replica's 95th percentile, `adapters` those of the replica at which most wait; each None where no
    metric tells."""

    workload: ObjectRef
    engine: str
    ready: int
    wanted: int
    accelerators: tuple[tuple[str, float], ...] = ()
    models: tuple[str, ...] = ()
    waiting: float | None = None
    cache: float | None = None
    first_token_seconds: float | None = None
    adapters: AdapterLoad | None = None

    @property
    def whole(self) -> bool:
        return self.ready >= self.wanted > 0


def model_servers(world: World) -> tuple[ModelServer, ...]:
    """All model servers, those that lack replicas first, then by place and name."""
    workloads: dict[Key, ObjectRef] = {}
    serving: dict[Key, list[Pod]] = defaultdict(list)
    for pod in world.all(Pod):
        if not pod.finished and server_of(pod.spec) is not None:
            workload = world.top_owner(pod.ref)
            workloads.setdefault(workload.key, workload)
            serving[workload.key].append(pod)
    # What promises a model without pods, or is scaled to none, still is somebody's.
    promised = [fact.ref for kind in _PROMISES for fact in world.custom(kind)]
    promised += [fact.ref for fact in world.all(Deployment) if server_of(fact.template.spec) is not None]
    promised += [fact.ref for fact in world.all(StatefulSet) if server_of(fact.template.spec) is not None]
    for ref in promised:
        top = world.top_owner(ref)
        workloads.setdefault(top.key, top)
    load = tuple({ref.key: level.value for ref, level in by_pod(world, name).items()} for name in (_WAITING, _CACHE, _FIRST_TOKEN))
    found = (_server(world, workload, serving[key], load) for key, workload in workloads.items())
    return tuple(sorted(found, key=lambda item: (item.whole, item.workload.namespace or "", item.workload.kind, item.workload.name)))


def server_of(spec: PodSpec) -> Container | None:
    """The container of a pod that serves a model."""
    return next((container for container in spec.containers if _serves(words_of(container))), None)


# The pods of a workload run the same words, and most clusters have far fewer workloads than pods.
@lru_cache(4096)
def _serves(words: str) -> bool:
    return MODEL_SERVER.search(words) is not None


def words_of(container: Container) -> str:
    """What tells what a container runs."""
    return " ".join((container.image, *(container.command or ()), *(container.args or ())))


def engine_of(container: Container) -> str:
    """The engine's name, "" for one that is not known by name."""
    words = words_of(container)
    return next((name for name, pattern in _ENGINES if pattern.search(words)), "")


def _server(world: World, workload: ObjectRef, pods: list[Pod], load: tuple[dict[Key, float], ...]) -> ModelServer:
    below = [fact for fact in world.descend(workload) if isinstance(fact, Deployment | StatefulSet)]
    specs = [*(pod.spec for pod in pods), *(fact.template.spec for fact in below)]
    containers = [container for spec in specs if (container := server_of(spec)) is not None]
    asked = requests_of(specs[0]) if specs else {}
    nodes = (world.get(Node, None, pod.spec.node_name) for pod in pods if pod.spec.node_name)
    adapters = world.once(adapter_loads)
    waiting, cache, first_token = ([values[pod.ref.key] for pod in pods if pod.ref.key in values] for values in load)
    return ModelServer(
        workload,
        next((engine for container in containers if (engine := engine_of(container))), ""),
        sum(pod.ready for pod in pods),
        max(len(pods), sum(fact.spec.replicas for fact in below)),
        tuple(sorted((name, count) for name, count in asked.items() if vendor_of(name) is not None)),
        tuple(sorted({model for node in nodes if node is not None and (model := product_of(node))})),
        sum(waiting) if waiting else None,
        max(cache, default=None),
        max(first_token, default=None),
        max(
            (adapters[pod.ref] for pod in pods if pod.ref in adapters),
            key=lambda load: (len(load.waiting), len(load.running), load.pod.name),
            default=None,
        ),
    )


def product_of(node: Node) -> str:
    """The product name of a node's accelerators, "" where no label tells."""
    vendors = dict.fromkeys(vendors_by_resource(node.status.capacity or {}).values())
    labels = (node.labels.get(label, "") for vendor in vendors for label in vendor.models)
    return next((label for label in labels if label), "")
