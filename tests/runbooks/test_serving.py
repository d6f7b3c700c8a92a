from __future__ import annotations

from runbooks.detectors import serving
from runbooks.finding import Finding
from tests.runbooks.worlds import world

POD = """
kind: Pod
metadata: {{name: {name}, namespace: ml, labels: {{app: {app}}}, ownerReferences: [{{kind: {kind}, name: {app}, controller: true}}]}}
spec: {{containers: [{{name: main, image: server, command: [{command}]}}]}}
status: {{phase: {phase}, conditions: [{{type: Ready, status: "{ready}"}}{more}]}}
"""
UNSCHEDULABLE = ', {type: PodScheduled, status: "False", reason: Unschedulable, message: 2 Insufficient nvidia.com/gpu}'


def pod(name: str, app: str, *, ready: bool = True, kind: str = "StatefulSet", command: str = "serve", waits: bool = False) -> str:
    return "---" + POD.format(
        name=name,
        app=app,
        kind=kind,
        command=command,
        ready=ready and not waits,
        phase="Pending" if waits else "Running",
        more=UNSCHEDULABLE if waits else "",
    )


def pool(selector: str) -> str:
    return f"""
kind: InferencePool
apiVersion: inference.networking.k8s.io/v1
metadata: {{name: pool, namespace: ml}}
spec: {{selector: {{matchLabels: {selector}}}, endpointPickerRef: {{name: picker, port: {{number: 9002}}}}}}
---
kind: Service
metadata: {{name: picker, namespace: ml}}
spec: {{selector: {{app: picker}}, ports: [{{port: 9002}}]}}
"""


def found(text: str, complete: tuple[str, ...] = ()) -> set[tuple[str, str]]:
    made = world(text, complete=complete)
    findings: list[Finding] = [finding for detector in serving.DETECTORS for finding in detector(made)]
    return {(finding.code, str(finding.subject)) for finding in findings}


def test_a_pool_that_selects_no_pod() -> None:
    pods = pod("chat-0", "chat") + pod("picker-0", "picker")
    assert found(pool("{app: other}") + pods) == {("serving.pool-selects-nothing", "InferencePool/ml/pool")}
    assert found(pool("{app: chat}") + pods) == set()


def test_a_pool_that_its_gateway_does_not_take() -> None:
    told = "\nstatus: {{parents: [{{parentRef: {{name: edge}}, conditions: [{{type: {}, status: '{}', reason: {}, message: no}}]}}]}}\n---"
    pods = pod("chat-0", "chat") + pod("picker-0", "picker")

    def status(kind: str, value: str, reason: str) -> set[tuple[str, str]]:
        return found(pool("{app: chat}").replace("\n---", told.format(kind, value, reason), 1) + pods)

    refused = {("serving.pool-not-accepted", "InferencePool/ml/pool")}
    assert status("Accepted", "False", "HTTPRouteNotAccepted") == refused
    assert status("ResolvedRefs", "False", "InvalidExtensionRef") == refused
    assert status("Accepted", "True", "Accepted") == set()
    # Nobody has looked at it yet.
    assert status("Accepted", "Unknown", "Pending") == set()


def test_an_endpoint_picker_that_does_not_run() -> None:
    chat = pod("chat-0", "chat")
    assert found(pool("{app: chat}") + chat + pod("picker-0", "picker", ready=False)) == {("serving.picker-down", "StatefulSet/ml/picker")}
    without = pool("{app: chat}").partition("---")[0] + chat
    assert found(without, complete=("Service",)) == {("serving.picker-down", "Service/ml/picker")}
    assert found(without) == set()


def test_a_model_that_the_operator_refuses() -> None:
    text = """
kind: InferenceService
apiVersion: serving.kserve.io/v1beta1
metadata: {name: ranker, namespace: ml}
status: {modelStatus: {transitionStatus: %s%s}}
"""
    failure = ", lastFailureInfo: {reason: NoSupportingRuntime, message: No runtime found}"
    assert found(text % ("InvalidSpec", failure)) == {("serving.service-invalid", "InferenceService/ml/ranker")}
    assert found(text % ("UpToDate", "")) == set()
    assert found(text % ("InProgress", "")) == set()


def test_a_part_that_the_serving_operator_cannot_make() -> None:
    text = """
kind: LLMInferenceService
metadata: {name: chat, namespace: ml}
status: {conditions: [{type: %s, status: "%s", reason: %s, message: no such config}]}
"""
    assert found(text % ("PresetsCombined", "False", "ConfigNotFound")) == {("serving.service-invalid", "LLMInferenceService/ml/chat")}
    assert found(text % ("MainWorkloadReady", "False", "Stopped")) == set()
    assert found(text % ("PresetsCombined", "True", "ConfigNotFound")) == set()


def test_prefill_without_a_ready_pod_beside_a_decode_side_that_serves() -> None:
    text = """
kind: Deployment
metadata: {name: %s, namespace: ml}
spec: {replicas: %d, template: {metadata: {labels: {llm-d.ai/role: %s}}, spec: {containers: [{name: main, image: vllm}]}}}
status: {readyReplicas: %d}
---
"""
    down = text % ("p", 0, "prefill", 0)
    assert found(down + text % ("d", 2, "decode", 2)) == {("serving.prefill-down", "Deployment/ml/p")}
    assert found(down + text % ("d", 2, "decode", 0)) == set()
    assert found(text % ("p", 1, "prefill", 1) + text % ("d", 2, "decode", 2)) == set()


def test_a_training_runtime_that_does_not_exist() -> None:
    text = """
kind: TrainJob
apiVersion: trainer.kubeflow.org/v1alpha1
metadata: {name: fit, namespace: ml}
spec: {runtimeRef: {kind: ClusterTrainingRuntime, name: torch}}
status: {conditions: [{type: Failed, status: "True", reason: %s, message: %s}]}
"""
    assert found(text % ("TrainingRuntimeNotSupported", "runtime torch not found")) == {("training.runtime-missing", "TrainJob/ml/fit")}
    assert found(text % ("DeadlineExceeded", "TrainJob exceeded its active deadline")) == set()


def test_a_gang_of_which_only_a_part_runs() -> None:
    workers = pod("fit-0", "fit", kind="Job") + pod("fit-1", "fit", kind="Job", waits=True)
    assert found(workers) == {("training.gang-partial", "Job/ml/fit")}
    earlier = pod("fit-9", "fit", kind="Job").replace("controller: true", "controller: true, uid: gone")
    assert found(earlier + workers) == {("training.gang-partial", "Job/ml/fit")}
    assert found(pod("fit-0", "fit", kind="Job", waits=True)) == set()
    assert found(pod("web-0", "web") + pod("web-1", "web", waits=True)) == set()
