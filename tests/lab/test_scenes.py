"""Every scenario in a real cluster, several at a time: it shows its evidence, the reader names it with that evidence, Smokejumper's own
remedy works where there is one, and what is repaired is called healthy. Those that must age first are left to `make soak`.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from tests.lab import commandline, scenario, verdict
from tests.lab.batches import batches, quick
from tests.lab.citations import not_found_again
from tests.lab.commandline import Run
from tests.lab.lab import Lab
from tests.lab.scenario import Scenario

BATCHES = batches(scenario.names())
smokejumper = commandline.smokejumper
Test = TypeVar("Test", bound=Callable[..., None])


class Stage:
    """The scenes of one batch, loaded."""

    def __init__(self, lab: Lab, names: tuple[str, ...]) -> None:
        self.lab = lab
        self.scenes = {scene.name: scene for scene in lab.load(*names)}
        self.remedied: set[str] = set()
        self._repaired = False

    def repair(self) -> None:
        """Apply the scenarios' repairs, once, except where a remedy has done it."""
        if not self._repaired:
            self._repaired = True
            faulty = [scene for scene in self.scenes.values() if scene.expect.cause is not None]
            self.lab.repair(*(scene for scene in faulty if scene.name not in self.remedied))
            for scene in faulty:
                self.lab.wait_repaired(scene)


def about(wanted: Callable[[Scenario], bool]) -> Callable[[Test], Test]:
    """Marks a test as one of these scenarios only."""

    def marked(test: Test) -> Test:
        test.about = wanted  # type: ignore[attr-defined]
        return test

    return marked


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """(batch, name) of every scenario that the test is about; a batch stays loaded for all tests of its scenarios."""
    if {"stage", "name"} <= set(metafunc.fixturenames):
        wanted: Callable[[Scenario], bool] = getattr(metafunc.function, "about", lambda _: True)
        cases = [
            pytest.param(index, scene.name, id=scene.name, marks=() if quick(batch) else (pytest.mark.soak,))
            for index, batch in enumerate(BATCHES)
            for scene in batch
            if wanted(scene)
        ]
        metafunc.parametrize(("stage", "name"), cases, indirect=["stage"], scope="module")


@pytest.fixture(scope="module")
def stage(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The scenes of a batch that this run has tests of."""
    chosen = {item.callspec.params["name"] for item in request.session.items if _of(item, request.param)}  # type: ignore[attr-defined]
    names = tuple(scene.name for scene in BATCHES[request.param] if scene.name in chosen)
    try:
        yield Stage(lab, names)
    finally:
        for name in names:
            lab.unload(scenario.read(name))


def _of(item: pytest.Item, batch: int) -> bool:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("stage") == batch and "name" in params


def _diagnosis(smokejumper: Run, scene: Scenario) -> dict[str, Any]:
    code, out, err = smokejumper("diagnose", "-n", scene.expect.namespace, "-o", "json", user="reader")
    assert code == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def test_named_with_evidence_that_can_be_found_again(stage: Stage, name: str, lab: Lab, smokejumper: Run) -> None:
    scene = stage.scenes[name]
    since = lab.audit.mark()
    document = _diagnosis(smokejumper, scene)
    assert verdict.complaints(document, scene.expect) == []
    assert [missing for cause in document["causes"] for missing in not_found_again(lab.client("reader"), cause)] == []
    assert lab.audit.writes("reader", since) == ()


@about(lambda scene: bool(scene.expect.remedy))
def test_remedied_through_the_gate(stage: Stage, name: str, lab: Lab, smokejumper: Run) -> None:
    """Alice proposes, Bob approves, Smokejumper executes, and the fault is gone."""
    scene = stage.scenes[name]
    action, target, *options = scene.expect.remedy
    assert action in {item["action"] for cause in _diagnosis(smokejumper, scene)["causes"] for item in cause["remedies"]}
    smokejumper("people", "add", "alice", "--group", "sre-oncall", "--os-user", getpass.getuser())
    bob = smokejumper("people", "add", "bob", "--group", "sre-oncall")[1].strip()
    space = () if target.startswith("node/") else ("-n", scene.expect.namespace)
    since = lab.audit.mark()
    code, text, err = smokejumper("propose", action, target, *space, *options)
    assert code == 0, err
    proposal = text.split()[0]
    digest = next(line.split()[1] for line in text.splitlines() if line.split()[:1] == ["digest"])
    code, _, err = smokejumper("approve", proposal, "--digest", digest, token=bob)
    assert code == 0, err
    code, out, err = smokejumper("execute", proposal)
    assert code == 0, out + err
    assert "succeeded" in out
    assert len(lab.audit.writes("executor", since)) == 1
    stage.remedied.add(name)
    lab.wait_repaired(scene)


@about(lambda scene: scene.expect.cause is not None and scene.leaves_something)
def test_repaired_it_is_healthy(stage: Stage, name: str, lab: Lab, smokejumper: Run) -> None:
    stage.repair()
    assert verdict.not_healthy(_diagnosis(smokejumper, stage.scenes[name])) == []
    assert lab.stage_errors() == []


def test_claims_are_allocated_by_the_real_scheduler(lab: Lab) -> None:
    with lab.loaded("claim-unsatisfiable") as scene:
        [pod] = lab.client().list("v1", "Pod", "research")
        [scheduled] = [one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled"]
        assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")
        assert "cannot allocate all claims" in scheduled["message"]
        lab.repair(scene)
        claims = lab.client().list("resource.k8s.io/v1", "ResourceClaim", "research")
        results = [
            result for claim in claims for result in claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", ())
        ]
    assert [(one["driver"], one["pool"], one["request"]) for one in results] == [("gpu.nvidia.com", "gpu-dra-0", "gpu")]
