"""The JSON form of a diagnosis: complete, valid against the published schema, and what the documentation shows is valid too."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cluster.reading import Cost, Missing, Why
from cluster.reference import ObjectRef
from runbooks.candidate import Candidate
from runbooks.document import diagnosis_document
from runbooks.finding import Cause, Certainty, Diagnosis, NotProven, RuledOut, Source, Symptom, cite

DOCS = Path(__file__).parents[2] / "docs"
NOW = datetime(2026, 1, 15, 13, 0, tzinfo=timezone(timedelta(hours=1)))
SERVE = ObjectRef("Deployment", "ml", "serve", "uid-1")
NODE = ObjectRef("Node", None, "gpu-1")
EVIDENCE = cite(Source.EVENT, ObjectRef("Pod", "ml", "serve-1"), "Failed", "manifest unknown", NOW)
CAUSE = Cause(
    SERVE,
    "image.tag-not-found",
    "image/wrong-tag",
    "Image tag does not exist",
    "No such tag.",
    Certainty.PROVEN,
    (EVIDENCE,),
    (Symptom("rollout.stuck", SERVE, "0 of 2 ready"),),
    NOW,
)
REMEDY = Candidate(
    "rollout_undo", SERVE, {"to_revision": 6}, "worked before", "revision 6 exists", "undo again", "pods ready", (EVIDENCE.id,)
)
FULL = Diagnosis(
    "staging",
    "ml in staging",
    NOW,
    False,
    (CAUSE, Cause(NODE, "node.cordoned", "", "Cordoned", "x", Certainty.LIKELY, ())),
    (RuledOut("app.crash", SERVE, "explained"),),
    (NotProven("net.dns", NODE, "maybe", "a log"),),
    (Missing("nodes", Why.FORBIDDEN, "403", "grant list on nodes", "Node"),),
    Cost(3, 4_096),
)


@pytest.fixture
def validator() -> Any:
    schema = json.loads((DOCS / "diagnosis.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def test_a_full_diagnosis_is_valid_and_survives_json(validator: Any) -> None:
    document = diagnosis_document(FULL, ((REMEDY,),), seconds=0.41234)
    validator.validate(document)
    assert json.loads(json.dumps(document)) == document


def test_an_empty_diagnosis_is_valid(validator: Any) -> None:
    validator.validate(diagnosis_document(Diagnosis("c", "all", NOW, True, ())))


def test_the_schema_refuses_an_unknown_member_and_a_wrong_certainty(validator: Any) -> None:
    document = diagnosis_document(FULL)
    document["causes"][0]["certainty"] = "sure"
    document["verdict"] = "bad"
    assert {error.json_path for error in validator.iter_errors(document)} == {"$", "$.causes[0].certainty"}


def test_members_carry_what_the_diagnosis_says() -> None:
    document = diagnosis_document(FULL, ((REMEDY,),), seconds=0.41234)
    first, second = document["causes"]
    assert first["object"] == {"kind": "Deployment", "namespace": "ml", "name": "serve"}
    assert (first["class"], second["class"]) == ("image/wrong-tag", None)
    assert first["evidence"][0]["id"] == EVIDENCE.id
    assert first["remedies"][0]["parameters"] == {"to_revision": 6}
    assert second["remedies"] == []
    assert document["cost"] == {"requests": 3, "bytes": 4096, "seconds": 0.412}


def test_times_are_utc() -> None:
    document = diagnosis_document(FULL)
    assert document["now"] == "2026-01-15T12:00:00Z"
    assert datetime.fromisoformat(document["causes"][0]["since"]) == NOW.astimezone(UTC)


def test_the_example_of_the_documentation_is_valid(validator: Any) -> None:
    text = (DOCS / "diagnosis-format.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    validator.validate(json.loads(example))
    for member in json.loads((DOCS / "diagnosis.schema.json").read_text(encoding="utf-8"))["properties"]:
        assert f"`{member}" in text or member == "format"
