from __future__ import annotations

from typing import Any

import pytest

from runbooks.detectors import meshes
from runbooks.finding import Finding
from tests.runbooks.manifests import manifest, pod, service
from tests.runbooks.worlds import world

CART = service("cart", {"app": "cart"})
WEB = pod("web", {"app": "web"}, container={"env": [{"name": "CART", "value": "http://cart:80"}]})
RULE = manifest("DestinationRule", "cart", spec={"host": "cart", "subsets": [{"name": "v1"}]})


def found(text: str, *complete: str) -> list[Finding]:
    made = world(text, complete=("Service", *complete))
    return [finding for detector in meshes.DETECTORS for finding in detector(made)]


def routed(host: str = "cart", http: dict[str, Any] | None = None, **destination: Any) -> str:
    route = {"route": [{"destination": {"host": host, **destination}}], **(http or {})}
    return CART + WEB + manifest("VirtualService", "cart", spec={"hosts": ["cart"], "http": [route]})


def tls(mode: str, demanded: str, namespace: str = "shop", **spec: Any) -> str:
    rule = manifest("DestinationRule", "cart", spec={"host": "cart.shop.svc.cluster.local", "trafficPolicy": {"tls": {"mode": mode}}})
    return CART + WEB + rule + manifest("PeerAuthentication", "all", namespace=namespace, spec={"mtls": {"mode": demanded}, **spec})


ABORTED = {"fault": {"abort": {"httpStatus": 503, "percentage": {"value": 100}}}}
DELAYED = {"fault": {"delay": {"fixedDelay": "7s", "percentage": {"value": 50}}}}

FIRES = [
    ("mesh.routes-to-nothing", "VirtualService/shop/cart", routed(subset="v2") + RULE),
    ("mesh.routes-to-nothing", "VirtualService/shop/cart", routed(host="cart-next.shop.svc.cluster.local")),
    ("mesh.fault-injected", "VirtualService/shop/cart", routed(http=ABORTED)),
    ("mesh.fault-injected", "VirtualService/shop/cart", routed(http=DELAYED)),
    ("mesh.tls-refused", "DestinationRule/shop/cart", tls("DISABLE", "STRICT")),
    ("mesh.tls-refused", "DestinationRule/shop/cart", tls("SIMPLE", "STRICT", namespace="istio-system")),
]
NEAR = [
    routed(subset="v1") + RULE,
    routed(host="api.example.com"),
    routed(http={"fault": {"abort": {"httpStatus": 503, "percentage": {"value": 0}}}}),
    routed(http={"timeout": "5s"}),
    tls("ISTIO_MUTUAL", "STRICT"),
    tls("DISABLE", "PERMISSIVE"),
    tls("DISABLE", "STRICT", namespace="other"),
    tls("DISABLE", "STRICT", selector={"matchLabels": {"app": "other"}}),
]


@pytest.mark.parametrize(("code", "subject", "text"), FIRES)
def test_what_the_mesh_is_told_to_do_to_calls(code: str, subject: str, text: str) -> None:
    (finding,) = found(text)
    assert (finding.code, str(finding.subject)) == (code, subject)
    assert {str(ref) for ref in finding.affects} == {"Service/shop/cart", "Pod/shop/web"}


@pytest.mark.parametrize("text", NEAR)
def test_rules_that_lead_somewhere_harm_nobody(text: str) -> None:
    assert found(text) == []


def test_without_the_rules_of_a_host_no_subset_is_said_to_be_missing() -> None:
    assert found(routed(subset="v2")) == []
    assert [finding.code for finding in found(routed(subset="v2"), "DestinationRule")] == ["mesh.routes-to-nothing"]
