"""From a proposal to a verified change, and every way in which it must be refused."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from guardrails.action import Cordon, DeletePod, RolloutRestart, RolloutUndo, Scale, target
from guardrails.audit import verify
from guardrails.errors import (
    AlreadyExecuted,
    BadLedger,
    Conflict,
    Denied,
    DigestMismatch,
    Expired,
    IllegalTransition,
    KillSwitchOn,
    NotApproved,
    NotEligible,
    OwnApproval,
    Stale,
    TargetNotFound,
    UnknownCluster,
    UnknownProposal,
)
from guardrails.executor import Executor
from guardrails.gate import Gate
from guardrails.note import Signer
from guardrails.office import ANCHOR, KEY, Office, open_office
from guardrails.port import Receipt
from guardrails.proposal import State
from guardrails.store import proposals
from tests.guardrails.conftest import CALM, UNDO, WEB, FakeClock, on_both, person, propose_undo
from tests.guardrails.fake_cluster import FakeCluster, break_down, node, pod, template

pytestmark = pytest.mark.anyio


async def _intact(office: Office, folder: Path) -> None:
    report = await verify(office.store, Signer.load_or_create(folder / KEY).verifier, anchor=folder / ANCHOR)
    assert report.status == "intact", report.problems


async def test_another_person_approves_and_it_runs_once(gate: Gate, office: Office, cluster: FakeCluster, tmp_path: Path) -> None:
    shown = await propose_undo(gate)
    assert shown.missing == {"sre-oncall": 1}
    assert "revision 1" in shown.summary
    assert shown.changes, "approvers see the dry run's difference"
    approved = await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    assert approved.state is State.APPROVED
    outcome = await gate.execute(shown.id, shown.digest or "", "ada")
    assert outcome.state is State.SUCCEEDED, outcome.detail
    assert [w.method for w in cluster.writes] == ["PATCH"]
    web = cluster.get("Deployment", "web", "shop")
    assert web["spec"]["template"]["spec"]["containers"][0]["image"] == "web:1"
    assert web["metadata"]["annotations"]["smokejumper.dev/proposal"].startswith(shown.id)
    with pytest.raises(AlreadyExecuted):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert len(cluster.writes) == 1
    await _intact(office, tmp_path)


async def test_without_approval_nothing_is_sent(gate: Gate, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    with pytest.raises(NotApproved, match="1 more of sre-oncall"):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert cluster.writes == []


async def test_the_requester_cannot_approve(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    with pytest.raises(OwnApproval):
        await gate.approve(shown.id, shown.digest or "", person(office, "ada"), "cli")
    with pytest.raises(NotApproved):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert cluster.writes == []


async def test_a_contributor_cannot_approve(gate: Gate, office: Office) -> None:
    shown = await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM, contributors=("Bob",))
    with pytest.raises(OwnApproval):
        await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")


async def test_who_is_in_no_required_group_cannot_approve(gate: Gate, office: Office) -> None:
    shown = await propose_undo(gate)
    with pytest.raises(NotEligible):
        await gate.approve(shown.id, shown.digest or "", person(office, "mallory"), "cli")


async def test_another_digest_is_refused(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    with pytest.raises(DigestMismatch):
        await gate.approve(shown.id, "0" * 64, person(office, "bob"), "cli")
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    with pytest.raises(DigestMismatch):
        await gate.execute(shown.id, "0" * 64, "ada")
    assert cluster.writes == []


async def test_an_approval_of_one_proposal_is_none_of_another(gate: Gate, office: Office) -> None:
    first, second = await propose_undo(gate), await propose_undo(gate, "cleo")
    assert first.digest != second.digest
    with pytest.raises(DigestMismatch):
        await gate.approve(second.id, first.digest or "", person(office, "bob"), "cli")


async def test_it_expires_to_the_second(gate: Gate, office: Office, clock: FakeClock, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    clock.pass_(minutes=30)
    with pytest.raises(Expired):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert (await gate.status(shown.id)).state is State.EXPIRED
    assert cluster.writes == []


async def test_one_second_before_the_end_it_runs(gate: Gate, office: Office, clock: FakeClock) -> None:
    shown = await propose_undo(gate)
    clock.pass_(minutes=29, seconds=59)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED


async def test_nobody_approves_what_has_expired(gate: Gate, office: Office, clock: FakeClock) -> None:
    shown = await propose_undo(gate)
    clock.pass_(minutes=30)
    for _ in range(2):
        with pytest.raises(Expired):
            await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    assert (await gate.status(shown.id)).state is State.EXPIRED


async def test_one_person_over_two_channels_counts_once(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await gate.propose(Scale(replicas=0), WEB, cluster="lab", requester="ada", evidence=CALM)
    assert shown.missing == {"sre-oncall": 2}
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    again = await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "slack")
    assert again.missing == {"sre-oncall": 1}
    assert len(again.approvals) == 1
    with pytest.raises(NotApproved):
        await gate.execute(shown.id, shown.digest or "", "ada")
    both = await gate.approve(shown.id, shown.digest or "", person(office, "cleo"), "cli")
    assert both.state is State.APPROVED
    assert cluster.writes == []


FORGERIES = {
    "a row of its own": (
        "INSERT INTO approval SELECT id, 'bob', json_object('proposal_id', id, 'digest', digest, 'approver', 'bob', 'channel', 'cli',"
        " 'assurance', 1, 'verdict', 'approve', 'at', '2026-11-25T10:00:00Z'), 2 FROM proposal",
    ),
    "with an entry at the end": (
        "INSERT INTO ledger_entry SELECT log, 99, 'e-x', at, 'approval.given', proposal, entry, leaf FROM ledger_entry WHERE seq = 2",
        "INSERT INTO approval SELECT id, 'bob', json_object('proposal_id', id, 'digest', digest, 'approver', 'bob', 'channel', 'cli',"
        " 'assurance', 1, 'verdict', 'approve', 'at', '2026-11-25T10:00:00Z'), 99 FROM proposal",
    ),
    "in place of another entry": (
        "INSERT INTO approval SELECT id, 'bob', json_object('proposal_id', id, 'digest', digest, 'approver', 'bob', 'channel', 'cli',"
        " 'assurance', 1, 'verdict', 'approve', 'at', '2026-11-25T10:00:00Z'), 2 FROM proposal",
        "UPDATE ledger_entry SET type = 'approval.given', entry = json_object('seq', 2, 'id', id, 'at', at, 'type', 'approval.given',"
        " 'proposal', proposal, 'body', json((SELECT approval FROM approval))) WHERE seq = 2",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_an_approval_without_a_witness_is_forged(gate: Gate, office: Office, cluster: FakeCluster, forgery: str) -> None:
    shown = await propose_undo(gate)
    async with office.store.write() as connection:
        for statement in FORGERIES[forgery]:
            assert (await connection.exec_driver_sql(statement)).rowcount == 1
    with pytest.raises(BadLedger):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert cluster.writes == []


async def test_a_forged_state_is_no_approval(gate: Gate, office: Office, cluster: FakeCluster, tmp_path: Path) -> None:
    shown = await propose_undo(gate)
    async with office.store.write() as connection:
        await connection.execute(proposals.update().values(state="approved", version=5))
    with pytest.raises(NotApproved):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert cluster.writes == []
    report = await verify(office.store, Signer.load_or_create(tmp_path / KEY).verifier)
    assert report.status == "tampered"


async def test_who_leaves_the_group_no_longer_counts(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    office.directory.set_groups("bob", [])
    with pytest.raises(NotApproved, match="none of the required groups"):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert cluster.writes == []


async def test_who_leaves_altogether_no_longer_counts(gate: Gate, office: Office) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    office.directory.remove("bob")
    with pytest.raises(NotApproved, match="no longer in the directory"):
        await gate.execute(shown.id, shown.digest or "", "ada")


async def test_a_person_denies(gate: Gate, office: Office) -> None:
    shown = await propose_undo(gate)
    denied = await gate.deny(shown.id, shown.digest or "", person(office, "bob"), "cli", reason="not now")
    assert (denied.state, denied.detail) == (State.DENIED, "not now")
    with pytest.raises(Denied):
        await gate.execute(shown.id, shown.digest or "", "ada")
    with pytest.raises(IllegalTransition):
        await gate.approve(shown.id, shown.digest or "", person(office, "cleo"), "cli")


async def test_only_the_requester_withdraws(gate: Gate) -> None:
    shown = await propose_undo(gate)
    with pytest.raises(NotEligible):
        await gate.withdraw(shown.id, "bob")
    assert (await gate.withdraw(shown.id, "ada")).state is State.WITHDRAWN
    with pytest.raises(IllegalTransition):
        await gate.execute(shown.id, shown.digest or "", "ada")


@pytest.mark.parametrize("what", ["edited", "replaced", "deleted", "another-cluster"])
async def test_a_changed_object_makes_it_stale(gate: Gate, office: Office, cluster: FakeCluster, what: str) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    web = cluster.get("Deployment", "web", "shop")
    if what == "edited":
        web["spec"]["template"] = template("web:3")
        cluster.edit(web)
    elif what == "replaced":
        web["metadata"]["uid"] = "another"
    elif what == "deleted":
        cluster.remove("Deployment", "web", "shop")
    else:
        cluster.cluster_uid = "another"
    with pytest.raises(Stale):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert (await gate.status(shown.id)).state is State.STALE
    assert cluster.writes == []


async def test_a_status_update_does_not_make_it_stale(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    cluster.touch(cluster.get("Deployment", "web", "shop"))
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED


async def test_a_conflict_is_looked_at_again(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    moves = iter([True])
    cluster.before_apply = lambda: cluster.touch(cluster.get("Deployment", "web", "shop")) if next(moves, False) else None
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED
    assert len(cluster.writes) == 1


async def test_a_foreign_edit_during_the_write_wins(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    cluster.before_apply = lambda: cluster.edit(cluster.get("Deployment", "web", "shop"))
    outcome = await gate.execute(shown.id, shown.digest or "", "ada")
    assert outcome.state is State.CLOSED
    assert "Nothing was changed" in outcome.detail
    assert cluster.writes == []


async def test_the_kill_switch_stops_an_approved_change(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    await gate.pause("cleo", "incident elsewhere")
    with pytest.raises(KillSwitchOn, match="incident elsewhere"):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert cluster.writes == []
    assert (await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM)).state is State.DENIED
    await gate.resume("cleo", "over")
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED


async def test_a_stricter_policy_sends_it_back(gate: Gate, office: Office, cluster: FakeCluster, tmp_path: Path) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    folder = tmp_path / "strict"
    folder.mkdir()
    for file in (Path(__file__).parents[2] / "guardrails" / "policies").iterdir():
        text = file.read_text().replace('@approvals("1")', '@approvals("2")').replace("{sre-oncall: 1}", "{sre-oncall: 2}")
        (folder / file.name).write_text(text)
    office.bundles.reload(folder, office.directory.groups)
    with pytest.raises(NotApproved):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert (await gate.status(shown.id)).state is State.PENDING
    await gate.approve(shown.id, shown.digest or "", person(office, "cleo"), "cli")
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED
    await _intact(office, tmp_path)


async def test_a_denying_policy_sends_it_back(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    cluster.forbid = {"patch"}
    with pytest.raises(Denied, match="may not patch"):
        await gate.execute(shown.id, shown.digest or "", "ada")
    assert (await gate.status(shown.id)).state is State.PENDING
    assert cluster.writes == []


async def test_what_does_not_work_is_rolled_back_once(gate: Gate, office: Office, cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.heal = break_down
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    outcome = await gate.execute(shown.id, shown.digest or "", "ada")
    assert outcome.state is State.ROLLED_BACK, outcome.detail
    assert len(cluster.writes) == 2
    assert cluster.get("Deployment", "web", "shop")["spec"]["template"] == template("web:2")
    await _intact(office, tmp_path)


async def test_a_foreign_edit_is_never_rolled_back(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    cluster.heal = break_down
    web = cluster.get("Deployment", "web", "shop")
    executor = Executor(office, lambda step: cluster.edit(web) if step == "failed" else None)
    outcome = await executor.execute(shown.id, shown.digest or "", "ada")
    assert outcome.state is State.CLOSED
    assert "somebody has changed" in outcome.detail
    assert len(cluster.writes) == 1


async def test_what_cannot_be_proven_is_inconclusive(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    cluster.heal = lambda raw: None
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    outcome = await gate.execute(shown.id, shown.digest or "", "ada")
    assert outcome.state is State.INCONCLUSIVE
    assert outcome.needs_a_human
    assert len(cluster.writes) == 1


async def test_a_lost_answer_is_looked_up(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    cluster.lose_answer = True
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED
    assert len(cluster.writes) == 1


async def test_an_answer_that_says_nothing_is_unknown(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    cluster.answers = [Receipt("unknown", "500 internal error", 500)]
    outcome = await gate.execute(shown.id, shown.digest or "", "ada")
    assert outcome.state is State.UNKNOWN
    assert outcome.needs_a_human


async def test_a_refusal_by_the_cluster_closes_it(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    cluster.answers = [Receipt("refused", "denied by the fence", 422)]
    outcome = await gate.execute(shown.id, shown.digest or "", "ada")
    assert (outcome.state, "denied by the fence" in outcome.detail) == (State.CLOSED, True)


async def test_a_rehearsal_needs_the_same_approval_and_writes_nothing(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    cluster.rehearsal = True
    shown = await propose_undo(gate)
    with pytest.raises(NotApproved):
        await gate.execute(shown.id, shown.digest or "", "ada")
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    outcome = await gate.execute(shown.id, shown.digest or "", "ada")
    assert outcome.state is State.REHEARSED
    assert outcome.requests[0]["path"] == "/apis/apps/v1/namespaces/shop/deployments/web"
    assert cluster.writes == []


async def test_automatic_outside_production(gate: Gate, cluster: FakeCluster) -> None:
    web = cluster.get("Deployment", "web", "shop")
    web["metadata"]["namespace"] = "staging-1"
    cluster.put(web)
    staging = target("Deployment", "staging-1", "web")
    shown = await gate.propose(RolloutRestart(), staging, cluster="lab", requester="ada", evidence=CALM)
    assert (shown.state, shown.missing) == (State.APPROVED, {}), shown.detail
    assert (await gate.execute(shown.id, shown.digest or "", "ada")).state is State.SUCCEEDED


@pytest.mark.parametrize(("requester", "tainted"), [("ada", True), ("bob", False)])
async def test_taint_and_an_unreviewed_requester_escalate(gate: Gate, cluster: FakeCluster, requester: str, tainted: bool) -> None:
    web = cluster.get("Deployment", "web", "shop")
    web["metadata"]["namespace"] = "staging-1"
    cluster.put(web)
    evidence = CALM.model_copy(update={"tainted": tainted})
    shown = await gate.propose(
        RolloutRestart(), target("Deployment", "staging-1", "web"), cluster="lab", requester=requester, evidence=evidence
    )
    assert shown.state is State.PENDING
    assert shown.verdict is not None
    assert shown.verdict.escalated_by


async def test_a_human_who_may_not_do_it_cannot_have_it_done(gate: Gate, cluster: FakeCluster) -> None:
    cluster.forbid_subject = {"patch"}
    shown = await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM)
    assert shown.state is State.REJECTED
    assert "ada may not patch" in shown.detail
    assert shown.detail.endswith("Somebody who may has to ask for it.")
    assert shown.next_step == "It cannot be done for the reason that is given. Put that right first, then propose again."


async def test_an_account_of_ours_that_may_not_do_it_is_told_how_it_may(gate: Gate, cluster: FakeCluster) -> None:
    cluster.forbid = {"patch"}
    shown = await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM)
    assert shown.state is State.REJECTED
    assert shown.detail.startswith("Our account may not patch deployments.apps web in namespace")
    assert shown.detail.count("'smokejumper rbac'") == 1
    assert "executor_context" in shown.detail


async def test_a_failing_dry_run_rejects(gate: Gate, cluster: FakeCluster) -> None:
    cluster.dry_run_reason = "spec.replicas: Invalid value"
    shown = await gate.propose(Scale(replicas=4), WEB, cluster="lab", requester="ada", evidence=CALM)
    assert shown.state is State.REJECTED
    assert "Invalid value" in shown.detail


async def test_a_failed_precondition_rejects(gate: Gate) -> None:
    shown = await gate.propose(RolloutUndo(to_revision=9), WEB, cluster="lab", requester="ada", evidence=CALM)
    assert shown.state is State.REJECTED
    assert "no revision 9" in shown.detail
    with pytest.raises(IllegalTransition):
        await gate.execute(shown.id, "", "ada")


async def test_an_unknown_target_is_an_error_and_leaves_a_record(gate: Gate) -> None:
    with pytest.raises(TargetNotFound):
        await gate.propose(UNDO, target("Deployment", "shop", "nothing"), cluster="lab", requester="ada", evidence=CALM)
    assert [shown.state for shown in await gate.list()] == [State.REJECTED]


async def test_unknown_names(gate: Gate) -> None:
    with pytest.raises(UnknownCluster):
        await gate.propose(UNDO, WEB, cluster="elsewhere", requester="ada")
    with pytest.raises(UnknownProposal):
        await gate.status("p-999")


async def test_the_same_key_proposes_once(gate: Gate) -> None:
    first = await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM, key="incident-1")
    again = await gate.propose(UNDO, WEB, cluster="lab", requester="ada", evidence=CALM, key="incident-1")
    assert (again.id, len(await gate.list())) == (first.id, 1)


async def test_nodes_and_pods(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    for action, on in ((Cordon(), target("Node", None, "gpu-1")), (DeletePod(), target("Pod", "shop", "web-h2-x"))):
        shown = await gate.propose(action, on, cluster="lab", requester="ada", evidence=CALM)
        assert shown.state is State.PENDING, shown.detail
        await gate.approve(shown.id, shown.digest or "", person(office, "cleo"), "cli")
        outcome = await gate.execute(shown.id, shown.digest or "", "ada")
        assert outcome.state is State.SUCCEEDED, outcome.detail
    assert cluster.get("Node", "gpu-1")["spec"]["unschedulable"] is True
    assert cluster.writes[1].body()["preconditions"]["uid"] == "uid-web-h2-x"


async def test_a_second_node_of_the_pool_is_denied(gate: Gate, cluster: FakeCluster) -> None:
    cluster.put(node("gpu-2", unschedulable=True))
    shown = await gate.propose(Cordon(), target("Node", None, "gpu-1"), cluster="lab", requester="ada", evidence=CALM)
    assert shown.state is State.DENIED
    assert shown.verdict is not None
    assert shown.verdict.rules == ("deny-second-node-of-a-pool",)


async def test_a_pod_made_ready_meanwhile_is_stale(gate: Gate, office: Office, cluster: FakeCluster) -> None:
    shown = await gate.propose(DeletePod(), target("Pod", "shop", "web-h2-x"), cluster="lab", requester="ada", evidence=CALM)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    cluster.put(pod(ready=True))
    with pytest.raises(Stale):
        await gate.execute(shown.id, shown.digest or "", "ada")


async def test_explain_names_what_would_have_changed_it(gate: Gate) -> None:
    shown = await propose_undo(gate)
    _, explained = await gate.explain(shown.id)
    assert {"context.killSwitch", "context.frozen"} <= {fact for miss in explained.near for fact, _ in miss.changes}
    assert shown.verdict is not None
    assert (explained.verdict.effect, explained.verdict.rules) == (shown.verdict.effect, shown.verdict.rules)
    named = explained.facts.named()
    assert (named["resource.ns"], named["context.podsAffected"], named["context.killSwitch"]) == ("shop", 3, False)


async def test_sweep_expires(gate: Gate, clock: FakeClock) -> None:
    shown = await propose_undo(gate)
    assert await gate.sweep() == ()
    clock.pass_(hours=1)
    assert await gate.sweep() == (shown.id,)
    assert (await gate.list(open_only=True)) == ()


@on_both
async def test_two_gates_race_and_one_executes(
    gate: Gate, office: Office, cluster: FakeCluster, clock: FakeClock, tmp_path: Path, database: str | None
) -> None:
    shown = await propose_undo(gate)
    await gate.approve(shown.id, shown.digest or "", person(office, "bob"), "cli")
    results: list[str] = []

    async def run(one: Gate) -> None:
        try:
            results.append((await one.execute(shown.id, shown.digest or "", "ada")).state)
        except (AlreadyExecuted, Conflict) as error:
            results.append(error.code)

    second_gate = open_office(tmp_path, {"lab": cluster}, estate=office.estate, clock=clock, database=database)
    async with second_gate as second, anyio.create_task_group() as group:
        for one in (gate, Gate(second), gate, Gate(second)):
            group.start_soon(run, one)
    assert results.count("succeeded") == 1, results
    assert len(cluster.writes) == 1
    await _intact(office, tmp_path)
