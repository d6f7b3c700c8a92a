"""What a diagnosis prints can be typed: the command of a remedy names options that exist."""

from __future__ import annotations

from cluster.reference import ObjectRef
from oncall.render import propose_command
from runbooks.candidate import Candidate


def candidate(action: str, kind: str, name: str, **parameters: object) -> Candidate:
    return Candidate(action, ObjectRef(kind, "ml", name), parameters, "why", "precondition", "inverse", "verification")


def test_parameters_are_given_as_the_command_takes_them() -> None:
    undo = propose_command(candidate("rollout_undo", "Deployment", "serve", to_revision=1))
    assert undo == "smokejumper propose rollout_undo Deployment/serve -n ml --to-revision 1"
    expand = propose_command(candidate("expand_pvc", "PersistentVolumeClaim", "models", size="20Gi"))
    assert expand == "smokejumper propose expand_pvc PersistentVolumeClaim/models -n ml --set size=20Gi"
