"""What model servers and trainings say when they die: GPU memory, KV cache, weights, parallelism, collectives (failures.md E and F).

The wrapper's message ("Engine core initialization failed") is never the cause; the line above it is. Whether a GPU out-of-memory is one
of serving or of training is told by what runs the pod. The estimate that a server prints is repeated, for it is the repair.
Limits: only what was logged counts; a collective that hangs without a word is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.facts.container import Container
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.detectors.probes import MODEL_SERVER
from runbooks.finding import Certainty, Detector, Finding, Source, cite
from runbooks.testimony import State, Testimony, testimonies

TRAINING_KINDS = frozenset({"Job", "JobSet", "PyTorchJob", "TrainJob", "MPIJob", "RayJob", "TFJob", "XGBoostJob", "PaddleJob", "JAXJob"})
TRAINING = re.compile(r"torchrun|torch\.distributed|deepspeed|accelerate launch|\btrain(?:er|ing)?\b|fine-?tun|horovodrun|mpirun", re.I)

SERVING_FAULTS: dict[str, tuple[str, str]] = {
    "cuda-oom": ("model.gpu-memory", "needs more GPU memory than there is"),
    "gpu-memory-shared": ("model.gpu-shared", "finds GPU memory taken by another process"),
    "kv-cache-small": ("model.kv-cache-small", "cannot fit the KV cache of its context length into GPU memory"),
    "weights-denied": ("model.weights-denied", "may not download the model weights"),
    "weights-missing": ("model.weights-missing", "does not find the model weights"),
    "model-unsupported": ("model.unsupported", "does not support this model"),
    "model-length": ("model.length", "is told to serve a longer context than the model has"),
    "shm-too-small": ("model.shared-memory", "has too little shared memory (/dev/shm)"),
    "dataloader-shm": ("model.shared-memory", "has too little shared memory (/dev/shm)"),
    "parallelism": ("model.parallelism", "splits the model in a way that does not match the model or its GPUs"),
    "adapter-missing": ("model.adapter-missing", "does not find an adapter"),
    "model-name": ("model.name-unknown", "is asked for a model name that it does not serve"),
    "kv-transfer": ("model.kv-transfer", "cannot transfer KV cache blocks to or from its peers"),
    "load-timeout": ("model.load-timeout", "loads its model for longer than its server waits"),
    "worker-killed": ("model.worker-killed", "had a worker killed from outside, as the kernel does when the container's memory is used up"),
    "nccl": ("training.nccl", "fails in a collective operation between GPUs"),
    "rendezvous": ("training.rendezvous", "waits in vain for the other workers"),
}
TRAINING_FAULTS: dict[str, tuple[str, str]] = {
    **SERVING_FAULTS,
    "cuda-oom": ("training.gpu-memory", "needs more GPU memory than there is"),
    "shm-too-small": ("training.shared-memory", "has too little shared memory (/dev/shm)"),
    "dataloader-shm": ("training.shared-memory", "has too little shared memory (/dev/shm) for its data loader"),
    "checkpoint": ("training.checkpoint", "cannot write or read its checkpoint"),
    "training-data": ("training.data", "cannot read its training data"),
}
DEVICE_FAULTS: dict[str, tuple[str, str]] = {
    "gpu-xid": ("accelerator.xid", "reports a fault of the GPU driver"),
    "gpu-ecc": ("accelerator.ecc", "meets uncorrectable errors of GPU memory"),
    "gpu-driver": ("accelerator.driver", "needs a newer GPU driver than the node has"),
    "gpu-absent": ("accelerator.absent", "sees no GPU"),
    "gpu-fabric": ("accelerator.fabric", "finds GPUs that the fabric manager has not joined"),
    "gpu-lost": ("accelerator.lost", "had a GPU when it began and has lost it since"),
    "gpu-busy": ("accelerator.busy", "finds its GPU busy with what nobody sees, or in need of a reset"),
    "gpu-held": ("accelerator.held", "finds its accelerator opened by another process"),
    "tpu-workers": ("accelerator.slice-workers", "is told of other workers than its TPU slice has hosts"),
    "tpu-halted": ("accelerator.halted", "had its accelerator halt in the middle of a program"),
    "gpu-architecture": ("accelerator.architecture", "was built for other GPUs than the one it has"),
}
NODE_FAULTS = frozenset({"gpu-xid", "gpu-ecc", "gpu-driver", "gpu-fabric", "gpu-busy"})
# What only one request says, a client's mistake, must go on to count.
OF_REQUESTS = frozenset({"adapter-missing", "model-name", "kv-transfer"})
STATISTICS = re.compile(
    r"Running: (?P<running>\d+) reqs, Waiting: (?P<waiting>\d+) reqs, GPU KV cache usage: (?P<percent>[\d.]+)%|"
    r"#running-req: (?P<batch>\d+),.*?token usage: (?P<usage>[\d.]+),.*?#queue-req: (?P<queued>\d+)"
)
STATISTICS_LINES, STATISTICS_LEAST = 200, 3
CACHE_FULL = 0.95
ESTIMATE = re.compile(r"estimated maximum model length is (\d+)")


def model_faults(world: World) -> Iterator[Finding]:
    """Known failures of model servers, trainings and the GPUs under them."""
    for testimony in world.once(testimonies):
        for sign in testimony.signs[:1]:
            faults = TRAINING_FAULTS if _trains(testimony) else SERVING_FAULTS
            code, says = faults.get(sign.kind) or DEVICE_FAULTS.get(sign.kind) or ("", "")
            if not code or (testimony.state is State.RUNNING and testimony.certainty is Certainty.POSSIBLE):
                continue
            if testimony.state is State.RUNNING and sign.kind not in OF_REQUESTS and sign.kind not in DEVICE_FAULTS and sign.kind != "nccl":
                continue
            node = testimony.pod.spec.node_name
            subject = ObjectRef("Node", None, node) if sign.kind in NODE_FAULTS and node else testimony.workload
            estimate = ESTIMATE.search(sign.text)
            advice = f" The server estimates that a context of {estimate[1]} tokens would fit." if estimate else ""
            yield Finding(
                code=code,
                subject=subject,
                certainty=testimony.certainty,
                evidence=(testimony.quote(sign),),
                explanation=f"Container {testimony.container} of {testimony.workload} {says}: {sign.text.strip()[:200]}.{advice}",
                affects=(testimony.pod.ref, testimony.workload),
            )


def engine_saturated(world: World) -> Iterator[Finding]:
    """Model servers whose own statistics, line after line up to the last, show requests that wait while the KV cache is full or the batch
    is outnumbered (vLLM v1/metrics/loggers.py, SGLang managers/scheduler_metrics_mixin.py)."""
    for (container, previous), reading in world.logs.items():
        pod = world.get(Pod, container.namespace, container.pod)
        if previous or pod is None or not pod.ready:
            continue
        found = [match for line in reading.value.lines[-STATISTICS_LINES:] if (match := STATISTICS.search(line))][-STATISTICS_LEAST:]
        if len(found) < STATISTICS_LEAST or not all(_overwhelmed(match) for match in found):
            continue
        last = found[-1]
        owner = world.top_owner(pod.ref)
        yield Finding(
            "serving.saturated",
            owner,
            Certainty.LIKELY,
            (cite(Source.LOG, pod.ref, f"log[{container.container}]", last.string.strip()),),
            f"{owner} has more requests than it can take: {last['waiting'] or last['queued']} wait while"
            f" {last['running'] or last['batch']} run and its KV cache is {_share(last):.0%} full.",
            affects=(pod.ref,),
            lacks="the trend of its queue in the metrics",
        )


def _overwhelmed(match: re.Match[str]) -> bool:
    waiting, running = int(match["waiting"] or match["queued"]), int(match["running"] or match["batch"])
    return waiting > 0 and (_share(match) >= CACHE_FULL or waiting >= max(running, 1))


def _share(match: re.Match[str]) -> float:
    return float(match["percent"]) / 100 if match["percent"] else float(match["usage"] or 0)


def _trains(testimony: Testimony) -> bool:
    container = testimony.spec
    if container is not None and MODEL_SERVER.search(_words(container)):
        return False
    return testimony.workload.kind in TRAINING_KINDS or (container is not None and bool(TRAINING.search(_words(container))))


def _words(container: Container) -> str:
    return " ".join((container.image, *(container.command or ()), *(container.args or ())))


DETECTORS: tuple[Detector, ...] = (model_faults, engine_saturated)
