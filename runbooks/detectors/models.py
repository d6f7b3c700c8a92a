"""What model servers and trainings say when they die: GPU memory, KV cache, weights, parallelism, collectives (failures.md E and F).

The wrapper's message ("Engine core initialization failed") is never the cause; the line above it is. Whether a GPU out-of-memory is one
of serving or of training is told by what runs the pod. The estimate that a server prints is repeated, for it is the repair.
Limits: only what was logged counts; a collective that hangs without a word is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.facts.pod import Container
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.detectors.probes import MODEL_SERVER
from runbooks.finding import Certainty, Detector, Finding
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
}
NODE_FAULTS = frozenset({"gpu-xid", "gpu-ecc", "gpu-driver"})
# What only one request says, a client's mistake, must go on to count.
OF_REQUESTS = frozenset({"adapter-missing", "model-name", "kv-transfer"})
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


def _trains(testimony: Testimony) -> bool:
    container = testimony.spec
    if container is not None and MODEL_SERVER.search(_words(container)):
        return False
    return testimony.workload.kind in TRAINING_KINDS or (container is not None and bool(TRAINING.search(_words(container))))


def _words(container: Container) -> str:
    return " ".join((container.image, *(container.command or ()), *(container.args or ())))


DETECTORS: tuple[Detector, ...] = (model_faults,)
