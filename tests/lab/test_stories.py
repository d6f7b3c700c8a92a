"""Every story in a real cluster beside all others: its fault is named with evidence that is there, nothing else is accused of anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from oncall.cli import run
from tests.lab import stories, verdict
from tests.lab.citations import not_found_again
from tests.lab.lab import Lab
from tests.lab.monitoring import Prometheus
from tests.lab.stories import Variant

# A variant takes a second, and there are hundreds: with every commit the first story of each family, all of them in `make soak`.
FIRST = {name.partition("/")[0]: name for name in reversed(stories.names())}
# Judged in two minutes where a variant takes four seconds.
BATCH = 30
ALL = tuple(
    pytest.param(variant, marks=() if name in FIRST.values() else pytest.mark.soak)
    for name in stories.names()
    for variant in stories.variants(name)
)


class Stage:
    """The variants that this run has tests of, a batch at a time: set when its first test comes, gone when the next batch is.

    What a variant says of the present moment so is minutes old at most when it is judged, however many there are.
    """

    def __init__(self, lab: Lab, prometheus: Prometheus, chosen: Sequence[str]) -> None:
        self._lab, self._prometheus, self._client = lab, prometheus, lab.client("lab:loader")
        self._waiting = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
        self._applied: tuple[Variant, ...] = ()
        self._set: dict[str, Variant] = {}

    def variant(self, name: str) -> Variant:
        if name not in self._set:
            self.clear()
            batch = next((names for names in self._waiting if name in names), ())
            assert batch, "its batch was tried before, and could not be set"
            self._waiting.remove(batch)
            self._load(frozenset(batch))
        return self._set[name]

    def _load(self, names: frozenset[str]) -> None:
        now = datetime.now(UTC)
        told = (variant for story in sorted({name.rpartition("/")[0] for name in names}) for variant in stories.read(story, now))
        made = self._applied = tuple(variant for variant in told if variant.name in names)
        self._prometheus.write(line for variant in made for line in stories.series_of(variant, now))
        stories.load(self._client, self._lab.container_logs, made, now)
        self._set = {variant.name: variant for variant in made}

    def clear(self) -> None:
        applied, self._applied, self._set = self._applied, (), {}
        if applied:
            stories.unload(self._client, applied)


@pytest.fixture(scope="module")
def stage(lab: Lab, prometheus: Prometheus, request: pytest.FixtureRequest) -> Iterator[Stage]:
    chosen = [item.callspec.params["name"] for item in request.session.items if _of_here(item)]  # type: ignore[attr-defined]
    made = Stage(lab, prometheus, chosen)
    try:
        yield made
    finally:
        made.clear()


def _of_here(item: pytest.Item) -> bool:
    """Scenes have fixtures of the same names."""
    return isinstance(item, pytest.Function) and item.path == Path(__file__) and {"stage", "name"} <= set(item.fixturenames)


@pytest.mark.parametrize("name", ALL)
def test_told(
    name: str,
    stage: Stage,
    lab: Lab,
    prometheus: Prometheus,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    variant = stage.variant(name)
    arguments = ("--state", str(tmp_path / "state"), "--kubeconfig", str(lab.kubeconfig("reader")))
    code = run([*arguments, "diagnose", "-n", variant.namespace, "--prometheus", prometheus.url, "-o", "json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    document: dict[str, Any] = json.loads(printed.out)
    causes = document["causes"]
    if variant.advice:
        assert verdict.not_healthy(document) == []
        causes = [one for one in document["advisories"] if one["class"] == variant.advice]
    told = {**document, "causes": causes, "healthy": document["healthy"] and not causes}
    assert verdict.complaints(told, variant.expect) == [], variant.expect.summary
    reader = lab.client("reader")
    assert [one for cause in causes for one in not_found_again(reader, cause, variant.measured)] == []


@pytest.mark.parametrize("name", stories.names())
def test_a_story_has_a_look_alike_and_places_of_its_own(name: str) -> None:
    told = stories.read(name, datetime(2026, 1, 15, tzinfo=UTC))
    assert [one.name.rpartition("/")[2] for one in told[:2]] == [stories.FAULT, stories.TWIN]
    assert len(told) > 2
    assert all(one.expect.summary != told[1].expect.summary for one in told[2:]), "each says under `not` what it is"
    for variant in told:
        assert len(variant.namespace) <= 63
        for item in variant.objects:
            metadata = item["metadata"]
            assert metadata.get("namespace", metadata["name"]).startswith(variant.namespace) or item["kind"] in ("Event", "ConfigMap"), item


def test_changes_are_merged_by_kind_and_name(tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue" / "held.yaml").write_text(
        """
summary: held
class: queue/stopped
cause: {kind: Pod, namespace: $ns, name: a}
evidence: []
objects:
  - {kind: Pod, metadata: {name: a, namespace: $ns}, spec: {x: 1, y: [1, 2]}}
  - {kind: Pod, metadata: {name: b, namespace: $ns}}
metrics: [{labels: {__name__: m}, shape: {is: step, before: 1, after: 3, ago: 30, gap: {ago: 20, minutes: 10}}}]
fault:
  objects: [{kind: Pod, metadata: {name: a}, spec: {x: null, y: [3]}}, {kind: Pod, metadata: {name: c}}]
  delete: [Pod/b]
near: {like: {not: like it, metrics: []}}
""",
        "utf-8",
    )
    now = datetime(2026, 1, 15, 12, tzinfo=UTC)
    fault, twin, like = stories.read("queue/held", now, tmp_path)
    assert [item["metadata"]["name"] for item in fault.objects] == ["a", "c"]
    assert fault.objects[0] == {"kind": "Pod", "metadata": {"name": "a", "namespace": "queue-held-fault"}, "spec": {"y": [3]}}
    assert fault.expect.cause == {"kind": "Pod", "namespace": "queue-held-fault", "name": "a"}
    assert [item["metadata"]["name"] for item in twin.objects] == ["a", "b"]
    assert (twin.expect.cause, like.expect.cause, like.metrics) == (None, None, ())
    [line] = stories.series_of(twin, now)
    ages = {int((now - at).total_seconds() // 60) for at, _ in line.samples}
    assert not ages & set(range(11, 20))
    assert {10, 21} <= ages


@pytest.mark.usefixtures("stage")
def test_no_kubelet_failed_to_play(lab: Lab) -> None:
    assert lab.stage_errors() == []
