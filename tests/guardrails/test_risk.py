"""What is at stake, and what the owner of the platform said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from guardrails.accelerator import accelerators
from guardrails.action import Cordon, DeletePod, RolloutRestart, Scale, target
from guardrails.errors import InvalidGrant
from guardrails.estate import Estate, Freeze
from guardrails.facts import Replicas
from guardrails.grant import Grant
from guardrails.port import Observed
from guardrails.request import MERGE_PATCH, ApiRequest
from guardrails.risk import assess, pool_of
from tests.guardrails.conftest import START
from tests.guardrails.fake_cluster import deployment, node, pod, template


def seen(raw: dict[str, Any], *related: dict[str, Any]) -> Observed:
    metadata = raw["metadata"]
    return Observed("c", target(raw["kind"], metadata.get("namespace"), metadata["name"]), raw, related)


def test_gpus_are_counted_over_all_pods() -> None:
    raw = deployment(replicas=4)
    raw["spec"]["template"] = template("web:1", resources={"limits": {"nvidia.com/gpu": "2", "cpu": "4"}})
    risk = assess(RolloutRestart(), seen(raw))
    assert (risk.pods_affected, risk.gpus, risk.uses_gpu) == (4, 8, True)
    assert assess(Scale(replicas=1), seen(raw)).replicas == Replicas(4, 1)
    assert assess(Scale(replicas=1), seen(raw)).gpus == 6


def test_claims_count_as_gpus_of_unknown_number() -> None:
    raw = deployment()
    raw["spec"]["template"]["spec"]["resourceClaims"] = [{"name": "gpu"}]
    assert assess(RolloutRestart(), seen(raw)).uses_gpu


def test_pools() -> None:
    risk = assess(Cordon(), seen(node(), node(unschedulable=True), node("b", unschedulable=True), node("c", unschedulable=True, pool="x")))
    assert (risk.pool, risk.pool_disrupted, risk.gpus) == ("karpenter.sh/nodepool=a100", 1, 8)
    assert pool_of({}) == ""
    raw = node()
    raw["metadata"]["labels"] = {"node-role.kubernetes.io/control-plane": ""}
    assert assess(Cordon(), seen(raw)).control_plane


@pytest.mark.parametrize(
    "mark",
    [
        {"annotations": {"argocd.argoproj.io/tracking-id": "x"}},
        {"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}},
        {"ownerReferences": [{"kind": "InferenceService", "name": "x", "uid": "u", "controller": True}]},
    ],
)
def test_who_would_fight_it(mark: dict[str, Any]) -> None:
    raw = deployment()
    raw["metadata"] |= mark
    assert assess(RolloutRestart(), seen(raw)).controlled
    assert not assess(DeletePod(), seen(pod())).controlled


def test_accelerators() -> None:
    assert accelerators({"nvidia.com/gpu": 1, "nvidia.com/mig-1g.10gb": "2", "amd.com/gpu": "1", "cpu": "8", "memory": "1Gi"}) == 4


def test_everything_is_production_until_said_otherwise() -> None:
    estate = Estate(
        namespace_environments={"dev-*": "dev"},
        cluster_environments={"lab": "lab"},
        namespace_teams={"shop": "web"},
        protected_namespaces=("bank*",),
    )
    assert [estate.environment("eu", n) for n in ("shop", "dev-1", None)] == ["prod", "dev", "prod"]
    assert [estate.environment("lab", n) for n in ("shop", "dev-1", None)] == ["lab", "dev", "lab"]
    assert (estate.team("shop"), estate.team("x"), estate.is_protected("bank-1"), estate.is_protected(None)) == ("web", "", True, False)


def test_freezes_and_local_time() -> None:
    freeze = Freeze(start=START, end=START + timedelta(hours=1), environments="prod*")
    estate = Estate(time_zone="Asia/Kolkata", freezes=(freeze,))
    assert [estate.is_frozen(START + timedelta(minutes=m), "prod") for m in (-1, 0, 59, 60)] == [False, True, True, False]
    assert not estate.is_frozen(START, "dev")
    assert estate.local(datetime(2026, 11, 29, 19, 0, tzinfo=UTC)) == (1, 30)
    with pytest.raises(ValidationError, match="time zone"):
        Estate(time_zone="Mars/Olympus")


def test_a_grant_covers_one_request_on_one_object_for_a_time() -> None:
    request = ApiRequest(method="PATCH", path="/x", content_type=MERGE_PATCH, body={"spec": {"replicas": 3}})
    grant = Grant(
        proposal_id="p",
        proposal_digest="d" * 64,
        cluster_uid="c",
        target_uid="u",
        request_digests=(request.digest,),
        fence=1,
        not_after=START,
    )
    early = START - timedelta(seconds=1)
    bound = request.bind(receipt=grant.receipt, uid="u", resource_version="1")
    grant.verify(bound, now=early, cluster_uid="c")
    other = request.model_copy(update={"body": {"spec": {"replicas": 4}}})
    rollback = grant.model_copy(update={"purpose": "rollback"})
    for wrong, now, cluster, of in (
        (bound, START, "c", grant),
        (bound, early, "other", grant),
        (bound, early, "c", rollback),
        (request.bind(receipt=grant.receipt, uid="other", resource_version="1"), early, "c", grant),
        (request.bind(receipt="p-other", uid="u", resource_version="1"), early, "c", grant),
        (other.bind(receipt=grant.receipt, uid="u", resource_version="1"), early, "c", grant),
    ):
        with pytest.raises(InvalidGrant):
            of.verify(wrong, now=now, cluster_uid=cluster)
