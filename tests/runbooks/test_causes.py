"""Folding: who explains whom is the object graph, time, and role and weight of the codes; ranking; what may be called healthy."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs

from cluster.reading import Missing, Why
from cluster.reference import ObjectRef, Scope
from cluster.world import World
from runbooks.causes import explain, merged
from runbooks.finding import Certainty, Finding, Source, cite
from tests.runbooks.worlds import NOW, world

PODS = "\n---\n".join(
    f"""
kind: Pod
metadata:
  {{name: web-{number}, namespace: shop, labels: {{app: web}},
    ownerReferences: [{{kind: ReplicaSet, name: web-1, controller: true}}]}}
spec: {{containers: [{{name: web, envFrom: [{{configMapRef: {{name: settings}}}}]}}]}}
"""
    for number in range(10)
)
SHOP = f"""
kind: Deployment
metadata: {{name: web, namespace: shop}}
---
kind: ReplicaSet
metadata: {{name: web-1, namespace: shop, ownerReferences: [{{kind: Deployment, name: web, controller: true}}]}}
---
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{selector: {{app: web}}}}
---
kind: Deployment
metadata: {{name: other, namespace: shop}}
---
{PODS}
"""
WEB = ObjectRef("Deployment", "shop", "web")
OTHER = ObjectRef("Deployment", "shop", "other")
SERVICE = ObjectRef("Service", "shop", "web")
SETTINGS = ObjectRef("ConfigMap", "shop", "settings")
MISSING = "config.missing-configmap"


def finding(
    code: str, subject: ObjectRef, certainty: Certainty = Certainty.PROVEN, minutes_ago: float | None = None, note: str = ""
) -> Finding:
    since = NOW - timedelta(minutes=minutes_ago) if minutes_ago is not None else None
    return Finding(code, subject, certainty, (cite(Source.FIELD, subject, "status", f"{code}{note}"),), f"{subject} {code}", since=since)


def shop() -> World:
    return world(SHOP)


def pod(number: int) -> ObjectRef:
    return ObjectRef("Pod", "shop", f"web-{number}")


def test_ten_crashing_replicas_are_one_cause_with_its_symptoms() -> None:
    crashes = tuple(finding("container.crash-loop", WEB, note=str(number)) for number in range(10))
    symptoms = (finding("workload.unavailable", WEB), finding("service.no-ready-endpoints", SERVICE))
    diagnosis = explain(shop(), crashes + symptoms)
    [cause] = diagnosis.causes
    assert (cause.object, cause.code) == (WEB, "container.crash-loop")
    assert {item.code for item in cause.symptoms} == {"workload.unavailable", "service.no-ready-endpoints"}


def test_merging_unites_evidence_and_keeps_the_earliest_onset_and_the_strongest_certainty() -> None:
    early = finding("container.crash-loop", WEB, Certainty.LIKELY, 30, "a")
    late = finding("container.crash-loop", WEB, Certainty.PROVEN, 5, "b")
    [one] = merged((late, early))
    assert (one.certainty, one.since, len(one.evidence)) == (Certainty.PROVEN, early.since, 2)


def test_a_missing_configmap_explains_the_pods_that_need_it() -> None:
    diagnosis = explain(shop(), (finding("container.crash-loop", WEB, Certainty.LIKELY), finding(MISSING, SETTINGS)))
    assert [cause.object for cause in diagnosis.causes] == [SETTINGS]
    assert diagnosis.causes[0].symptoms[0].object == WEB
    assert diagnosis.ruled_out[0].object == WEB


def test_what_began_later_explains_nothing_that_is_a_cause_of_its_own() -> None:
    crash, later = finding("container.crash-loop", WEB, minutes_ago=60), finding(MISSING, SETTINGS, minutes_ago=5)
    assert {cause.object for cause in explain(shop(), (crash, later)).causes} == {WEB, SETTINGS}


def test_two_independent_faults_stay_two() -> None:
    diagnosis = explain(shop(), (finding("container.crash-loop", WEB), finding("container.crash-loop", OTHER)))
    assert {cause.object for cause in diagnosis.causes} == {WEB, OTHER}


def test_a_symptom_alone_is_still_told() -> None:
    [cause] = explain(shop(), (finding("service.no-ready-endpoints", SERVICE),)).causes
    assert cause.object == SERVICE


def test_a_suspicion_beside_something_certain_is_not_proven() -> None:
    diagnosis = explain(shop(), (finding("container.crash-loop", WEB), finding("container.crash-loop", OTHER, Certainty.POSSIBLE)))
    assert [cause.object for cause in diagnosis.causes] == [WEB]
    assert [item.object for item in diagnosis.not_proven] == [OTHER]


def test_the_question_ranks_and_the_subject_decides() -> None:
    findings = (finding("container.crash-loop", WEB), finding("container.crash-loop", OTHER))
    assert [cause.object for cause in explain(shop(), findings, (OTHER,)).causes] == [OTHER]
    about_service = explain(replace(shop(), scope=Scope("test", subject=SERVICE)), findings, (SERVICE,))
    assert [cause.object for cause in about_service.causes] == [WEB]
    assert [item.object for item in about_service.ruled_out] == [OTHER]


def test_advice_is_no_cause_and_leaves_the_cluster_healthy() -> None:
    diagnosis = explain(shop(), (finding("security.default-service-account", WEB),))
    assert diagnosis.healthy
    assert diagnosis.causes == ()
    assert [item.object for item in diagnosis.advisories] == [WEB]


def test_nothing_found_is_healthy_only_when_nothing_that_matters_was_hidden() -> None:
    assert explain(shop(), ()).healthy
    assert not explain(World("test", NOW, Scope("test")), ()).healthy
    refused = shop().with_facts("Event", (), complete=False, missing=(Missing("events", Why.FORBIDDEN, kind="Event"),))
    assert not explain(refused, ()).healthy
    absent = shop().with_facts("HTTPRoute", (), complete=False, missing=(Missing("httproutes", Why.ABSENT_KIND, kind="HTTPRoute"),))
    assert explain(absent, ()).healthy


@pytest.mark.parametrize("kind", ["Workload", "JobSet", "InferenceService"])
def test_a_queue_a_training_or_a_server_that_may_not_be_listed_is_no_proof_of_health(kind: str) -> None:
    def seen(why: Why) -> bool:
        return explain(shop().with_facts(kind, (), complete=False, missing=(Missing(kind, why, kind=kind),)), ()).healthy

    assert (seen(Why.FORBIDDEN), seen(Why.TIMEOUT)) == (False, False)
    # The cluster has no such kind, or a recording does not hold it.
    assert (seen(Why.ABSENT_KIND), seen(Why.NO_SOURCE)) == (True, True)


def test_what_detectors_quote_of_the_cluster_is_made_fit_to_show() -> None:
    leak = "Argument --password=hunter22 of \x1b[31mweb"
    spoken = structs.replace(finding("container.crash-loop", WEB), explanation=leak)
    follows = structs.replace(finding("service.no-ready-endpoints", SERVICE), explanation=leak)
    suspected = structs.replace(finding("container.crash-loop", OTHER, Certainty.POSSIBLE), explanation=leak, lacks=leak)
    told = explain(shop(), (spoken, follows, suspected))
    texts = [told.causes[0].explanation, told.causes[0].symptoms[0].text, told.not_proven[0].text, told.not_proven[0].lacks]
    assert len(texts) == 4
    assert all("hunter22" not in text and "\x1b" not in text and "REDACTED" in text for text in texts)
    evidence = cite(Source.FIELD, WEB, "spec[\x1b[31m]", "x")
    assert "\x1b" not in evidence.path


def test_the_order_of_findings_does_not_matter() -> None:
    findings = (
        finding(MISSING, SETTINGS),
        finding("container.crash-loop", WEB, Certainty.LIKELY),
        finding("service.no-ready-endpoints", SERVICE),
        finding("container.crash-loop", OTHER),
        finding("security.default-service-account", WEB),
    )
    told = explain(shop(), findings)
    assert all(explain(shop(), findings[turn:] + findings[:turn]) == told for turn in range(len(findings)))


def test_an_onset_of_a_clock_that_is_ahead_is_taken_for_now() -> None:
    image = finding("image.not-found", WEB, minutes_ago=-11)
    stuck = finding("rollout.deadline-exceeded", WEB, minutes_ago=2)
    (cause,) = explain(shop(), (image, stuck)).causes
    assert (cause.code, cause.since) == ("image.not-found", NOW)


def test_a_symptom_that_nothing_explains_is_a_likely_cause_at_most() -> None:
    (cause,) = explain(shop(), (finding("workload.unavailable", WEB),)).causes
    assert (cause.code, cause.certainty) == ("workload.unavailable", Certainty.LIKELY)
    (cause,) = explain(shop(), (finding("image.not-found", WEB),)).causes
    assert cause.certainty is Certainty.PROVEN


def test_a_question_about_a_namespace_blames_no_node_that_it_does_not_use() -> None:
    lost = finding("node.not-ready", ObjectRef("Node", None, "far"))
    made = shop()
    asked = replace(made, scope=Scope("test", ("shop",)))
    assert [cause.object.name for cause in explain(made, (lost,)).causes] == ["far"]
    answer = explain(asked, (lost,))
    assert (answer.healthy, answer.causes, [item.object.name for item in answer.ruled_out]) == (True, (), ["far"])
    # What it explains lies in the namespace, although its own reach ends at the node.
    refused = structs.replace(finding("node.network-not-ready", ObjectRef("Node", None, "far")), affects=(pod(1),))
    assert [cause.object.name for cause in explain(asked, (lost, refused)).causes] == ["far"]
    # What it explains lies in a namespace that was not asked about.
    agent = ObjectRef("Pod", "kube-system", "agent")
    down = (structs.replace(lost, affects=(agent,)), finding("container.crash-loop", agent))
    assert [len(cause.symptoms) for cause in explain(made, down).causes] == [1]
    assert explain(asked, down).causes == ()
    reached = structs.replace(lost, affects=(pod(1),))
    assert [cause.object.name for cause in explain(asked, (reached,)).causes] == ["far"]


def test_a_program_s_passing_word_answers_those_who_ask_about_it_and_accuses_nobody() -> None:
    heard = cite(Source.LOG, WEB, "log[app]", "connection refused")
    passing = structs.replace(finding("app.dependency-fails", WEB, Certainty.POSSIBLE), evidence=(heard,))
    unasked = explain(shop(), (passing,))
    assert (unasked.causes, [item.code for item in unasked.not_proven]) == ((), ["app.dependency-fails"])
    assert [cause.code for cause in explain(shop(), (passing,), focus=(WEB,)).causes] == ["app.dependency-fails"]
    seen = structs.replace(passing, evidence=(heard, cite(Source.FIELD, WEB, "status", "unready")))
    assert [cause.code for cause in explain(shop(), (seen,)).causes] == ["app.dependency-fails"]


def test_of_one_workload_the_vaguest_words_are_explained_by_better_ones_whenever_each_was_seen() -> None:
    vague = finding("rollout.bad-revision", WEB, minutes_ago=60)
    better = finding("image.registry-unreachable", WEB, minutes_ago=10)
    assert [cause.code for cause in explain(shop(), (vague, better)).causes] == ["image.registry-unreachable"]
    elsewhere = finding("image.registry-unreachable", OTHER, minutes_ago=10)
    assert {cause.code for cause in explain(shop(), (vague, elsewhere)).causes} == {"image.registry-unreachable", "rollout.bad-revision"}


def test_a_service_of_a_job_that_has_no_pods_follows_from_what_keeps_the_job() -> None:
    text = """
kind: Job
metadata: {name: train, namespace: shop}
spec: {suspend: true, template: {metadata: {labels: {job-name: train}}, spec: {containers: [{name: main}]}}}
---
kind: Service
metadata: {name: train, namespace: shop}
spec: {clusterIP: None, selector: {job-name: train}}
"""
    queued = finding("queue.quota-exhausted", ObjectRef("Job", "shop", "train"))
    empty = finding("service.no-ready-endpoints", ObjectRef("Service", "shop", "train"))
    assert [cause.code for cause in explain(world(text), (queued, empty)).causes] == ["queue.quota-exhausted"]


def test_what_follows_from_a_consequence_follows_from_its_cause() -> None:
    """The node's fault does not reach the Deployment; the device plugin that is down because of it does."""
    node = ObjectRef("Node", None, "gpu-1")
    broken = finding("gpu.hardware-fault", node)
    plugin = structs.replace(finding("gpu.device-plugin-down", node), affects=(WEB,))
    crash = finding("container.crash-loop", WEB)
    assert len(explain(shop(), (broken, crash)).causes) == 2
    [cause] = explain(shop(), (broken, plugin, crash)).causes
    assert cause.code == "gpu.hardware-fault"
    assert {symptom.code for symptom in cause.symptoms} == {"gpu.device-plugin-down", "container.crash-loop"}
