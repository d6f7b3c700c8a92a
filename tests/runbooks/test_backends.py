"""Where traffic goes, rule by rule, and how much of that is ready."""

from __future__ import annotations

from cluster.reference import ObjectRef
from runbooks.backends import backends
from tests.runbooks.worlds import world

TEXT = """
kind: Service
metadata: {name: web, namespace: ml}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
kind: EndpointSlice
metadata: {name: web-1, namespace: ml, labels: {kubernetes.io/service-name: web}}
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], conditions: {ready: false}}]
---
kind: Pod
metadata: {name: p, namespace: ml, labels: {app: web}}
---
kind: Ingress
metadata: {name: front, namespace: ml}
spec:
  defaultBackend: {service: {name: gone, port: {number: 80}}}
  rules: [{host: a.example, http: {paths: [{path: /x, backend: {service: {name: web, port: {name: http}}}}]}}]
---
kind: Gateway
metadata: {name: edge, namespace: net}
---
kind: HTTPRoute
metadata: {name: r, namespace: ml}
spec:
  parentRefs: [{name: edge, namespace: net}]
  hostnames: [b.example]
  rules: [{backendRefs: [{name: web, port: 80, weight: 90}, {name: pool, kind: InferencePool}]}]
"""


def ways(kind: str, namespace: str, name: str, *, complete: bool = True) -> list[tuple[object, ...]]:
    made = world(TEXT) if complete else world(TEXT.partition("---")[2])
    found = backends(made, ObjectRef(kind, namespace, name))
    return [(way.via, way.service.name, way.ports, way.exists, way.pods, way.ready, way.not_ready) for way in found]


def test_a_service_is_its_own_way_in() -> None:
    assert ways("Service", "ml", "web") == [("", "web", "80->http", True, 1, 1, 1)]


def test_an_ingress_leads_by_host_and_path_and_to_what_is_not_there() -> None:
    assert ways("Ingress", "ml", "front") == [
        ("default", "gone", "80", False, 0, None, None),
        ("a.example/x", "web", "http", True, 1, 1, 1),
    ]


def test_where_services_could_not_be_read_nobody_says_that_one_is_missing() -> None:
    assert ways("Ingress", "ml", "front", complete=False)[0] == ("default", "gone", "80", None, 0, None, None)


def test_a_gateway_leads_where_its_routes_lead() -> None:
    route = [("b.example rule 0 weight 90", "web", "80", True, 1, 1, 1)]
    assert ways("HTTPRoute", "ml", "r") == route
    assert ways("Gateway", "net", "edge") == route


def test_what_leads_nowhere_has_no_rows() -> None:
    assert ways("Gateway", "net", "other") == []
