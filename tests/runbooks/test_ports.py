from __future__ import annotations

import json

from cluster.reading import Reading
from cluster.telemetry import Reachability, Telemetry
from runbooks.detectors import ports
from runbooks.finding import Certainty, Finding
from tests.runbooks.manifests import manifest, pod, service
from tests.runbooks.worlds import codes, world

SELECTOR = {"app": "cart"}


def found(text: str, **arguments: object) -> list[Finding]:
    made = world(text, **arguments)  # type: ignore[arg-type]
    return [finding for detector in ports.DETECTORS for finding in detector(made)]


def test_a_stray_target_port_is_likely_wrong() -> None:
    findings = found(service("cart", SELECTOR, ports=[{"port": 8080, "targetPort": 9999}]) + pod("cart-1", SELECTOR))
    assert [(finding.code, finding.certainty) for finding in findings] == [("service.port-mismatch", Certainty.LIKELY)]
    assert "9999" in findings[0].explanation
    assert "8080" in findings[0].explanation


def test_a_declared_target_port_is_right() -> None:
    assert found(service("cart", SELECTOR) + pod("cart-1", SELECTOR)) == []


def test_containers_that_declare_no_port_prove_nothing() -> None:
    assert found(service("cart", SELECTOR, ports=[{"port": 80, "targetPort": 9999}]) + pod("cart-1", SELECTOR, port=None)) == []


def test_a_port_that_the_container_is_configured_with_is_believed() -> None:
    configured = pod("cart-1", SELECTOR, container={"env": [{"name": "PORT", "value": "9090"}]})
    assert found(service("cart", SELECTOR, ports=[{"port": 80, "targetPort": 9090}]) + configured) == []


def test_a_port_used_elsewhere_with_a_mounted_configuration_is_not_reported() -> None:
    mounted = pod("cart-1", SELECTOR, port=8081, volumes=[{"name": "conf", "configMap": {"name": "conf"}}])
    other = pod("web-1", {"app": "web"}, port=8080)
    assert found(service("cart", SELECTOR, ports=[{"port": 8081, "targetPort": 8080}]) + mounted + other) == []


def test_a_log_that_names_the_port_settles_it_either_way() -> None:
    text = service("cart", SELECTOR, ports=[{"port": 80, "targetPort": 9999}]) + pod("cart-1", SELECTOR)
    assert found(text, logs={("shop", "cart-1", "main"): "Server listening on port 9999"}) == []
    findings = found(text, logs={("shop", "cart-1", "main"): "Server listening on port 8080"})
    assert "known to listen on 8080" in findings[0].explanation


def test_a_caller_whose_connection_is_refused_proves_it() -> None:
    caller = pod("web-1", {"app": "web"}, container={"env": [{"name": "CART_ADDR", "value": "cart:8080"}]})
    text = service("cart", SELECTOR, ports=[{"port": 8080, "targetPort": 9999}]) + pod("cart-1", SELECTOR) + caller
    findings = found(text, logs={("shop", "web-1", "main"): "dial tcp: connect to cart:8080: connection refused"})
    assert findings[0].certainty is Certainty.PROVEN
    assert findings[0].affects[0].name == "web-1"


def test_a_failed_connection_test_proves_it() -> None:
    made = world(service("cart", SELECTOR, ports=[{"port": 8080, "targetPort": 9999}]) + pod("cart-1", SELECTOR))
    telemetry = Telemetry(connectivity=(Reachability("", "shop/cart", 8080, False, text="Connection refused"),))
    findings = list(ports.target_port_mismatch(made.with_telemetry(Reading(telemetry))))
    assert findings[0].certainty is Certainty.PROVEN


def test_a_named_target_port_must_exist() -> None:
    text = service("cart", SELECTOR, ports=[{"port": 80, "targetPort": "http"}])
    findings = found(text + pod("cart-1", SELECTOR))
    assert [(finding.code, finding.certainty) for finding in findings] == [("service.port-mismatch", Certainty.PROVEN)]
    named = pod("cart-1", SELECTOR, container={"ports": [{"name": "http", "containerPort": 8080}]})
    assert found(text + named) == []


def test_the_last_applied_target_proves_the_change() -> None:
    applied = json.dumps({"spec": {"ports": [{"port": 80, "targetPort": 8080}]}})
    text = manifest(
        "Service",
        "cart",
        metadata={"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}},
        spec={"selector": SELECTOR, "ports": [{"port": 80, "targetPort": 9999}]},
    )
    assert found(text + pod("cart-1", SELECTOR))[0].certainty is Certainty.PROVEN


def test_a_protocol_that_the_pods_do_not_speak() -> None:
    udp = [{"port": 80, "targetPort": 8080, "protocol": "UDP"}]
    assert codes(found(service("cart", SELECTOR, ports=udp) + pod("cart-1", SELECTOR))) == {"service.protocol-mismatch"}
    both = [{"port": 80, "targetPort": 8080, "name": "t"}, {"port": 80, "targetPort": 8080, "protocol": "UDP", "name": "u"}]
    assert found(service("cart", SELECTOR, ports=both) + pod("cart-1", SELECTOR)) == []
