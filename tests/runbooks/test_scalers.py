from __future__ import annotations

from runbooks.detectors.scalers import DETECTORS
from tests.runbooks.measured import flat, risen, told

SCALED = """
kind: ScaledObject
metadata: {{name: chat, namespace: ml}}
spec: {{scaleTargetRef: {{name: chat}}, triggers: [{{type: prometheus, metadata: {{query: '{query}'}}}}]}}
status: {{conditions: [{conditions}]}}
"""
NOT_READY = "{type: Ready, status: 'False', reason: ScaledObjectCheckFailed, message: Failed to ensure HPA is correctly created}"
FALLBACK = (
    "{type: Ready, status: 'True'}, {type: Fallback, status: 'True', reason: FallbackExists, message: At least one trigger is falling back}"
)
PAUSED = f"{NOT_READY}, {{type: Paused, status: 'True', reason: ScaledObjectPaused}}"
READY = "{type: Ready, status: 'True'}, {type: Fallback, status: 'False'}"
QUERY = "sum(vllm:num_requests_waiting)"


def scaled(conditions: str, query: str = QUERY) -> str:
    return SCALED.format(conditions=conditions, query=query)


def test_what_cannot_be_read() -> None:
    serving, other = {("keda.serving-scaler-failing", "ScaledObject/ml/chat")}, {("keda.scaler-failing", "ScaledObject/ml/chat")}
    assert told(DETECTORS, scaled(NOT_READY)) == serving
    assert told(DETECTORS, scaled(FALLBACK)) == serving
    assert told(DETECTORS, scaled(NOT_READY, "sum(orders_open)")) == other
    assert told(DETECTORS, scaled(READY)) == set()


def test_one_whose_target_does_not_exist() -> None:
    others = "---\nkind: Deployment\nmetadata: {name: other, namespace: ml}\n"
    assert told(DETECTORS, scaled(NOT_READY) + others) == {("hpa.target-missing", "ScaledObject/ml/chat")}
    assert told(DETECTORS, scaled(READY) + others) == set()
    there = others.replace("other", "chat")
    assert told(DETECTORS, scaled(NOT_READY) + there) == {("keda.serving-scaler-failing", "ScaledObject/ml/chat")}


def test_one_that_is_paused_is_meant_to_stand_still() -> None:
    assert told(DETECTORS, scaled(PAUSED)) == set()
    assert told(DETECTORS, scaled(PAUSED), flat("keda_scaler_detail_errors_rate", 0.2, namespace="ml", scaledObject="chat")) == set()


def test_errors_that_keda_counts() -> None:
    labels = {"namespace": "ml", "scaledObject": "chat"}
    assert told(DETECTORS, scaled(READY), flat("keda_scaler_detail_errors_rate", 0.2, **labels)) == {
        ("keda.serving-scaler-failing", "ScaledObject/ml/chat")
    }
    assert told(DETECTORS, scaled(READY), risen("keda_scaler_detail_errors_rate", 0.2, 0, **labels)) == set()
    assert told(DETECTORS, scaled(READY), flat("keda_scaler_errors_rate", 0.2, namespace="ml", scaledObject="another")) == set()
