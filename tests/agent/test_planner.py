from __future__ import annotations

import pytest

from agent.budget import Limits, Spent
from agent.incident import Incident
from agent.planner import RulePlanner, View, open_wants
from agent.workspace import Judgement
from cluster.reading import Cost
from cluster.reference import ContainerRef, ObjectRef, Scope
from cluster.world import World
from runbooks.causes import explain
from runbooks.detectors.registry import detect
from runbooks.finding import Certainty, Finding, LogWant, ObjectsWant, Source, Want, cite
from tests.agent.recordings import BROKEN_ROLLOUT, CRASH, HEALTHY
from tests.runbooks.worlds import world

pytestmark = pytest.mark.anyio


def view(
    made: World | None,
    *,
    focus: tuple[ObjectRef, ...] = (),
    findings: tuple[Finding, ...] | None = None,
    asked: frozenset[Want] = frozenset(),
    spent: Spent | None = None,
    question: str | None = None,
) -> View:
    judgement = None
    if made is not None:
        found = detect(made) if findings is None else findings
        judgement = Judgement(made, focus, found, explain(made, found, focus))
    return View(Incident("i", Scope("c"), question), judgement, asked, Limits(), spent or Spent())


async def test_the_base_kinds_come_first() -> None:
    plan = await RulePlanner().next(view(None))
    assert plan.wants[0] == ObjectsWant("Pod")
    assert ObjectsWant("Endpoints") not in plan.wants
    assert not plan.stop


async def test_a_crash_wants_its_log_once() -> None:
    made = world(CRASH)
    plan = await RulePlanner().next(view(made))
    logs = {want for want in plan.wants if isinstance(want, LogWant)}
    assert logs
    assert {want.container.pod for want in logs} == {"worker-cccccccccc-zzzzz"}
    after = await RulePlanner().next(view(made, asked=frozenset(plan.wants)))
    assert after.stop == "nothing more is wanted"
    assert after.complete


async def test_a_spent_budget_stops_and_says_how_much_was_wanted() -> None:
    plan = await RulePlanner().next(view(world(CRASH), spent=Spent(rounds=Limits().rounds, cost=Cost())))
    assert "more were wanted" in plan.stop
    assert not plan.complete
    assert not plan.wants


async def test_the_log_of_what_is_asked_about_is_read_although_it_runs() -> None:
    quiet = ObjectRef("Pod", "ml", "quiet")
    assert open_wants(view(world(HEALTHY))) == ()
    assert open_wants(view(world(HEALTHY), focus=(quiet,))) == (LogWant(ContainerRef("ml", "quiet", "main"), deep=True),)


async def test_a_complaint_that_no_object_explains_reads_the_logs_of_all() -> None:
    assert open_wants(view(world(HEALTHY), question="users see errors")) == (LogWant(ContainerRef("ml", "quiet", "main"), deep=True),)


async def test_a_log_that_only_a_proven_causes_symptom_wants_is_not_read() -> None:
    made = world(BROKEN_ROLLOUT)
    pod, deployment = ObjectRef("Pod", "ml", "serve-bbbbbbbbbb-yyyyy"), ObjectRef("Deployment", "ml", "serve")
    log = LogWant(ContainerRef("ml", pod.name, "main"))

    def findings(certainty: Certainty) -> tuple[Finding, ...]:
        cause = Finding("image.not-found", deployment, certainty, (cite(Source.FIELD, deployment, "spec", "x"),), "tag", affects=(pod,))
        symptom = Finding("workload.unavailable", deployment, Certainty.LIKELY, (cite(Source.FIELD, pod, "y", "z"),), "down", wants=(log,))
        return (cause, symptom)

    assert log in open_wants(view(made, findings=findings(Certainty.LIKELY)))
    assert log not in open_wants(view(made, findings=findings(Certainty.PROVEN)))


async def test_endpoints_stand_in_for_missing_slices() -> None:
    service = "kind: Service\nmetadata: {name: web, namespace: ml}\n"
    endpoints = ObjectsWant("Endpoints")
    assert endpoints in open_wants(view(world(service)))
    assert endpoints not in open_wants(view(world(service), asked=frozenset({endpoints})))
    both = service + "---\nkind: EndpointSlice\nmetadata: {name: web-1, namespace: ml}\naddressType: IPv4\n"
    assert endpoints not in open_wants(view(world(both)))
