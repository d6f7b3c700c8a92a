from __future__ import annotations

from cluster.reading import Series
from runbooks.detectors.canaries import DETECTORS
from tests.runbooks.measured import flat, told

SERVICE = "kind: Service\nmetadata: {name: chat, namespace: ml}\nspec: {selector: {app: chat}}\n"
POD = """
kind: Pod
metadata:
  name: {name}
  namespace: ml
  creationTimestamp: "{born}"
  labels: {{app: chat, pod-template-hash: "{revision}"}}
  ownerReferences: [{{kind: ReplicaSet, name: {owner}-{revision}, controller: true}}]
spec: {{nodeName: n0, containers: [{{name: main, image: server}}]}}
status: {{phase: Running, conditions: [{{type: Ready, status: "True"}}], containerStatuses: [{{name: main, ready: true}}]}}
"""
SETS = """
kind: ReplicaSet
metadata:
  name: {owner}-{revision}
  namespace: ml
  ownerReferences: [{{kind: Deployment, name: {owner}, controller: true}}]
"""
OLD, NEW, FRESH = "2026-01-12T12:00:00Z", "2026-01-15T11:00:00Z", "2026-01-15T11:57:00Z"


def behind(owner_of_new: str = "chat", born: str = NEW) -> str:
    """Two pods of an old revision and two of a new one behind one Service."""
    parts = [SERVICE, SETS.format(owner="chat", revision="aaa"), SETS.format(owner=owner_of_new, revision="bbb")]
    parts += [POD.format(name=f"old-{index}", owner="chat", revision="aaa", born=OLD) for index in range(2)]
    parts += [POD.format(name=f"new-{index}", owner=owner_of_new, revision="bbb", born=born) for index in range(2)]
    return "---\n".join(parts)


def measured(name: str, old: float, new: float, second_new: float | None = None) -> list[Series]:
    values = {"old-0": old, "old-1": old, "new-0": new, "new-1": new if second_new is None else second_new}
    return [flat(name, value, namespace="ml", pod=pod) for pod, value in values.items()]


def test_a_new_revision_that_fails() -> None:
    bad = {("serving.bad-canary", "Deployment/ml/chat")}
    assert told(DETECTORS, behind(), *measured("request_failures_ratio", 0.001, 0.3)) == bad
    assert told(DETECTORS, behind(), *measured("request_failures_ratio", 0.25, 0.3)) == set()
    assert told(DETECTORS, behind(), *measured("request_failures_ratio", 0.001, 0.01)) == set()


def test_a_new_revision_that_is_slow() -> None:
    for name, old, new in (("vllm:time_to_first_token_seconds_p95", 0.4, 3.0), ("vllm:inter_token_latency_seconds", 0.02, 0.2)):
        assert told(DETECTORS, behind(), *measured(name, old, new)) == {("serving.bad-canary", "Deployment/ml/chat")}
        # One pod of it alone is that pod's, not the revision's.
        assert told(DETECTORS, behind(), *measured(name, old, new, second_new=old)) == set()
    assert told(DETECTORS, behind(), *measured("vllm:inter_token_latency_seconds", 0.001, 0.01)) == set()


def test_a_canary_of_its_own() -> None:
    series = measured("request_failures_ratio", 0.0, 0.3)
    assert told(DETECTORS, behind("chat-canary"), *series) == {("serving.bad-canary", "Deployment/ml/chat-canary")}


def test_two_fleets_that_differ_for_good() -> None:
    slower, failing = measured("vllm:inter_token_latency_seconds", 0.015, 0.05), measured("request_failures_ratio", 0.0, 0.3)
    assert told(DETECTORS, behind("chat-l4"), *slower) == set()
    for owner in ("chat", "chat-l4"):
        assert told(DETECTORS, behind(owner, born="2026-01-14T11:00:00Z"), *slower, *failing) == set()


def test_a_pod_that_has_just_begun_proves_nothing() -> None:
    series = measured("vllm:inter_token_latency_seconds", 0.02, 0.2)
    short = [Series(one.labels, one.samples[-5:]) if one.labels["pod"].startswith("new") else one for one in series]
    assert told(DETECTORS, behind(born=FRESH), *short) == set()


def test_an_old_revision_that_is_the_slow_one() -> None:
    assert told(DETECTORS, behind(), *measured("vllm:inter_token_latency_seconds", 0.2, 0.02)) == set()
