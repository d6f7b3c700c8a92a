"""Beside saturation, imbalance, slow replicas and full caches, which `test_utilisation` and `test_live_metrics` have."""

from __future__ import annotations

import pytest

from cluster.reading import LABEL_LIMIT, Series
from runbooks.detectors.modelload import DETECTORS
from tests.runbooks.measured import findings, flat, risen, told
from tests.runbooks.test_utilisation import replicas
from tests.runbooks.worlds import NOW

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


def adapters(running: str, waiting: str, value: float = NOW.timestamp(), *, limit: str = "2", pod: str = "chat-0") -> Series:
    labels = {"max_lora": limit, "running_lora_adapters": running, "waiting_lora_adapters": waiting}
    return flat("vllm:lora_requests_info", value, pod=pod, **labels)


def test_requests_that_wait_for_their_adapter() -> None:
    queue = [flat("vllm:num_requests_waiting", 40, pod=f"chat-{pod}") for pod in range(2)]
    [finding] = findings(DETECTORS, replicas(2), [adapters("a,b", "c,d,e,f,g"), *queue])
    assert (finding.code, str(finding.subject)) == ("serving.adapters-full", CHAT)
    assert "at 1 of 1 replica(s): a batch holds 2 different one(s)" in finding.explanation
    assert "2 of 2 (a, b), 5 wait (c, d, e, f and 1 more)" in finding.explanation
    assert [ref.name for ref in finding.affects] == ["chat-0"]


@pytest.mark.parametrize(
    "series",
    [
        [adapters("a", "b,c")],
        [adapters("a,b", "a,b")],
        [adapters("a,b", "")],
        [adapters("alpha,beta", f"{'alpha,' * 49}beta,alpha"[:LABEL_LIMIT])],
        [adapters("", "", limit="0")],
        [adapters("a,b", "c"), adapters("a", "", NOW.timestamp() + 1)],
        [adapters("a,b", "c", NOW.timestamp() - 1_800)],
        [adapters("a,b", "c", pod="elsewhere")],
        [Series(adapters("a,b", "c").labels, adapters("a,b", "c").samples[:2])],
    ],
    ids=[
        "a place is free",
        "those that run wait for their turn",
        "none waits",
        "a name was cut",
        "no limit",
        "it was so before",
        "nothing was said since",
        "no such pod",
        "too short",
    ],
)
def test_adapters_that_have_their_place_are_no_bottleneck(series: list[Series]) -> None:
    assert told(DETECTORS, replicas(2), *series) == set()


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
