"""What healthy namespaces with AI workloads contain: model servers on GPUs, claims that devices meet, training that waits its turn."""

from __future__ import annotations

from collections.abc import Callable

from tests.healthy.draw import Draw, Part
from tests.healthy.manifests import Object, config_map, container, deployment, job, service, stateful_set, template, thing

TOLERATES_GPU = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
GPU_NODES = {"nvidia.com/gpu.present": "true"}
MODELS = ("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-14B", "mistralai/Mistral-7B-Instruct-v0.3", "google/gemma-3-12b-it")


def _gpu(count: int) -> Object:
    return {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "16Gi", "nvidia.com/gpu": str(count)}}


def model_server(draw: Draw) -> Part:
    """A model server on one or two GPUs behind a Service, its cache on an emptyDir, and a gateway that calls it."""
    space, name, gateway = draw.namespace, draw.name("-llm"), draw.name("-gateway")
    count = draw.random.choice((1, 1, 2))
    arguments = [f"--model={draw.random.choice(MODELS)}", "--port=8000", f"--tensor-parallel-size={count}", "--max-model-len=8192"]
    server = container(
        "server",
        "inference/vllm-openai:v0.11.0",
        8000,
        args=[*arguments, f"--gpu-memory-utilization={draw.random.choice(('0.85', '0.90'))}"],
        resources=_gpu(count),
        startupProbe={"httpGet": {"path": "/health", "port": 8000}, "failureThreshold": 120, "periodSeconds": 10},
        env=[{"name": "HF_HOME", "value": "/cache"}, {"name": "NCCL_DEBUG", "value": "WARN"}],
        volumeMounts=[{"name": "cache", "mountPath": "/cache"}, {"name": "shm", "mountPath": "/dev/shm"}],
    )
    volumes = [{"name": "cache", "emptyDir": {"sizeLimit": "60Gi"}}, {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}]
    pod = template(name, [server], volumes=volumes, tolerations=TOLERATES_GPU, nodeSelector=GPU_NODES)
    calls = [{"name": "OPENAI_BASE_URL", "value": f"http://{name}.{space}.svc:8000/v1"}]
    front = template(gateway, [container("gateway", draw.image(gateway), 8080, env=calls)])
    return Part(
        (
            service(space, name, 8000),
            deployment(space, name, 1, pod, strategy={"type": "Recreate"}),
            service(space, gateway, 80, 8080),
            deployment(space, gateway, 2, front),
        )
    )


def device_claims(draw: Draw) -> Part:
    """A Deployment whose pods get devices by claims from a template, and a claim that nobody uses yet."""
    space, name = draw.namespace, draw.name("-notebook")
    request = {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}
    claim_spec = {"devices": {"requests": [request]}}
    pod = template(
        name,
        [container("notebook", draw.image(name), 8888, resources={"requests": {"cpu": "100m"}, "claims": [{"name": "gpu"}]})],
        resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": f"{name}-gpu"}],
    )
    return Part(
        (
            thing("ResourceClaimTemplate", "resource.k8s.io/v1", f"{name}-gpu", space, spec={"spec": claim_spec}),
            thing("ResourceClaim", "resource.k8s.io/v1", f"{name}-spare", space, spec=claim_spec),
            service(space, name, 80, 8888),
            deployment(space, name, draw.random.randint(1, 2), pod),
        )
    )


def training(draw: Draw) -> Part:
    """A training Job that runs on GPUs, one that completed, and one that a queue holds suspended."""
    space, now, before, queued = draw.namespace, draw.name("-train"), draw.name("-tune"), draw.name("-eval")

    def made(name: str, gpus: int, seconds: int, **spec: object) -> Object:
        worker = container("worker", "training/torch:2.9", resources=_gpu(gpus), args=["torchrun", f"--nproc-per-node={gpus}", "train.py"])
        pod = template(name, [worker], {"lab.smokejumper.dev/runs-for": f"{seconds}s"}, tolerations=TOLERATES_GPU, nodeSelector=GPU_NODES)
        one = job(space, name, pod, backoffLimit=0, **spec)
        if spec.get("suspend"):
            one["metadata"]["labels"] = {"scheduling.example.com/queue": "research"}
        return one

    return Part((made(before, 1, 1), made(now, 1, 7200), made(queued, 8, 1, suspend=True)), moving=frozenset({now, queued}))


def retrieval(draw: Draw) -> Part:
    """An index, an embedding server on CPU and a worker that is scaled to zero between ingestions."""
    space, index, embed, ingest = draw.namespace, draw.name("-vectors"), draw.name("-embed"), draw.name("-ingest")
    settings = {"VECTOR_URL": f"http://{index}:6333", "EMBED_URL": f"http://{embed}.{space}:8080", "CHUNK_TOKENS": "512"}
    rag = draw.name("-rag")
    pod = template(rag, [container("rag", draw.image(rag), 8000, envFrom=[{"configMapRef": {"name": f"{rag}-env"}}])])
    return Part(
        (
            config_map(space, f"{rag}-env", settings),
            service(space, index, 6333),
            stateful_set(space, index, 1, template(index, [container("index", draw.image(index), 6333)])),
            service(space, embed, 8080),
            deployment(space, embed, 2, template(embed, [container("embed", draw.image(embed), 8080)])),
            deployment(space, ingest, 0, template(ingest, [container("ingest", draw.image(ingest))])),
            service(space, rag, 80, 8000),
            deployment(space, rag, 2, pod),
        )
    )


AI_PARTS: tuple[Callable[[Draw], Part], ...] = (model_server, device_claims, training, retrieval)
