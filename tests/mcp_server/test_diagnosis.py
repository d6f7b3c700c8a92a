"""A diagnosis as a page: shortened to fit, valid as a document, text and data alike."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
from msgspec.structs import replace

from cluster.reading import Missing, Why
from cluster.reference import ObjectRef
from mcp_server.diagnosis import Beside, DiagnosisOutput, diagnosis_page
from mcp_server.registry import Investigated
from mcp_server.result import DEFAULT_BYTES, HARD_BYTES, text_of
from runbooks.candidate import Candidate
from runbooks.finding import Cause, Certainty, Diagnosis, NotProven, RuledOut, Source, Symptom, cite
from tests.mcp_server.incident import INJECTION, NOW

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "diagnosis.schema.json").read_text(encoding="utf-8"))


def cause(number: int, quote: str = "x") -> Cause:
    ref = ObjectRef("Deployment", "ml", f"serve-{number}")
    evidence = tuple(cite(Source.LOG, ref, f"c:{line}", f"{quote} {line}", NOW - timedelta(minutes=line)) for line in range(8))
    symptoms = tuple(Symptom("rollout.stuck", ObjectRef("Pod", "ml", f"p-{number}-{item}"), "not ready") for item in range(12))
    return Cause(
        ref, "image.not-found", "image/bad-reference", "Image does not exist", "No tag.", Certainty.PROVEN, evidence, symptoms, NOW
    )


def found(count: int, quote: str = "x") -> Investigated:
    ref = ObjectRef("Deployment", "ml", "serve-0")
    remedy = Candidate("rollout_undo", ref, {"to_revision": 6}, "revision 6 worked", "it exists", "undo again", "pods ready")
    return Investigated(
        Diagnosis(
            "c",
            "ml in c",
            NOW,
            False,
            tuple(cause(number, quote) for number in range(count)),
            tuple(RuledOut("net.dns", ref, "explained") for _ in range(9)),
            (NotProven("app.crash", ref, "It may leak.", "a log"),),
            (Missing("nodes", Why.FORBIDDEN, "403", "grant list on nodes"),),
        ),
        ((remedy,),) * count,
        0.25,
    )


@pytest.mark.parametrize("count", [0, 1, 3, 60])
@pytest.mark.parametrize("detail", ["summary", "full"])
def test_pages_fit_and_their_data_is_valid(count: int, detail: str) -> None:
    page = diagnosis_page(found(count, "q" * 300), "full" if detail == "full" else "summary")
    text = text_of(page)
    assert len(text.encode()) <= (HARD_BYTES if detail == "full" else DEFAULT_BYTES)
    jsonschema.Draft202012Validator(SCHEMA).validate(page.structured)
    DiagnosisOutput.model_validate(page.structured)
    assert len(json.dumps(page.structured)) <= 2 * HARD_BYTES + 4_000


def test_causes_that_do_not_fit_are_all_named_by_fault_before_the_worst_are_detailed() -> None:
    """Twenty-five causes of five kinds on a page of 1,500 tokens."""
    codes = ("image.not-found", "app.missing-env", "container.oom-killed", "config.missing-configmap", "scheduling.insufficient-memory")
    causes = tuple(replace(cause(number), code=codes[number % 5], explanation=f"It wants setting-{number}.") for number in range(25))
    several = replace(found(0), diagnosis=replace(found(0).diagnosis, causes=causes), remedies=((),) * 25)
    page = diagnosis_page(several)
    text = text_of(page)
    assert len(text.encode()) <= DEFAULT_BYTES
    assert text.splitlines()[0].endswith("25 root causes")
    assert text.splitlines()[1].startswith(
        "5 x Image does not exist (proven; image/bad-reference): Deployment/ml/serve-0, Deployment/ml/serve-5"
    )
    assert all(f"serve-{number}" in text and f"setting-{number}" in text for number in range(25))
    assert text.index("serve-24") < text.index("1. Deployment/ml/serve-0:")
    told = page.structured["faults"]
    assert [fault["count"] for fault in told] == [5] * 5
    assert page.structured["causes_total"] == 25
    assert 0 < len(page.structured["causes"]) < 25


def test_a_page_with_room_names_every_object_of_a_fault_with_what_it_says() -> None:
    causes = tuple(replace(cause(number), explanation=f"It wants {number}-{'a' * 40}, and {number}-{'b' * 30}.") for number in range(40))
    text = text_of(diagnosis_page(replace(found(0), diagnosis=replace(found(0).diagnosis, causes=causes), remedies=((),) * 40), "full"))
    line = text.splitlines()[1]
    assert all(f"Deployment/ml/serve-{number} ({number}-aaa" in line for number in range(1, 40))
    assert line.endswith(". It wants 0-" + "a" * 40 + ", and 0-" + "b" * 30 + ".")


def test_a_few_causes_are_all_detailed_and_told_once() -> None:
    page = diagnosis_page(found(4))
    assert len(page.structured["causes"]) == 4
    assert "faults" not in page.structured
    assert text_of(page).count("Deployment/ml/serve-3: ") == 1


def test_what_no_line_has_room_for_is_counted() -> None:
    causes = tuple(replace(cause(number), code=f"code.{number}", title="t" * 200) for number in range(200))
    page = diagnosis_page(replace(found(0), diagnosis=replace(found(0).diagnosis, causes=causes), remedies=((),) * 200))
    told = page.structured["faults"]
    assert 0 < len(told) < 200
    assert f"{200 - len(told)} causes of other kinds" in text_of(page).splitlines()
    assert len(text_of(page).encode()) <= DEFAULT_BYTES


def test_what_is_left_out_is_counted() -> None:
    page = diagnosis_page(found(60))
    shown = len(page.structured["causes"])
    assert 0 < shown < 60
    assert f"{60 - shown} causes" in page.structured["cut"]
    assert "ruled out" in page.structured["cut"]
    assert text_of(page).splitlines()[-1] == f"-- left out: {page.structured['cut']}; detail=full shows more"
    assert len(diagnosis_page(found(60), "full").structured["causes"]) > shown


def test_the_text_says_cause_evidence_remedy_and_what_is_open() -> None:
    text = text_of(diagnosis_page(found(1)))
    for part in (
        "ml in c, as of 2026-01-15T12:00:00Z: 1 root cause",
        "1. Deployment/ml/serve-0: Image does not exist (proven; image/bad-reference, since 0s)",
        "may be proposed: rollout_undo Deployment/ml/serve-0 to_revision=6: revision 6 worked",
        "not proven: Deployment/ml/serve-0 app.crash: It may leak. Lacks: a log",
        "cannot see: nodes (forbidden; 403; grant list on nodes)",
    ):
        assert part in text


def test_every_evidence_id_of_the_data_is_in_the_text() -> None:
    page = diagnosis_page(found(2))
    ids = [item["id"] for item in page.structured["causes"] for item in item["evidence"]]
    assert ids
    assert all(evidence in text_of(page) for evidence in ids)


def test_quotes_stand_inside_the_fence() -> None:
    lines = text_of(diagnosis_page(found(1, INJECTION))).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("<<untrusted"))
    mark = lines[start].split()[1].rstrip(":")
    end = lines.index(f"untrusted {mark}>>")
    assert all(start < number < end for number, line in enumerate(lines) if "IGNORE ALL" in line)


def test_healthy_and_unproven_are_told_apart() -> None:
    healthy = Investigated(Diagnosis("c", "ml", NOW, True, ()))
    unproven = Investigated(Diagnosis("c", "ml", NOW, False, ()))
    assert text_of(diagnosis_page(healthy)).endswith("healthy: nothing that can be seen is wrong")
    assert text_of(diagnosis_page(unproven)).endswith("no cause proven")


@pytest.mark.parametrize("detail", ["summary", "full"])
def test_a_table_beside_shares_the_budget_and_stays_fenced(detail: str) -> None:
    rows = tuple((f"pod-{number}", INJECTION) for number in range(300))
    beside = Beside("300 pods", ("pod", "says"), rows, (Missing("nodes", Why.FORBIDDEN, "403", "grant list on nodes"),))
    page = diagnosis_page(found(60, "q" * 300), "full" if detail == "full" else "summary", beside)
    text = text_of(page)
    assert len(text.encode()) <= (HARD_BYTES if detail == "full" else DEFAULT_BYTES)
    table = page.structured["beside"]
    assert table["rows"][0][0] == "pod-0"
    assert f"-- {table['cut']}" in text
    assert f"{300 - len(table['rows'])} more of 300 rows" == table["cut"]
    assert "cannot see: nodes" in text
    lines = text.splitlines()
    opened = [number for number, line in enumerate(lines) if line.startswith("<<untrusted")]
    for start in opened:
        assert f"untrusted {lines[start].split()[1].rstrip(':')}>>" in lines[start:]
