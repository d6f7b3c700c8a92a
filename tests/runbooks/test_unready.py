"""A pod that is not ready for long is never healthy, whatever its reason; a slow start and an explained pod are no causes."""

from __future__ import annotations

from cluster.world import World
from runbooks.causes import explain
from runbooks.detectors.registry import detect
from runbooks.detectors.unready import not_ready
from tests.runbooks.worlds import world


def stuck(minutes: int, reason: str = "SomethingNew", phase: str = "Pending", extra: str = "") -> World:
    return world(
        f"""
kind: Pod
metadata: {{name: solver, namespace: lab, creationTimestamp: "2026-01-15T10:00:00Z"{extra}}}
spec: {{nodeName: worker-1, containers: [{{name: solver, image: registry.example.com/solver:1}}]}}
status:
  phase: {phase}
  conditions:
    - {{type: Ready, status: "False", reason: ContainersNotReady, lastTransitionTime: "2026-01-15T{12 - 1}:{60 - minutes:02}:00Z"}}
  containerStatuses: [{{name: solver, state: {{waiting: {{reason: {reason}, message: never seen before}}}}}}]
"""
    )


def test_an_unknown_state_is_told_and_never_healthy() -> None:
    made = stuck(50)
    [finding] = not_ready(made)
    assert "SomethingNew: never seen before" in finding.explanation
    diagnosis = explain(made, detect(made))
    assert not diagnosis.healthy
    assert [cause.code for cause in diagnosis.causes] == ["pod.stuck"]


def test_a_slow_start_is_not_accused() -> None:
    assert list(not_ready(stuck(10))) == []


def test_a_pod_that_is_being_deleted_is_not_accused() -> None:
    assert list(not_ready(stuck(50, extra=', deletionTimestamp: "2026-01-15T11:59:00Z"'))) == []


def test_what_is_known_explains_it() -> None:
    made = stuck(50, "InvalidImageName")
    diagnosis = explain(made, detect(made))
    assert [cause.class_ for cause in diagnosis.causes] == ["image/bad-reference"]
    assert "pod.stuck" in {item.code for item in diagnosis.causes[0].symptoms}
