"""Changes of several requests: how far they came, what happens to the rest, and what a rollback takes back."""

from __future__ import annotations

from typing import Any

import pytest

from guardrails.action import Action, DeleteFailedPods, Drain, EditConfigMapKey, Target, target
from guardrails.claim import LEASE_SECONDS
from guardrails.executor import Executor, Outcome
from guardrails.gate import Gate
from guardrails.grant import Grant
from guardrails.office import Office
from guardrails.port import Receipt
from guardrails.proposal import State
from guardrails.request import BoundRequest
from guardrails.view import ProposalView
from tests.guardrails.conftest import CALM, FakeClock, person
from tests.guardrails.fake_cluster import FakeCluster, break_down, deployment, node, pod, roll_out
from tests.guardrails.test_executor import Killed, die_at

pytestmark = pytest.mark.anyio

NODE = target("Node", None, "gpu-1")
CONFIG = target("ConfigMap", "shop", "web")
EDIT = EditConfigMapKey(key="LOG_LEVEL", value="debug", restart=("Deployment/web",))


def on_node(name: str) -> dict[str, Any]:
    raw = pod(name, ready=True)
    raw["spec"]["nodeName"] = "gpu-1"
    return raw


def config_map() -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "shop", "uid": "uid-config", "resourceVersion": "9"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"LOG_LEVEL": "info"}}


@pytest.fixture
def cluster(clock: FakeClock) -> FakeCluster:
    reader = deployment()
    reader["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "web"}}]
    fake = FakeCluster(clock, node(), on_node("a"), on_node("b"), on_node("c"), config_map(), reader)
    fake.heal = roll_out
    return fake


async def approved(gate: Gate, office: Office, action: Action, on: Target) -> ProposalView:
    shown = await gate.propose(action, on, cluster="lab", requester="ada", evidence=CALM)
    assert shown.state == "pending", shown.detail
    for name in ("bob", "cleo")[: sum(shown.missing.values())]:
        shown = await gate.approve(shown.id, shown.digest or "", person(office, name), "cli")
    return shown


async def run(gate: Gate, shown: ProposalView) -> Outcome:
    return await gate.execute(shown.id, shown.digest or "", "ada")


async def test_a_drain_takes_two_people_and_evicts_each_pod_once(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await approved(gate, office, Drain(), NODE)
    assert len(shown.approvals) == 2
    assert (await run(gate, shown)).state is State.SUCCEEDED
    assert [(write.method, write.uid) for write in cluster.writes] == [
        ("PATCH", "uid-gpu-1"), ("POST", "uid-a"), ("POST", "uid-b"), ("POST", "uid-c")
    ]  # fmt: skip


async def test_a_budget_is_waited_for_and_never_gone_around(gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock) -> None:
    begun = clock.now()
    cluster.refuse_eviction = lambda raw: "budget" if raw["metadata"]["name"] == "a" and (clock.now() - begun).total_seconds() < 20 else ""
    outcome = await run(gate, await approved(gate, office, Drain(), NODE))
    assert outcome.state is State.SUCCEEDED
    assert [write.uid for write in cluster.writes[1:]] == ["uid-b", "uid-c", "uid-a"], "others do not wait for it"
    assert all(write.method == "POST" for write in cluster.writes[1:])


async def test_a_budget_that_never_yields_ends_it_and_what_was_done_stays(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    cluster.refuse_eviction = lambda raw: "budget web" if raw["metadata"]["name"] == "a" else ""
    outcome = await run(gate, await approved(gate, office, Drain(wait_seconds=30), NODE))
    assert outcome.state is State.CLOSED
    assert "Stopped after 3 of 4 requests. 1 pods are held by a disruption budget: budget web" in outcome.detail
    assert cluster.get("Node", "gpu-1")["spec"]["unschedulable"] is True
    shown = await approved(gate, office, Drain(), NODE)
    assert len(shown.requests) == 1, "the rest may be proposed again"


async def test_the_switch_stops_it_within_one_call(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await approved(gate, office, Drain(), NODE)
    seen: list[str] = []

    def count(step: str) -> None:
        seen.append(step)

    sent = cluster.apply

    async def apply_then_stop(grant: Grant, request: BoundRequest) -> Receipt:
        receipt = await sent(grant, request)
        if len(cluster.writes) == 2:
            await gate.pause("cleo", "stop")
        return receipt

    cluster.apply = apply_then_stop  # type: ignore[method-assign]
    outcome = await Executor(office, count).execute(shown.id, shown.digest or "", "ada")
    assert outcome.state is State.CLOSED
    assert "Stopped after 2 of 4" in outcome.detail
    assert len(cluster.writes) == 2


@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize("step", ["change:intended", "change:sent", "change:recorded"])
async def test_killed_at_any_request_each_happens_once(
    gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock, step: str, nth: int
) -> None:
    shown = await approved(gate, office, Drain(), NODE)
    left = [nth]

    def on_step(name: str) -> None:
        left[0] -= name == step
        if not left[0]:
            raise Killed(step)

    with pytest.raises(Killed):
        await Executor(office, on_step).execute(shown.id, shown.digest or "", "ada")
    clock.pass_(seconds=LEASE_SECONDS)
    (outcome,) = await gate.recover()
    assert outcome.state is State.SUCCEEDED, outcome.detail
    assert [write.uid for write in cluster.writes] == ["uid-gpu-1", "uid-a", "uid-b", "uid-c"]


async def test_killed_half_way_and_too_late_afterwards(gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock) -> None:
    shown = await approved(gate, office, Drain(), NODE)
    with pytest.raises(Killed):
        await Executor(office, die_at("change:recorded")).execute(shown.id, shown.digest or "", "ada")
    clock.pass_(hours=2)
    (outcome,) = await gate.recover()
    assert (outcome.state, len(cluster.writes)) == (State.CLOSED, 1)
    assert "Stopped after 1 of 4" in outcome.detail


async def test_what_has_gone_by_itself_is_no_difference_and_what_came_is(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await approved(gate, office, Drain(), NODE)
    cluster.remove("Pod", "b", "shop")
    assert (await run(gate, shown)).state is State.SUCCEEDED
    assert [write.uid for write in cluster.writes] == ["uid-gpu-1", "uid-a", "uid-c"]
    cluster.put(on_node("d"))
    again = await approved(gate, office, Drain(), NODE)
    cluster.put(on_node("e"))
    with pytest.raises(Exception, match="another request"):
        await run(gate, again)


async def test_a_config_map_that_does_no_good_is_put_back_with_its_readers(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    cluster.heal = break_down
    outcome = await run(gate, await approved(gate, office, EDIT, CONFIG))
    assert outcome.state is State.ROLLED_BACK, outcome.detail
    assert cluster.get("ConfigMap", "web", "shop")["data"] == {"LOG_LEVEL": "info"}
    template = cluster.get("Deployment", "web", "shop")["spec"]["template"]
    assert not template["metadata"].get("annotations")
    assert [write.uid for write in cluster.writes] == ["uid-config", "uid-web"] * 2


async def test_what_stops_half_way_is_put_back(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await approved(gate, office, EDIT, CONFIG)
    sent = cluster.apply

    async def refuse_the_second(grant: Any, request: Any) -> Receipt:
        return Receipt("refused", "a webhook says no", 422) if request.uid == "uid-web" else await sent(grant, request)

    cluster.apply = refuse_the_second  # type: ignore[method-assign]
    outcome = await run(gate, shown)
    assert outcome.state is State.ROLLED_BACK, outcome.detail
    assert cluster.get("ConfigMap", "web", "shop")["data"] == {"LOG_LEVEL": "info"}
    assert [write.uid for write in cluster.writes] == ["uid-config"] * 2


async def test_it_is_not_put_back_over_somebody_elses_edit(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    def edited(raw: dict[str, Any]) -> None:
        break_down(raw)
        cluster.get("ConfigMap", "web", "shop")["data"]["LOG_LEVEL"] = "trace"

    cluster.heal = edited
    outcome = await run(gate, await approved(gate, office, EDIT, CONFIG))
    assert outcome.state is State.CLOSED
    assert cluster.get("ConfigMap", "web", "shop")["data"] == {"LOG_LEVEL": "trace"}


async def test_failed_pods_of_a_system_namespace_stay(gate: Gate, cluster: FakeCluster) -> None:
    space = {"kind": "Namespace", "metadata": {"name": "kube-system", "uid": "uid-k", "resourceVersion": "1"}}
    failed = pod("old") | {"status": {"phase": "Failed"}}
    failed["metadata"]["namespace"] = "kube-system"
    cluster.put(space)
    cluster.put(failed)
    shown = await gate.propose(DeleteFailedPods(), target("Namespace", None, "kube-system"), cluster="lab", requester="ada", evidence=CALM)
    assert shown.state == "denied"
    assert "deny-system-namespaces" in shown.detail
