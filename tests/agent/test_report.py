from __future__ import annotations

from datetime import UTC, datetime

from agent.report import CAUSES_SHOWN, EVIDENCE_SHOWN, markdown
from cluster.reading import Missing, Why
from cluster.reference import ObjectRef
from runbooks.finding import Cause, Certainty, Diagnosis, Source, Symptom, cite

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
POD = ObjectRef("Pod", "ml", "a")


def cause(number: int, evidence: int = 1) -> Cause:
    items = tuple(cite(Source.FIELD, POD, f"status.{index}", f"value {index}") for index in range(evidence))
    return Cause(
        POD, "a.code", "image/bad-reference", f"Title {number}", "It is so.", Certainty.PROVEN, items, (Symptom("s", POD, "slow"),)
    )


def diagnosis(*causes: Cause, healthy: bool = False, missing: tuple[Missing, ...] = ()) -> Diagnosis:
    return Diagnosis("c", "all namespaces in c", NOW, healthy, causes, cannot_see=missing)


def test_a_cause_is_reported_with_its_evidence_ids() -> None:
    text = markdown(diagnosis(cause(1)))
    assert text.startswith("# Title 1: Pod/ml/a\n")
    assert f"[{cause(1).evidence[0].id}]" in text
    assert "image/bad-reference, proven" in text
    assert "Pod/ml/a: slow" in text


def test_lists_are_bounded_and_say_so() -> None:
    text = markdown(diagnosis(*(cause(number, EVIDENCE_SHOWN + 3) for number in range(CAUSES_SHOWN + 5))))
    assert "5 more causes are left out" in text
    assert "- and 3 more" in text
    assert f"## {CAUSES_SHOWN + 1}." not in text


def test_healthy_and_blind_are_different_words() -> None:
    assert "Healthy" in markdown(diagnosis(healthy=True))
    assert "too little could be seen" in markdown(diagnosis())


def test_what_could_not_be_seen_for_one_reason_is_one_line() -> None:
    missing = tuple(Missing(f"kind{number}", Why.FORBIDDEN, "no get", "grant get") for number in range(9))
    lines = [line for line in markdown(diagnosis(missing=missing)).splitlines() if "kind0" in line]
    assert lines == ["- kind0, kind1, kind2, kind3, kind4, kind5 and 3 more (forbidden); no get; grant get"]
