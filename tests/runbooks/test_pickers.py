from __future__ import annotations

from datetime import timedelta

from cluster.reading import Sample, Series
from runbooks.detectors.pickers import DETECTORS
from tests.runbooks.measured import START, findings, flat, risen, told
from tests.runbooks.test_utilisation import replicas

POOL = "kind: InferencePool\nmetadata: {name: chat, namespace: ml}\nspec: {selector: {matchLabels: {app: chat}}}\n"
SERVER = """
kind: Pod
metadata: {{name: server-{index}, namespace: ml, labels: {{app: chat}}}}
spec: {{nodeName: n0, containers: [{{name: main, image: server}}]}}
status: {{phase: Running, conditions: [{{type: Ready, status: "{ready}"}}], containerStatuses: [{{name: main, ready: true}}]}}
"""
PICKER = {"namespace": "ml", "pod": "picker-0"}


def pool(*ready: str) -> str:
    return "---\n".join([replicas(1, owner="picker"), POOL, *(SERVER.format(index=index, ready=word) for index, word in enumerate(ready))])


TEXT = pool("True", "True", "True")


def test_servers_whose_metrics_cannot_be_read() -> None:
    [finding] = findings(DETECTORS, TEXT, [flat("llm_d_epp_flow_control_stale_endpoints", 2, **PICKER)])
    assert (finding.code, str(finding.subject)) == ("serving.picker-blind", "StatefulSet/ml/picker")
    assert [str(ref) for ref in finding.affects] == ["InferencePool/ml/chat"]
    assert told(DETECTORS, TEXT, flat("llm_d_epp_flow_control_stale_endpoints", 0, **PICKER)) == set()


def test_servers_that_the_picker_does_not_know() -> None:
    for name in ("llm_d_epp_ready_endpoints", "inference_pool_ready_pods"):
        assert told(DETECTORS, TEXT, flat(name, 1, name="chat", **PICKER)) == {("serving.picker-blind", "StatefulSet/ml/picker")}
        assert told(DETECTORS, TEXT, flat(name, 3, name="chat", **PICKER)) == set()
        assert told(DETECTORS, TEXT, flat(name, 1, name="another", **PICKER)) == set()


def test_servers_that_have_just_come() -> None:
    name = "llm_d_epp_ready_endpoints"
    # The picker followed at once: what it knew before does not count.
    followed = tuple(Sample(START + timedelta(minutes=at), 2 if at < 55 else 3) for at in range(61))
    assert told(DETECTORS, TEXT, Series({"__name__": name, "name": "chat", **PICKER}, followed)) == set()
    since = TEXT.replace('type: Ready, status: "True"', 'type: Ready, status: "True", lastTransitionTime: "2026-01-15T{}:00Z"')
    assert told(DETECTORS, since.replace("{}", "11:59"), flat(name, 1, name="chat", **PICKER)) == set()
    assert told(DETECTORS, since.replace("{}", "11:50"), flat(name, 1, name="chat", **PICKER)) == {
        ("serving.picker-blind", "StatefulSet/ml/picker")
    }


def test_a_picker_with_both_names_is_told_once() -> None:
    both = [flat(name, 1, name="chat", **PICKER) for name in ("llm_d_epp_ready_endpoints", "inference_pool_ready_pods")]
    assert len(findings(DETECTORS, TEXT, both)) == 1


def test_a_server_that_is_not_ready_need_not_be_known() -> None:
    assert told(DETECTORS, pool("True", "False", "False"), flat("llm_d_epp_ready_endpoints", 1, name="chat", **PICKER)) == set()


def test_requests_that_are_turned_away() -> None:
    assert told(DETECTORS, TEXT, flat("llm_d_epp_request_error_rate", 2, **PICKER)) == {("serving.picker-errors", "StatefulSet/ml/picker")}
    assert told(DETECTORS, TEXT, risen("llm_d_epp_request_error_rate", 2, 0, **PICKER)) == set()


def test_a_prefill_side_that_is_left_out() -> None:
    assert told(DETECTORS, TEXT, risen("picker_decode_only_ratio", 0.05, 0.95, **PICKER)) == {
        ("serving.prefill-skipped", "StatefulSet/ml/picker")
    }
    prefill = (
        "kind: Deployment\nmetadata: {name: prefill, namespace: ml}\nspec: {template: {metadata: {labels: {llm-d.ai/role: prefill}}}}\n"
    )
    assert told(DETECTORS, f"{TEXT}---\n{prefill}", risen("picker_decode_only_ratio", 0.05, 0.95, **PICKER)) == {
        ("serving.prefill-skipped", "Deployment/ml/prefill")
    }
    # Short prompts that never needed a prefill server.
    assert told(DETECTORS, TEXT, flat("picker_decode_only_ratio", 0.9, **PICKER)) == set()
