"""Beside saturation, imbalance, slow replicas and full caches, which `test_utilisation` and `test_live_metrics` have."""

from __future__ import annotations

from runbooks.detectors.modelload import DETECTORS
from tests.runbooks.measured import findings, flat, risen, told
from tests.runbooks.test_utilisation import replicas

CHAT = "StatefulSet/ml/chat"


def test_a_slow_replica_says_since_when() -> None:
    series = [risen("vllm:inter_token_latency_seconds", 0.02, 0.2 if pod == 2 else 0.02, pod=f"chat-{pod}") for pod in range(3)]
    [finding] = findings(DETECTORS, replicas(3), series)
    assert finding.code == "serving.slow-replica"
    assert "Replica chat-2 of StatefulSet/ml/chat on node n2 takes 0.2 s a token since 11:40" in finding.explanation
    assert finding.since is not None


def test_requests_that_are_turned_away() -> None:
    assert told(DETECTORS, replicas(2), risen("vllm:admission_rejections_rate", 0, 2, pod="chat-0")) == {("serving.rejects", CHAT)}
    assert told(DETECTORS, replicas(2), risen("vllm:admission_rejections_rate", 2, 0, pod="chat-0")) == set()


def test_answers_that_are_no_numbers() -> None:
    assert told(DETECTORS, replicas(2), flat("vllm:corrupted_requests_rate", 0.1, pod="chat-0")) == {("serving.corrupts", CHAT)}
    assert told(DETECTORS, replicas(2), flat("vllm:corrupted_requests_rate", 0, pod="chat-0")) == set()


def test_servers_that_sleep_and_count_as_ready() -> None:
    asleep = [flat("vllm:engine_asleep", 1, pod=f"chat-{pod}") for pod in range(2)]
    assert told(DETECTORS, replicas(2), *asleep) == {("serving.asleep", CHAT)}
    assert told(DETECTORS, replicas(2), asleep[0], flat("vllm:engine_asleep", 0, pod="chat-1")) == set()
    assert told(DETECTORS, replicas(2), asleep[0]) == set()


def test_a_side_that_holds_up_the_other() -> None:
    text = "---".join(
        replicas(2, owner=role, command=f"vllm, serve, --{role}").replace("---\nkind: Node", "---\nkind: Node")
        for role in ("prefill", "decode")
    )
    full = [flat("vllm:num_requests_waiting", 40, pod=f"prefill-{pod}") for pod in range(2)]
    idle = [flat(name, 0, pod=f"decode-{pod}") for pod in range(2) for name in ("vllm:num_requests_waiting", "vllm:num_requests_running")]
    codes = told(DETECTORS, text, *full, *idle)
    assert ("serving.role-imbalance", "StatefulSet/ml/prefill") in codes
    busy = [flat(name, 20, pod=f"decode-{pod}") for pod in range(2) for name in ("vllm:num_requests_waiting", "vllm:num_requests_running")]
    assert "serving.role-imbalance" not in {code for code, _ in told(DETECTORS, text, *full, *busy)}
