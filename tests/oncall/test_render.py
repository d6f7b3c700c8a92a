"""What a diagnosis prints can be typed, the command of a remedy names options that exist, and what is not told one by one is named."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from rich.console import Console

from cluster.reference import ObjectRef
from oncall.render import CAUSES_SHOWN, NAMES_SHOWN, print_diagnosis, propose_command
from runbooks.candidate import Candidate
from runbooks.finding import Cause, Certainty, Diagnosis


def candidate(action: str, kind: str, name: str, **parameters: object) -> Candidate:
    return Candidate(action, ObjectRef(kind, "ml", name), parameters, "why", "precondition", "inverse", "verification")


def test_parameters_are_given_as_the_command_takes_them() -> None:
    undo = propose_command(candidate("rollout_undo", "Deployment", "serve", to_revision=1))
    assert undo == "smokejumper propose rollout_undo Deployment/serve -n ml --to-revision 1"
    expand = propose_command(candidate("expand_pvc", "PersistentVolumeClaim", "models", size="20Gi"))
    assert expand == "smokejumper propose expand_pvc PersistentVolumeClaim/models -n ml --set size=20Gi"


def test_causes_that_are_not_told_one_by_one_are_named_by_fault() -> None:
    def causes(count: int, title: str) -> tuple[Cause, ...]:
        return tuple(
            Cause(ObjectRef("Deployment", "ml", f"{title}-{number}"), title, "", title, "why", Certainty.PROVEN, ())
            for number in range(count)
        )

    out = io.StringIO()
    found = Diagnosis(
        "c", "ml in c", datetime(2026, 1, 15, tzinfo=UTC), False, (*causes(CAUSES_SHOWN + 2, "leak"), *causes(NAMES_SHOWN + 3, "typo"))
    )
    print_diagnosis(Console(file=out, width=2_000), found, ())
    told = out.getvalue()
    assert f"{NAMES_SHOWN + 5} more causes (-o json shows all)" in told
    assert f"2 x leak (proven): Deployment/ml/leak-{CAUSES_SHOWN}, Deployment/ml/leak-{CAUSES_SHOWN + 1}\n" in told
    assert f"{NAMES_SHOWN + 3} x typo (proven): Deployment/ml/typo-0, " in told
    assert f"Deployment/ml/typo-{NAMES_SHOWN - 1} and 3 more\n" in told
