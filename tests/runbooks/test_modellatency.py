from __future__ import annotations

from cluster.reading import Series
from runbooks.detectors.modellatency import DETECTORS
from tests.runbooks.measured import findings, flat, risen, told
from tests.runbooks.test_utilisation import replicas

CHAT = "StatefulSet/ml/chat"


def both(name: str, before: float, now: float) -> tuple[Series, ...]:
    return tuple(risen(name, before, now, pod=f"chat-{index}") for index in range(2))


LATE = both("vllm:time_to_first_token_seconds_p95", 0.4, 6.0)


def test_first_tokens_that_come_late_because_requests_wait() -> None:
    parts = (*both("vllm:request_queue_time_seconds", 0.05, 5.0), *both("vllm:request_prefill_time_seconds", 0.3, 0.5))
    [finding] = findings(DETECTORS, replicas(2), (*LATE, *parts))
    assert (finding.code, str(finding.subject)) == ("serving.queue-slow", CHAT)
    assert "since 11:40" in finding.explanation
    assert "queue 5 s instead of 0.05 s" in finding.explanation


def test_first_tokens_that_come_late_because_prompts_take_longer() -> None:
    parts = (*both("vllm:request_queue_time_seconds", 0.05, 0.1), *both("vllm:request_prefill_time_seconds", 0.3, 5.0))
    assert told(DETECTORS, replicas(2), *LATE, *parts) == {("serving.prefill-slow", CHAT)}
    lost = both("vllm:prefix_cache_hit_ratio", 0.7, 0.1)
    assert told(DETECTORS, replicas(2), *LATE, *parts, *lost) == {("serving.prefix-misses", CHAT)}
    never = both("vllm:prefix_cache_hit_ratio", 0.05, 0.01)
    assert told(DETECTORS, replicas(2), *LATE, *parts, *never) == {("serving.prefill-slow", CHAT)}


def test_first_tokens_that_come_late_because_the_cache_moves_slowly() -> None:
    parts = (*both("vllm:nixl_xfer_time_seconds", 0.02, 4.0), *both("vllm:request_prefill_time_seconds", 0.3, 0.4))
    assert told(DETECTORS, replicas(2), *LATE, *parts) == {("serving.transfer-slow", CHAT)}


def test_what_is_not_measured_is_not_guessed() -> None:
    [finding] = findings(DETECTORS, replicas(2), LATE)
    assert finding.code == "serving.first-token-slow"
    assert finding.lacks


def test_what_has_been_slow_all_along_and_what_is_fast_enough() -> None:
    assert told(DETECTORS, replicas(2), *both("vllm:time_to_first_token_seconds_p95", 8.0, 9.0)) == set()
    assert told(DETECTORS, replicas(2), *both("vllm:time_to_first_token_seconds_p95", 0.05, 0.4)) == set()


def test_one_slow_replica_of_several_is_not_the_workload() -> None:
    one = risen("vllm:time_to_first_token_seconds_p95", 0.4, 6.0, pod="chat-0")
    rest = (flat("vllm:time_to_first_token_seconds_p95", 0.4, pod=f"chat-{index}") for index in (1, 2))
    assert told(DETECTORS, replicas(3), one, *rest) == set()


def test_answers_that_became_slow_at_every_replica() -> None:
    assert told(DETECTORS, replicas(2), *both("vllm:inter_token_latency_seconds", 0.02, 0.2)) == {("serving.decode-slow", CHAT)}
    assert told(DETECTORS, replicas(2), *both("vllm:inter_token_latency_seconds", 0.005, 0.03)) == set()
    one = risen("vllm:inter_token_latency_seconds", 0.02, 0.2, pod="chat-0"), flat("vllm:inter_token_latency_seconds", 0.02, pod="chat-1")
    assert told(DETECTORS, replicas(2), *one) == set()


def test_transfers_that_fail_now() -> None:
    for name in ("vllm:nixl_num_failed_transfers_rate", "vllm:mooncake_num_failed_recvs_rate", "sglang:num_transfer_failed_reqs_rate"):
        assert told(DETECTORS, replicas(2), risen(name, 0, 0.5, pod="chat-1")) == {("model.kv-transfer", CHAT)}
        assert told(DETECTORS, replicas(2), risen(name, 0.5, 0, pod="chat-1")) == set()
