from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cluster.reference import Scope
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


def called(container: str = "istio-proxy", **fields: Any) -> str:
    """A pod of the Service that is called: beside its program a container of that name."""
    return pod("cart-0", {"app": "cart"}, container={"name": container}, **fields)


def tls(mode: str, demanded: str, namespace: str = "shop", **spec: Any) -> str:
    rule = manifest("DestinationRule", "cart", spec={"host": "cart.shop.svc.cluster.local", "trafficPolicy": {"tls": {"mode": mode}}})
    return (
        CART + called() + WEB + rule + manifest("PeerAuthentication", "all", namespace=namespace, spec={"mtls": {"mode": demanded}, **spec})
    )


ANY = """
---
kind: DestinationRule
metadata: {{name: any, namespace: shop}}
spec: {{host: "{host}", subsets: [{{name: v2}}]}}
"""
EXEMPT = """
---
kind: PeerAuthentication
metadata: {{name: some, namespace: shop}}
spec: {{selector: {{matchLabels: {{app: cart}}}}, {spec}}}
"""
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
    routed(host="cart.far.svc.clusterset.local"),
    *(routed(subset="v2") + RULE + ANY.format(host=host) for host in ("*", "*.shop.svc.cluster.local", "*.local")),
    # Pods without a proxy demand nothing, nor do those that a rule of their own excepts.
    tls("DISABLE", "STRICT").replace("istio-proxy", "main"),
    tls("DISABLE", "STRICT") + EXEMPT.format(spec="mtls: {mode: PERMISSIVE}"),
    tls("DISABLE", "STRICT", namespace="istio-system") + EXEMPT.format(spec="portLevelMtls: {8080: {mode: DISABLE}}"),
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


def test_a_fault_for_callers_that_a_match_picks_is_possible_and_no_more() -> None:
    def told(match: dict[str, Any]) -> tuple[str, bool]:
        (finding,) = found(routed(http={**ABORTED, "match": [match]}))
        return finding.certainty.word, bool(finding.lacks)

    assert told({"headers": {"end-user": {"exact": "tester"}}}) == ("possible", True)
    assert told({"uri": {"prefix": "/api"}}) == ("proven", False)


def test_pods_behind_the_proxy_of_their_node_demand_what_they_are_told_to_demand() -> None:
    ambient = {"annotations": {"ambient.istio.io/redirection": "enabled"}}
    text = tls("DISABLE", "STRICT").replace("istio-proxy", "main")
    assert [finding.code for finding in found(text.replace('"name": "cart-0"', f'"name": "cart-0", {json.dumps(ambient)[1:-1]}'))] == [
        "mesh.tls-refused"
    ]


def test_of_one_namespace_the_rules_of_others_are_not_known() -> None:
    made = world(routed(subset="v2") + RULE, complete=("Service",))
    asked = replace(made, scope=Scope("test", ("shop",)))
    for seen, word in ((made, "proven"), (asked, "likely")):
        (finding,) = meshes.routes_to_nothing(seen)
        assert finding.certainty.word == word
