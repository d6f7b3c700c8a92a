from __future__ import annotations

from cluster.facts.network import Service, ServicePort
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.traffic import Backing, Traffic, is_system, last_applied, listening, target_of
from tests.runbooks.manifests import deployment, manifest, pod, replica_set, service
from tests.runbooks.worlds import world


def only(made: World) -> Service:
    return made.all(Service)[0]


def test_the_platforms_namespaces_are_told_from_those_of_users() -> None:
    assert all(is_system(name) for name in ("kube-system", "istio-system", "openshift-dns", "cert-manager"))
    assert not any(is_system(name) for name in ("shop", "kubeflow-user", "default", None))


def test_a_target_port_defaults_to_the_port() -> None:
    assert target_of(ServicePort(port=80)) == 80
    assert target_of(ServicePort(port=80, target_port="http")) == "http"


def test_endpoint_slices_are_preferred_to_endpoints() -> None:
    slices = manifest(
        "EndpointSlice",
        "cart-x",
        metadata={"labels": {"kubernetes.io/service-name": "cart"}},
        endpoints=[{"conditions": {"ready": True}}, {"conditions": {"ready": False}}, {}],
    )
    legacy = manifest("Endpoints", "cart", subsets=[{"notReadyAddresses": [{"ip": "10.0.0.1"}]}])
    cart = service("cart", {"app": "cart"})
    for text, expected in ((cart + slices + legacy, Backing(True, 2, 1)), (cart + legacy, Backing(True, 0, 1)), (cart, Backing(False))):
        made = world(text)
        assert Traffic(made).backing(only(made)) == expected


def test_finished_and_leaving_pods_serve_nobody() -> None:
    done = pod("cart-1", {"app": "cart"}, status={"phase": "Succeeded"})
    leaving = manifest("Pod", "cart-2", metadata={"labels": {"app": "cart"}, "deletionTimestamp": "2026-01-15T11:00:00Z"})
    made = world(service("cart", {"app": "cart"}) + done + leaving)
    assert Traffic(made).pods(only(made)) == ()


def test_a_workload_is_matched_by_its_template_and_stands_in_for_its_replica_sets() -> None:
    text = deployment("cart", {"app": "cart"}, replicas=0) + replica_set("cart-1", "cart", 1, "app:1")
    made = world(text + service("cart", {"app": "cart"}) + service("other", {"app": "other"}))
    traffic = Traffic(made)
    cart = ObjectRef("Deployment", "shop", "cart")
    assert [str(item.ref) for item in traffic.workloads("shop")] == [str(cart)]
    assert [item.ref.name for item in traffic.workloads_matching(only(made))] == ["cart"]
    assert [ref.name for ref in traffic.services_of(cart)] == ["cart"]
    assert [ref.name for ref in traffic.claimed("shop")] == ["cart"]


def test_a_pod_stands_for_a_workload_that_was_not_read() -> None:
    made = world(
        pod("cart-1", {"app": "cart"}, owner=("StatefulSet", "cart")) + pod("cart-2", {"app": "cart"}, owner=("StatefulSet", "cart"))
    )
    assert [str(item.ref) for item in Traffic(made).workloads("shop")] == ["StatefulSet/shop/cart"]


def test_callers_are_found_from_other_namespaces_too() -> None:
    caller = pod("web-1", namespace="front", container={"env": [{"name": "CART_URL", "value": "http://cart.shop.svc.cluster.local:80/x"}]})
    made = world(service("cart", {"app": "cart"}) + caller)
    calls = Traffic(made).callers_of("shop", "cart")
    assert [(call.workload.name, call.address.port) for call in calls] == [("web-1", 80)]


def test_listening_tells_declared_proven_and_configured_ports_apart() -> None:
    container = {
        "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 8080, "protocol": "UDP"}],
        "readinessProbe": {"httpGet": {"port": "http"}},
        "env": [{"name": "METRICS_PORT", "value": "9102"}, {"name": "RETRIES", "value": "5000"}],
        "args": ["--grpc=7000", "--name=x1"],
    }
    config = manifest("ConfigMap", "nginx", data={"nginx.conf": "server { listen 8443 ssl; }"})
    made = world(config + pod("web", container=container, volumes=[{"name": "v", "configMap": {"name": "nginx"}}]))
    known = listening(made, made.all(Pod)[0])
    assert known.declared == {8080: frozenset({"TCP", "UDP"})}
    assert known.named == {"http": (8080, "TCP")}
    assert known.proven == {8080}
    assert known.configured == {9102, 7000, 8443}


def test_a_broken_annotation_is_no_last_applied_manifest() -> None:
    for text in ("{", "[]", '{"a":' * 20_000):
        annotated = manifest("Service", "cart", metadata={"annotations": {"kubectl.kubernetes.io/last-applied-configuration": text}})
        assert last_applied(only(world(annotated))) == {}
