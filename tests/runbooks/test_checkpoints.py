"""What a restart of a training would lose."""

from __future__ import annotations

from runbooks.detectors.checkpoints import DETECTORS
from runbooks.finding import Finding
from tests.runbooks.worlds import LogKey, world

[DETECTOR] = DETECTORS
JOB = "kind: JobSet\nmetadata: {name: train, namespace: ml}\n"
POD = """
---
kind: Pod
metadata: {{name: w{0}, namespace: ml, ownerReferences: [{{kind: JobSet, name: train, controller: true}}]}}
spec: {{containers: [{{name: main, image: x, resources: {{limits: {{nvidia.com/gpu: {1}}}}}}}]}}
status: {{phase: Running}}
"""
SAVED = "2026-01-15 08:20:04,000 INFO saved checkpoint of step 200 to /checkpoints/step-200"
LATER = "2026-01-15 11:20:04,000 INFO step 900"


def found(*logs: str, devices: int = 8) -> list[Finding]:
    kept: dict[LogKey, str] = {("ml", f"w{index}", "main"): text for index, text in enumerate(logs)}
    return list(DETECTOR(world(JOB + "".join(POD.format(index, devices) for index in range(len(logs))), logs=kept)))


def test_hours_since_the_last_checkpoint() -> None:
    [finding] = found(f"{SAVED}\n{LATER}", LATER)
    assert (finding.code, str(finding.subject)) == ("training.work-unsaved", "JobSet/ml/train")
    assert "loses about 48 accelerator-hours: 16 accelerators worked 3.0 h since its last checkpoint" in finding.explanation
    assert finding.evidence[0].quote == SAVED


def test_a_checkpoint_that_was_not_saved_saves_nothing() -> None:
    for said in ("error saving checkpoint to /ckpt/step_900: No space left on device", "checkpoint could not be saved: quota exceeded"):
        [finding] = found(f"{SAVED}\n2026-01-15 11:10:04,000 {said}\n{LATER}")
        assert finding.evidence[0].quote == SAVED


def test_a_log_without_checkpoints() -> None:
    [finding] = found(f"2026-01-15 05:20:04 INFO step 0\n{LATER}")
    assert "48 accelerator-hours" in finding.explanation
    assert "its log tells of no checkpoint" in finding.explanation


def test_little_is_lost() -> None:
    assert found(f"{SAVED}\n2026-01-15 08:50:04 INFO step 300") == []
    assert found(f"{SAVED}\n{LATER}", devices=1) == []
    assert found(f"{SAVED}\n{LATER}", devices=0) == []
    assert found("no line has a date") == []
