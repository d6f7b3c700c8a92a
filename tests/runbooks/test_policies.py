from __future__ import annotations

from typing import Any

from runbooks.detectors import policies
from runbooks.finding import Certainty, Finding
from tests.runbooks.manifests import event, manifest, pod, service
from tests.runbooks.worlds import codes, world

CART = service("cart", {"app": "cart"}) + pod("cart-1", {"app": "cart"})
CALLER = pod("web-1", {"app": "web"}, container={"env": [{"name": "CART_ADDR", "value": "cart:80"}]})


def policy(name: str = "guard", selector: Any = None, **spec: Any) -> str:
    chosen = {"matchLabels": {"app": "cart"}} if selector is None else selector
    return manifest("NetworkPolicy", name, spec={"podSelector": chosen, **spec})


def found(text: str, **arguments: Any) -> list[Finding]:
    made = world(text, **arguments)
    return [finding for detector in policies.DETECTORS for finding in detector(made)]


def test_a_policy_that_lets_nobody_in_blocks_the_service() -> None:
    findings = found(CART + policy(policyTypes=["Ingress"]))
    assert [(finding.code, finding.certainty) for finding in findings] == [("policy.blocks-traffic", Certainty.LIKELY)]


def test_a_policy_that_lets_in_others_but_not_the_caller() -> None:
    findings = found(CART + CALLER + policy(ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "admin"}}}]}]))
    assert "web-1 -> Service cart" in findings[0].explanation


def test_a_policy_that_lets_the_caller_in_blocks_nothing() -> None:
    assert found(CART + CALLER + policy(ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}])) == []
    assert found(CART + CALLER + policy(ingress=[{}])) == []
    assert found(CART + CALLER + policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}])) == []


def test_a_second_policy_may_allow_what_the_first_does_not() -> None:
    deny, allow = policy("deny", {}, policyTypes=["Ingress"]), policy("allow", ingress=[{"from": [{"namespaceSelector": {}}]}])
    assert found(CART + CALLER + deny + allow) == []


def test_a_policy_for_another_port_does_not_let_the_caller_in() -> None:
    other = policy(ingress=[{"ports": [{"port": 9999}]}])
    ranged = policy(ingress=[{"ports": [{"port": 8000, "endPort": 9000}]}])
    assert codes(found(CART + CALLER + other)) == {"policy.blocks-traffic"}
    assert found(CART + CALLER + ranged) == []


def test_egress_without_dns_or_without_the_callee() -> None:
    selector = {"matchLabels": {"app": "web"}}
    nothing = policy(selector=selector, policyTypes=["Egress"])
    dns_only = policy(selector=selector, egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}], policyTypes=["Egress"])
    enough = policy(
        selector=selector,
        egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}, {"to": [{"podSelector": {"matchLabels": {"app": "cart"}}}]}],
        policyTypes=["Egress"],
    )
    assert "DNS" in found(CART + CALLER + nothing)[0].explanation
    assert "web-1 -> Service cart" in found(CART + CALLER + dns_only)[0].explanation
    assert found(CART + CALLER + enough) == []


def test_a_database_that_may_call_nobody_is_no_fault() -> None:
    assert found(CART + policy(policyTypes=["Egress"])) == []


def test_a_policy_that_selects_nothing() -> None:
    nothing = policy(selector={"matchLabels": {"app": "gone"}}, ingress=[{}])
    assert [(finding.code, finding.certainty) for finding in found(CART + nothing)] == [("policy.no-match", Certainty.PROVEN)]
    assert [finding.certainty for finding in found(nothing)] == [Certainty.POSSIBLE]


def test_a_refusal_by_an_admission_policy_is_quoted() -> None:
    said = "admission webhook \"validate.kyverno.svc\" denied the request: resource Pod/shop/x was blocked: label 'team' is required"
    findings = found(event("ReplicaSet", "web-5", "FailedCreate", f"Error creating: {said}"))
    assert codes(findings) == {"policy.violation"}
    assert "label 'team' is required" in findings[0].explanation
    assert found(event("ReplicaSet", "web-5", "FailedCreate", "Error creating: pods is forbidden: exceeded quota")) == []


def test_a_mesh_that_refuses_connections() -> None:
    denied = {("shop", "web-1", "main"): "upstream said: RBAC: access denied"}
    assert codes(found(CALLER, logs=denied)) == {"mesh.connection-denied"}
    assert found(CALLER, logs={("shop", "web-1", "main"): "GET / 403 access denied for user bob"}) == []


def test_a_policy_that_lets_pods_talk_among_themselves_keeps_them_from_the_dns() -> None:
    def egress(peer: dict[str, Any]) -> set[str]:
        closed = policy(selector={}, policyTypes=["Egress"], egress=[{"to": [peer]}])
        return codes(found(CART + CALLER + closed))

    assert egress({"podSelector": {}}) == {"policy.blocks-traffic"}
    assert egress({"namespaceSelector": {}}) == set()
    assert egress({"ipBlock": {"cidr": "0.0.0.0/0"}}) == set()


def test_a_mesh_policy_that_admits_others_to_the_service_called_is_blamed() -> None:
    def admits(app: str) -> str:
        spec = {"action": "ALLOW", "selector": {"matchLabels": {"app": app}}, "rules": [{"from": [{"source": {"principals": ["x"]}}]}]}
        return manifest("AuthorizationPolicy", "admits", apiVersion="security.istio.io/v1", spec=spec)

    denied = {("shop", "web-1", "main"): 'POST http://cart:80/items: 403 Forbidden: "RBAC: access denied"'}
    assert [str(item.subject) for item in found(CART + CALLER + admits("cart"), logs=denied)] == ["AuthorizationPolicy/shop/admits"]
    assert [str(item.subject) for item in found(CART + CALLER + admits("ledger"), logs=denied)] == ["Pod/shop/web-1"]


def test_a_policy_for_namespaces_of_which_there_is_none_lets_in_nobody() -> None:
    def admitted(namespace: str) -> str:
        peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
        return policy(policyTypes=["Ingress"], ingress=[{"from": [peer]}])

    edge = manifest("Namespace", "edge", namespace=None)
    findings = found(edge + CART + admitted("edge-gateway"))
    assert [(finding.code, finding.certainty) for finding in findings] == [("policy.blocks-traffic", Certainty.LIKELY)]
    assert found(edge + CART + admitted("edge")) == []
    assert found(CART + admitted("edge-gateway")) == []
