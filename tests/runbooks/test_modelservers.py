"""Model servers are known by what runs, by what promises one, and by what a workload would run."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cluster.facts.container import Container
from cluster.reading import Reading, Sample, Series
from cluster.reference import ObjectRef
from cluster.telemetry import Telemetry
from cluster.world import World
from runbooks.adapters import METRIC
from runbooks.modelservers import ModelServer, engine_of, model_servers
from tests.runbooks.worlds import NOW, world

SERVERS = """
kind: Node
metadata: {name: g, labels: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}}
status: {capacity: {nvidia.com/gpu: 8}, allocatable: {nvidia.com/gpu: 8}}
---
kind: Deployment
metadata: {name: chat, namespace: ml, uid: d}
spec: {replicas: 3, selector: {matchLabels: {app: chat}}, template: {spec: {containers: [{name: c, image: vllm/vllm-openai:v1}]}}}
---
kind: ReplicaSet
metadata: {name: chat-1, namespace: ml, uid: r, ownerReferences: [{kind: Deployment, name: chat, uid: d, controller: true}]}
spec: {replicas: 3}
---
kind: Pod
metadata: {name: chat-1-a, namespace: ml, ownerReferences: [{kind: ReplicaSet, name: chat-1, uid: r, controller: true}]}
spec: {nodeName: g, containers: [{name: c, image: vllm/vllm-openai:v1, resources: {limits: {nvidia.com/gpu: 2}}}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
---
kind: Pod
metadata: {name: chat-1-b, namespace: ml, ownerReferences: [{kind: ReplicaSet, name: chat-1, uid: r, controller: true}]}
spec: {nodeName: g, containers: [{name: c, image: vllm/vllm-openai:v1, resources: {limits: {nvidia.com/gpu: 2}}}]}
status: {phase: Running, conditions: [{type: Ready, status: "False"}]}
---
kind: Pod
metadata: {name: old, namespace: ml}
spec: {containers: [{name: c, image: vllm/vllm-openai:v1}]}
status: {phase: Succeeded}
---
kind: Pod
metadata: {name: web, namespace: ml}
spec: {containers: [{name: c, image: nginx}]}
status: {phase: Running}
---
kind: InferenceService
apiVersion: serving.kserve.io/v1beta1
metadata: {name: promised, namespace: ml}
---
kind: StatefulSet
metadata: {name: asleep, namespace: ml}
spec: {replicas: 0, selector: {}, template: {spec: {containers: [{name: c, image: tritonserver}]}}}
"""


def loaded(text: str, **values: tuple[str, float]) -> World:
    series = tuple(
        Series(
            {"__name__": name.replace("__", ":"), "namespace": "ml", "pod": pod},
            tuple(Sample(NOW - timedelta(minutes=minute), value) for minute in range(9, -1, -1)),
        )
        for name, (pod, value) in values.items()
    )
    return world(text).with_telemetry(Reading(Telemetry(series=series)))


def named(found: tuple[ModelServer, ...], name: str) -> ModelServer:
    [server] = [item for item in found if item.workload.name == name]
    return server


def test_one_row_stands_for_a_model_with_its_replicas_and_devices() -> None:
    chat = named(model_servers(world(SERVERS)), "chat")
    assert chat.workload.key == ObjectRef("Deployment", "ml", "chat").key
    assert (chat.engine, chat.ready, chat.wanted, chat.whole) == ("vLLM", 1, 3, False)
    assert chat.accelerators == (("nvidia.com/gpu", 2.0),)
    assert chat.models == ("NVIDIA-H100-80GB-HBM3",)
    assert (chat.waiting, chat.cache, chat.first_token_seconds) == (None, None, None)


def test_what_promises_or_would_serve_a_model_counts_without_pods() -> None:
    found = model_servers(world(SERVERS))
    assert [item.workload.name for item in found] == ["chat", "promised", "asleep"]
    assert (named(found, "asleep").engine, named(found, "asleep").wanted) == ("Triton", 0)
    assert named(found, "promised").ready == 0


def test_load_is_what_metrics_show_of_its_pods() -> None:
    chat = named(
        model_servers(
            loaded(
                SERVERS,
                vllm__num_requests_waiting=("chat-1-a", 7.0),
                vllm__kv_cache_usage_perc=("chat-1-b", 0.97),
                vllm__time_to_first_token_seconds_p95=("chat-1-a", 2.5),
            )
        ),
        "chat",
    )
    assert (chat.waiting, chat.cache, chat.first_token_seconds) == (7.0, 0.97, 2.5)


def test_adapters_are_those_of_the_replica_at_which_most_wait() -> None:
    samples = tuple(Sample(NOW - timedelta(minutes=minute), NOW.timestamp()) for minute in range(9, -1, -1))
    said = {"chat-1-a": ("sql", ""), "chat-1-b": ("sql,law", "chem")}
    series = tuple(
        Series(
            {"__name__": METRIC, "pod": pod, "max_lora": "2", "running_lora_adapters": running, "waiting_lora_adapters": waiting}, samples
        )
        for pod, (running, waiting) in said.items()
    )
    load = named(model_servers(world(SERVERS).with_telemetry(Reading(Telemetry(series=series)))), "chat").adapters
    assert load is not None
    assert (load.text, load.full, load.moments) == ("2 of 2 (law, sql), 1 wait (chem)", 10, 10)


@pytest.mark.parametrize(
    ("image", "command", "engine"),
    [
        ("vllm/vllm-openai", (), "vLLM"),
        ("registry.example/x", ("python", "-m", "sglang.launch_server"), "SGLang"),
        ("ghcr.io/huggingface/text-generation-inference", (), "TGI"),
        ("nvcr.io/nvidia/tritonserver", (), "Triton"),
        ("ollama/ollama", (), "Ollama"),
        ("kserve/huggingfaceserver", (), ""),
    ],
)
def test_engines_are_known_by_image_or_command(image: str, command: tuple[str, ...], engine: str) -> None:
    assert engine_of(Container(name="c", image=image, command=command)) == engine
