from __future__ import annotations

import json

from cluster.facts.pod import Pod
from cluster.reading import Missing, Why
from runbooks.detectors import services
from runbooks.finding import Certainty, Finding
from tests.runbooks.manifests import deployment, event, manifest, pod, service
from tests.runbooks.worlds import codes, world


def found(text: str, *complete: str) -> list[Finding]:
    made = world(text, complete=complete)
    return [finding for detector in services.DETECTORS for finding in detector(made)]


def test_pods_that_could_not_be_listed_are_not_said_to_be_missing() -> None:
    text = service("cart", {"app": "cart"}) + deployment("cart", {"app": "cart"})
    assert codes(services.no_ready_endpoints(world(text))) == {"service.no-ready-endpoints"}
    for why in (Why.FORBIDDEN, Why.TIMEOUT, Why.TRUNCATED):
        made = world(text).with_facts(Pod.kind, (), complete=False, missing=(Missing("pods", why, kind=Pod.kind),))
        assert codes(services.no_ready_endpoints(made)) == set()


def test_a_selector_with_a_wrong_value_names_the_nearest_workload() -> None:
    findings = found(service("cart", {"app": "kart"}) + deployment("cart", {"app": "cart"}) + pod("cart-1", {"app": "cart"}))
    assert codes(findings) == {"service.selector-mismatch"}
    assert findings[0].certainty is Certainty.PROVEN
    assert findings[0].subject.name == "cart"
    assert "Deployment cart with app=cart" in findings[0].explanation


def test_a_selector_with_one_label_too_many_is_a_mismatch() -> None:
    findings = found(service("cart", {"app": "cart", "tier": "x"}) + pod("cart-1", {"app": "cart"}))
    assert codes(findings) == {"service.selector-mismatch"}
    assert "no label tier" in findings[0].explanation


def test_a_selector_that_fits_is_no_mismatch() -> None:
    assert found(service("cart", {"app": "cart"}) + pod("cart-1", {"app": "cart"})) == []


def test_a_workload_without_pods_is_no_selector_mismatch() -> None:
    findings = found(service("cart", {"app": "cart"}) + deployment("cart", {"app": "cart"}, replicas=0), "Pod")
    assert codes(findings) == {"service.no-ready-endpoints"}


def test_without_pods_in_sight_empty_endpoints_are_only_suspicious() -> None:
    findings = found(service("cart", {"app": "cart"}) + manifest("Endpoints", "cart", subsets=[]))
    assert [(finding.code, finding.certainty) for finding in findings] == [("service.selector-mismatch", Certainty.POSSIBLE)]
    assert findings[0].wants


def test_addresses_behind_a_service_outweigh_missing_pods() -> None:
    endpoints = manifest("Endpoints", "cart", subsets=[{"addresses": [{"ip": "10.0.0.1"}]}])
    assert found(service("cart", {"app": "cart"}) + endpoints, "Pod") == []


def test_the_last_applied_selector_proves_the_change() -> None:
    applied = json.dumps({"spec": {"selector": {"app": "cart"}}})
    text = manifest(
        "Service",
        "cart",
        metadata={"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}},
        spec={"selector": {"app": "zzz"}, "ports": [{"port": 80}]},
    )
    findings = found(text + pod("other-1", {"app": "other"}))
    assert findings[0].certainty is Certainty.PROVEN
    assert any("selector was app=cart" in item.quote for item in findings[0].evidence)


def test_a_service_that_serves_another_workload_is_told_from_one_with_a_name_of_its_own() -> None:
    both = pod("cart-1", {"app": "cart"}, owner=("StatefulSet", "cart")) + pod("pay-1", {"app": "pay"}, owner=("StatefulSet", "pay"))
    pay = service("pay", {"app": "pay"})
    assert codes(found(service("cart", {"app": "pay"}) + pay + both)) == {"service.selects-another-workload"}
    assert found(service("front", {"app": "pay"}) + pay + both) == []


def test_a_service_whose_pods_are_not_ready_is_a_symptom() -> None:
    assert codes(found(service("cart", {"app": "cart"}) + pod("cart-1", {"app": "cart"}, ready=False))) == {"service.no-ready-endpoints"}


def test_publishing_not_ready_addresses_is_no_fault() -> None:
    text = service("cart", {"app": "cart"}, publishNotReadyAddresses=True) + pod("cart-1", {"app": "cart"}, ready=False)
    assert found(text) == []


def test_a_missing_governing_service_is_told_and_its_certainty_follows_what_was_read() -> None:
    stateful = manifest("StatefulSet", "db", spec={"serviceName": "db-headless"})
    assert [finding.certainty for finding in found(stateful, "Service")] == [Certainty.LIKELY]
    assert [finding.certainty for finding in found(stateful)] == [Certainty.POSSIBLE]
    assert found(stateful + service("db-headless", None)) == []


def test_a_stateful_set_at_zero_misses_no_governing_service() -> None:
    assert found(manifest("StatefulSet", "db", spec={"serviceName": "db-headless", "replicas": 0}), "Service") == []


def test_an_alias_of_a_service_that_does_not_exist() -> None:
    alias = service("db", None, type="ExternalName", externalName="pg.data.svc.cluster.local")
    assert codes(found(alias)) == {"service.external-name-missing"}
    assert found(alias + service("pg", None, namespace="data")) == []
    assert found(service("db", None, type="ExternalName", externalName="db.example.com")) == []


def test_local_traffic_policy_strands_a_caller_on_another_node() -> None:
    caller = pod("web-1", {"app": "web"}, node="node-2", container={"env": [{"name": "CART_ADDR", "value": "cart:80"}]})
    served = pod("cart-1", {"app": "cart"}, node="node-1")
    local = service("cart", {"app": "cart"}, internalTrafficPolicy="Local")
    assert codes(found(local + served + caller)) == {"service.local-traffic-policy"}
    everywhere = service("cart", {"app": "cart"}, internalTrafficPolicy="Cluster")
    assert found(everywhere + served + caller) == []


def test_a_load_balancer_that_cannot_be_made() -> None:
    balanced = service("web", {"app": "web"}, type="LoadBalancer") + pod("web-1", {"app": "web"})
    failed = event("Service", "web", "SyncLoadBalancerFailed", "Error syncing load balancer: quota exceeded")
    assert codes(found(balanced + failed)) == {"service.load-balancer-failed"}
    assert found(balanced) == []


def test_a_service_for_the_pods_of_a_job_is_no_slip() -> None:
    labels = {"app": "fit", "job-name": "fit"}
    for status in (None, {"phase": "Failed"}):
        worker = pod("fit-0", labels, owner=("Job", "fit"), status=status)
        job = manifest("Job", "fit", spec={"template": {"metadata": {"labels": {"app": "fit"}}, "spec": {"containers": []}}})
        assert found(service("fit", {"job-name": "fit"}, clusterIP="None") + worker + job) == []


def test_a_called_service_without_selector_and_endpoints() -> None:
    bare = service("legacy", None)
    empty = manifest("EndpointSlice", "legacy-1", metadata={"labels": {"kubernetes.io/service-name": "legacy"}}, endpoints=[], ports=[])
    caller = pod("web-1", {"app": "web"}, container={"env": [{"name": "LEGACY_URL", "value": "http://legacy:80"}]})
    assert codes(found(bare + empty + caller)) == {"service.no-endpoints-given"}
    assert found(bare + empty + pod("web-1", {"app": "web"})) == []
    given = manifest(
        "EndpointSlice",
        "legacy-1",
        metadata={"labels": {"kubernetes.io/service-name": "legacy"}},
        endpoints=[{"addresses": ["10.0.0.9"], "conditions": {"ready": True}}],
        ports=[],
    )
    assert found(bare + given + caller) == []


def test_a_statefulset_whose_governing_service_does_not_exist() -> None:
    def database(replicas: int = 1) -> str:
        return manifest("StatefulSet", "db", spec={"serviceName": "db-headless", "replicas": replicas})

    assert [(finding.code, finding.certainty) for finding in found(database(), "Service")] == [
        ("service.governing-missing", Certainty.LIKELY)
    ]
    (unsure,) = found(database())
    assert (unsure.code, unsure.certainty, unsure.lacks) == ("service.governing-missing", Certainty.POSSIBLE, "a complete list of Services")
    assert found(database(replicas=0), "Service") == []
    assert codes(found(database() + service("db-headless", {"app": "db"}) + pod("db-0", {"app": "db"}))).isdisjoint(
        {"service.governing-missing"}
    )


CART = deployment("cart", {"app": "cart", "tier": "back"}, container={"ports": [{"containerPort": 8080}]})


def umbrella(port: int, own_service: bool = True) -> str:
    stock = deployment("stock", {"app": "stock", "tier": "back"}, container={"ports": [{"containerPort": port}]})
    stock += pod("stock-1", {"app": "stock", "tier": "back"}, owner=("Deployment", "stock"), port=port)
    stock += service("stock", {"app": "stock"}, ports=[{"port": port}]) if own_service else ""
    return service("cart", {"tier": "back"}) + CART + pod("cart-1", {"app": "cart", "tier": "back"}, owner=("Deployment", "cart")) + stock


def test_a_selector_that_catches_another_application_s_pods_too() -> None:
    (finding,) = services.selects_others_too(world(umbrella(9090)))
    assert (finding.code, str(finding.subject), finding.certainty) == ("service.selects-others-too", "Service/shop/cart", Certainty.LIKELY)
    assert "stock" in finding.explanation
    assert "8080" in finding.explanation


def test_pods_that_answer_on_the_same_port_or_have_no_other_service_are_meant() -> None:
    assert not list(services.selects_others_too(world(umbrella(8080))))
    assert not list(services.selects_others_too(world(umbrella(9090, own_service=False))))
