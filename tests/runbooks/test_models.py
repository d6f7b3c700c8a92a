from __future__ import annotations

import pytest

from runbooks.detectors.models import engine_saturated, model_faults
from tests.runbooks.specimens import CRASHING, document, pod, terminated, waiting
from tests.runbooks.worlds import codes, world

APP = ("shop", "web-5d4f8-abcde", "app")
SERVER = {"image": "vllm/vllm-openai:v0.33.0"}
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
KV = "max seq len (131072), larger than the available KV cache memory (7.2 GiB). The estimated maximum model length is 58912. Try"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (OOM, "model.gpu-memory"),
        ("Free memory on device cuda:0 (10/80 GiB) on startup is less than desired GPU memory utilization", "model.gpu-shared"),
        (KV, "model.kv-cache-small"),
        ("GatedRepoError: 403 Client Error. Cannot access gated repo", "model.weights-denied"),
        ("RepositoryNotFoundError: 404 Client Error", "model.weights-missing"),
        ("ValueError: Model architectures ['Foo'] are not supported for now", "model.unsupported"),
        ("User-specified max_model_len (9) is greater than the derived max_model_len", "model.length"),
        ("Error: failed to extend /dev/shm/nccl-x to 9 bytes, error: No space left on device", "model.shared-memory"),
        ("number of attention heads (40) must be divisible by tensor parallel size (16)", "model.parallelism"),
        ("ERROR LoRA adapter sql-lora does not exist", "model.adapter-missing"),
        ("ERROR The model `llama` does not exist.", "model.name-unknown"),
        ("ERROR NIXL transfer failure: peer gone", "model.kv-transfer"),
        ("ERROR failed: Mooncake transfer engine returned -1", "model.kv-transfer"),
        ("Decode transfer failed for request rank=0 decode_req.req.rid='41ff'", "model.kv-transfer"),
        ("Out of memory even after retracting all other requests in the decode batch", "model.kv-cache-small"),
        ("TimeoutError: Timed out waiting for engine core processes to start. Waited 600s", "model.load-timeout"),
        ("ERROR Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor.", "model.worker-killed"),
        ("RuntimeError: CUDA initialization: Unexpected error. Error 802: system not yet initialized", "accelerator.fabric"),
        ("Failed to initialize NVML: Unknown Error", "accelerator.lost"),
        ("RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable", "accelerator.busy"),
        ("CUDA error: no kernel image is available for execution on the device", "accelerator.architecture"),
        ("Unable to initialize backend 'tpu': ABORTED: The TPU is already in use by process with pid 341.", "accelerator.held"),
        ("ERROR NRT:nrt_allocate_neuron_cores NeuronCore(s) not available - Requested:nc1-nc1 Available:0", "accelerator.held"),
        ("RuntimeError: synStatus=8 [Device not found] Device acquire failed.", "accelerator.held"),
        (
            "RuntimeError: TPU initialization failed: Invalid --2a886c8_slice_builder_worker_addresses specified. Expected 8 worker "
            "addresses, got 4.",
            "accelerator.slice-workers",
        ),
        ("INTERNAL: Accelerator device halted prematurely, perhaps due to an on-device check-failure.", "accelerator.halted"),
        ("Unable to initialize backend 'tpu': UNKNOWN: TPU initialization failed: No ba16c7433 device found.", "accelerator.absent"),
        ("ncclSystemError: System call failed; NCCL error in init", "training.nccl"),
        ("RuntimeError: Found no NVIDIA driver on your system.", "accelerator.absent"),
    ],
)
def test_why_a_model_server_dies(line: str, code: str) -> None:
    wrapper = "RuntimeError: Engine core initialization failed. See root cause above."
    made = world(pod(**CRASHING, container=SERVER), logs={APP: f"loading\n{line}\n{wrapper}"})
    (finding,) = model_faults(made)
    assert (finding.code, finding.subject.name) == (code, "node-1" if finding.subject.kind == "Node" else "web")


def test_the_estimate_of_the_server_is_repeated() -> None:
    (finding,) = model_faults(world(pod(**CRASHING, container=SERVER), logs={APP: KV}))
    assert "58912" in finding.explanation


def training(line: str) -> set[str]:
    job = document(
        kind="Pod",
        metadata={"name": "train-0", "namespace": "shop", "ownerReferences": [{"kind": "Job", "name": "train", "controller": True}]},
        spec={"containers": [{"name": "app", "image": "registry.example/train:1", "command": ["torchrun"]}], "nodeName": "node-1"},
        status={"phase": "Failed", "containerStatuses": [{"name": "app", "state": terminated(1)}]},
    )
    return codes(model_faults(world(job, logs={("shop", "train-0", "app"): line})))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (OOM, "training.gpu-memory"),
        ("Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1580)", "training.nccl"),
        ("RendezvousTimeoutError", "training.rendezvous"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error.", "training.shared-memory"),
        ("PytorchStreamReader failed reading zip archive", "training.checkpoint"),
        ("datasets.exceptions.DatasetGenerationError: An error occurred", "training.data"),
    ],
)
def test_why_a_training_dies(line: str, code: str) -> None:
    assert training(line) == {code}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.", "accelerator.xid"),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "accelerator.ecc"),
        ("CUDA driver version is insufficient for CUDA runtime version", "accelerator.driver"),
    ],
)
def test_a_fault_of_the_machine_is_the_node_s(line: str, code: str) -> None:
    (finding,) = model_faults(world(pod(**CRASHING, container=SERVER), logs={APP: line}))
    assert (finding.code, finding.subject.kind, finding.subject.name) == (code, "Node", "node-1")


@pytest.mark.parametrize("line", [OOM, "The model `llama` does not exist.", "NIXL transfer failure: peer gone"])
def test_a_server_that_serves_may_have_said_so_once(line: str) -> None:
    log = "\n".join([line, *(f"request {number} served" for number in range(100))])
    assert not list(model_faults(world(pod(ready=True, container=SERVER), logs={APP: log})))


def test_another_crash_is_none_of_the_model_s() -> None:
    assert not list(model_faults(world(pod(state=waiting("CrashLoopBackOff"), last=terminated(1), restarts=2), logs={APP: "ERROR boom"})))


def serving(line: str, *, times: int = 3) -> set[str]:
    return codes(engine_saturated(world(pod(ready=True, container=SERVER), logs={APP: f"{line}\n" * times})))


def test_a_server_whose_statistics_show_that_it_cannot_keep_up() -> None:
    vllm = "Engine 000: Avg generation throughput: 9.1 tokens/s, Running: %d reqs, Waiting: %d reqs, GPU KV cache usage: %s%%, Prefix"
    sglang = "Decode batch. #running-req: 12, #token: 90112, token usage: %s, gen throughput (token/s): 9.1, #queue-req: %d,"
    assert serving(vllm % (256, 90, "99.1")) == serving(vllm % (16, 90, "40.0")) == {"serving.saturated"}
    assert serving(sglang % ("0.98", 4)) == {"serving.saturated"}
    assert serving(vllm % (256, 0, "99.1")) == serving(vllm % (256, 9, "60.0")) == serving(sglang % ("0.50", 3)) == set()
    assert serving(vllm % (256, 90, "99.1"), times=2) == set()
