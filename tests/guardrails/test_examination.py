"""Every fact that a policy may talk about is computed from objects and records: none is a constant, and each is what it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from guardrails.action import Action, Drain, RolloutRestart, Scale, Suspend, target
from guardrails.budget import Counters
from guardrails.directory import Person
from guardrails.estate import Estate, Freeze
from guardrails.examination import Examination, facts
from guardrails.facts import Circumstances, Facts, NodeFacts, Replicas, WorkloadFacts
from guardrails.gang import CHECKPOINT
from guardrails.gate import Gate
from guardrails.office import Office
from guardrails.port import DryRun, Observed
from guardrails.proposal import Evidence, State
from guardrails.risk import assess
from tests.guardrails.conftest import CALM, WEB, FakeClock, person
from tests.guardrails.fake_cluster import FakeCluster, deployment, node

# A Wednesday.
NOW = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
QUIET = Counters(0, 0, 0)


def minutes(number: int) -> datetime:
    return NOW - timedelta(minutes=number)


def ask(action: Action, raw: dict[str, Any], *related: dict[str, Any], estate: Estate | None = None, **more: Any) -> Facts:
    metadata = raw["metadata"]
    on = target(raw["kind"], metadata.get("namespace"), metadata["name"])
    observed = Observed("c", on, raw, related, more.pop("missing", ()))
    reviewed = more.pop("requester_reviewed", False)
    examination = Examination(observed, None, assess(action, observed), DryRun(ok=False), (), reviewed)
    given: dict[str, Any] = {"cluster": "lab", "counters": QUIET, "evidence": CALM, "killed": False, "proposed_at": NOW, "now": NOW} | more
    return facts(examination, action, Person(name="ada", groups=("sre-oncall",), tenants=("default",)), estate or Estate(), **given)


def train(**metadata: Any) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": "8"}
    worker = {"replicas": 4, "template": {"spec": {"containers": [{"name": "main", "resources": {"limits": limits}}]}}}
    return {
        "kind": "PyTorchJob",
        "metadata": {"name": "train", "namespace": "ml", "uid": "u", **metadata},
        "spec": {"pytorchReplicaSpecs": {"Worker": worker}},
        "status": {"startTime": minutes(90).isoformat()},
    }


def test_gpu_hours_and_the_last_checkpoint() -> None:
    plain = ask(Suspend(), train()).circumstances
    assert (plain.gpus, plain.gpu_hours, plain.checkpoint_minutes) == (32, 48, -1)
    told = ask(Suspend(), train(annotations={CHECKPOINT: minutes(17).isoformat()})).circumstances
    assert (told.gpu_hours, told.checkpoint_minutes) == (48, 17)
    # What claims to be saved in the future claims nothing.
    assert ask(Suspend(), train(annotations={CHECKPOINT: minutes(-1).isoformat()})).circumstances.checkpoint_minutes == -1


def test_what_has_just_begun_counts_as_begun() -> None:
    raw = train()
    raw["status"]["startTime"] = (NOW - timedelta(seconds=1)).isoformat()
    assert ask(Suspend(), raw).circumstances.gpu_hours == 1
    raw["status"]["startTime"] = (NOW + timedelta(hours=1)).isoformat()
    assert ask(Suspend(), raw).circumstances.gpu_hours == 0


def test_moments_of_our_own_records() -> None:
    counters = Counters(7, 3, 2, failed_at=minutes(12), denied_at=minutes(5))
    found = ask(RolloutRestart(), deployment(), counters=counters, proposed_at=minutes(20)).circumstances
    assert (found.changes_last_hour, found.automatic_last_hour, found.failed_last_hour) == (7, 3, 2)
    assert (found.failed_minutes, found.denied_minutes, found.proposed_minutes) == (12, 5, 20)
    calm = ask(RolloutRestart(), deployment()).circumstances
    assert (calm.failed_minutes, calm.denied_minutes, calm.proposed_minutes) == (-1, -1, 0)


def test_local_time_and_freezes() -> None:
    freeze = Freeze(start=minutes(1), end=minutes(-1))
    found = ask(RolloutRestart(), deployment(), estate=Estate(time_zone="Pacific/Auckland", freezes=(freeze,))).circumstances
    assert (found.weekday, found.minute_of_day, found.frozen) == (3, 23 * 60 + 30, True)


def test_no_fact_is_a_constant() -> None:
    """Each field differs from its default somewhere below; a new fact that nothing computes fails here."""
    system = {
        "kind": "Pod",
        "metadata": {"name": "s", "namespace": "shop", "uid": "s", "labels": {"a": "b"}},
        "spec": {"nodeName": "gpu-1"},
    }
    budget = {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": "shop"},
        "spec": {"selector": {}},
        "status": {"disruptionsAllowed": 2},
    }
    busy = Counters(1, 1, 1, minutes(1), minutes(1))
    owned = deployment()
    owned["metadata"]["ownerReferences"] = [{"kind": "X", "name": "x", "uid": "x", "controller": True}]
    old = Evidence(tainted=True, read_at=minutes(75))
    frozen = Estate(freezes=(Freeze(start=NOW, end=minutes(-1)),))
    asked = [
        ask(Suspend(), train(annotations={CHECKPOINT: minutes(3).isoformat()})),
        ask(Drain(), node(), node("b", unschedulable=True), system, budget, estate=Estate(protected_namespaces=("shop",))),
        ask(Scale(replicas=1), owned, counters=busy, evidence=old, killed=True, proposed_at=minutes(9), break_glass=True),
        ask(RolloutRestart(), deployment(), missing=("replicasets",), requester_reviewed=True, estate=frozen),
    ]
    plain = Circumstances()
    moved = {name for one in asked for name in Circumstances.__struct_fields__ if getattr(one.circumstances, name) != getattr(plain, name)}
    # `validated` is a port's answer to a dry run: tests of the gate see it both ways.
    assert moved == set(Circumstances.__struct_fields__) - {"validated"}
    assert isinstance(asked[1].resource, NodeFacts)
    assert asked[1].resource.pool == "karpenter.sh/nodepool=a100"
    assert (asked[1].circumstances.pool_disrupted, asked[1].circumstances.pool_share_percent) == (1, 50)
    assert (asked[2].circumstances.evidence_minutes, asked[0].circumstances.evidence_minutes) == (75, -1)
    assert asked[2].circumstances.replicas == Replicas(3, 1)
    assert isinstance(asked[2].resource, WorkloadFacts)


def test_what_a_policy_may_talk_about_is_what_is_asked() -> None:
    request, _ = ask(Scale(replicas=1), deployment()).question()
    assert set(request["context"]) == set(Circumstances.__struct_encode_fields__)


@pytest.mark.anyio
async def test_an_agent_does_not_ask_again_at_once_what_a_person_denied(gate: Gate, office: Office, clock: FakeClock) -> None:
    async def scale(replicas: int, *, tainted: bool) -> Any:
        evidence = CALM.model_copy(update={"tainted": tainted})
        return await gate.propose(Scale(replicas=replicas), WEB, cluster="lab", requester="ada", evidence=evidence)

    first = await scale(5, tainted=True)
    await gate.deny(first.id, first.digest or "", person(office, "bob"), "cli", reason="not that many")
    again = await scale(4, tainted=True)
    assert (again.state, again.verdict.rules) == (State.DENIED, ("deny-agent-after-denial",))
    assert (await scale(4, tainted=False)).state is State.PENDING
    clock.pass_(minutes=30)
    assert (await scale(4, tainted=True)).state is State.PENDING


@pytest.mark.anyio
async def test_what_the_policy_denied_is_no_denial_by_a_person(gate: Gate, office: Office) -> None:
    await gate.pause("bob", "stop")
    tainted = Evidence(tainted=True)
    assert (await gate.propose(Scale(replicas=5), WEB, cluster="lab", requester="ada", evidence=tainted)).state is State.DENIED
    await gate.resume("bob", "over")
    assert (await gate.propose(Scale(replicas=5), WEB, cluster="lab", requester="ada", evidence=tainted)).state is State.PENDING


@pytest.mark.anyio
async def test_suspending_gpus_of_any_kind_takes_two(gate: Gate, cluster: FakeCluster) -> None:
    cluster.put(train())
    shown = await gate.propose(Suspend(), target("PyTorchJob", "ml", "train"), cluster="lab", requester="ada", evidence=CALM)
    assert (shown.state, shown.missing) == (State.PENDING, {"sre-oncall": 2}), shown.detail
