"""Partitioning GPUs anew: the MIG manager's answer on the node counts only when it is about the profile that was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from guardrails.action import SetMigProfile, target
from guardrails.executor import Outcome
from guardrails.gate import Gate
from guardrails.office import Office
from guardrails.proposal import State
from tests.guardrails.conftest import CALM, person
from tests.guardrails.fake_cluster import FakeCluster, node

pytestmark = pytest.mark.anyio

CONFIG, REPORT = "nvidia.com/mig.config", "nvidia.com/mig.config.state"
BEFORE = {"nvidia.com/mig.capable": "true", CONFIG: "all-disabled", REPORT: "success"}


async def _partitioned(gate: Gate, office: Office, cluster: FakeCluster) -> Outcome:
    raw = node(unschedulable=True)
    raw["metadata"]["labels"] = {**(raw["metadata"].get("labels") or {}), **BEFORE}
    cluster.put(raw)
    on = target("Node", None, raw["metadata"]["name"])
    shown = await gate.propose(SetMigProfile(profile="all-1g.10gb"), on, cluster="lab", requester="ada", evidence=CALM)
    for name in ("bob", "cleo"):
        shown = await gate.approve(shown.id, shown.digest or "", person(office, name), "cli")
    return await gate.execute(shown.id, shown.digest or "", "ada")


def _labels(cluster: FakeCluster) -> dict[str, str]:
    labels: dict[str, str] = cluster.get("Node", node()["metadata"]["name"])["metadata"]["labels"]
    return labels


async def test_the_report_on_the_profile_before_proves_nothing(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    outcome = await _partitioned(gate, office, cluster)
    assert outcome.state is State.INCONCLUSIVE, outcome.detail
    assert REPORT not in _labels(cluster)


async def test_a_failed_partition_is_taken_back_although_the_manager_has_answered(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    def answer(raw: dict[str, Any]) -> None:
        raw["metadata"]["labels"][REPORT] = "failed" if raw["metadata"]["labels"][CONFIG] == "all-1g.10gb" else "success"

    cluster.heal = answer
    outcome = await _partitioned(gate, office, cluster)
    assert outcome.state is State.ROLLED_BACK, outcome.detail
    assert {key: _labels(cluster)[key] for key in BEFORE} == BEFORE


async def test_somebody_elses_profile_is_left_alone(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    def answer(raw: dict[str, Any]) -> None:
        raw["metadata"]["labels"] |= {CONFIG: "all-3g.40gb", REPORT: "failed"}

    cluster.heal = answer
    outcome = await _partitioned(gate, office, cluster)
    assert outcome.state is State.CLOSED, outcome.detail
    assert _labels(cluster)[CONFIG] == "all-3g.40gb"
