from __future__ import annotations

import json
from typing import Any

from runbooks.detectors import ingress
from runbooks.finding import Certainty, Finding
from tests.runbooks.manifests import event, manifest, pod, service
from tests.runbooks.worlds import codes, world

NGINX = manifest("IngressClass", "nginx", namespace=None, spec={"controller": "k8s.io/ingress-nginx"})


def route(backend: str, *, path: str = "/", host: str | None = None, port: Any = 80, **more: Any) -> str:
    http = {"paths": [{"path": path, "backend": {"service": {"name": backend, "port": {"number": port}}}}]}
    spec = {"ingressClassName": "nginx", "rules": [{"host": host, "http": http} if host else {"http": http}], **more.pop("spec", {})}
    return manifest("Ingress", "web", spec=spec, **more)


def found(text: str, *complete: str, **arguments: Any) -> list[Finding]:
    made = world(text, complete=complete, **arguments)
    return [finding for detector in ingress.DETECTORS for finding in detector(made)]


def test_a_class_that_does_not_exist() -> None:
    text = service("cart", None) + route("cart", spec={"ingressClassName": "traefik"})
    findings = found(text + NGINX)
    assert [(finding.code, finding.certainty) for finding in findings] == [("ingress.class-missing", Certainty.PROVEN)]
    assert [finding.certainty for finding in found(text)] == [Certainty.POSSIBLE]
    assert found(service("cart", None) + route("cart") + NGINX) == []


def test_no_class_is_fine_where_one_is_the_default() -> None:
    text = service("cart", None) + route("cart", spec={"ingressClassName": None}).replace('"ingressClassName": null, ', "")
    default = manifest(
        "IngressClass", "nginx", namespace=None, metadata={"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}
    )
    assert found(text + default) == []
    assert [finding.certainty for finding in found(text + NGINX)] == [Certainty.LIKELY]


def test_cloud_controllers_need_no_class_object() -> None:
    assert found(manifest("Ingress", "web", spec={"ingressClassName": "gce"}) + NGINX) == []


def test_a_served_ingress_has_a_controller() -> None:
    served = route("cart", spec={"ingressClassName": "x"}, status={"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}})
    assert found(served + NGINX + service("cart", None)) == []


def test_a_backend_that_does_not_exist() -> None:
    findings = found(NGINX + route("gone") + service("cart", None))
    assert [(finding.code, finding.certainty) for finding in findings] == [("ingress.backend-missing", Certainty.PROVEN)]
    assert [finding.certainty for finding in found(NGINX + route("gone"))] == [Certainty.POSSIBLE]


def test_a_backend_port_that_is_not_offered() -> None:
    assert codes(found(NGINX + route("cart", port=81) + service("cart", None))) == {"ingress.backend-port-missing"}


def test_a_path_that_names_another_service() -> None:
    text = NGINX + service("cart", None) + service("pay", None)
    findings = found(text + route("pay", path="/cart"))
    assert [(finding.code, finding.certainty) for finding in findings] == [("ingress.misroute", Certainty.LIKELY)]
    assert found(text + route("cart", path="/cart")) == []
    assert found(text + route("pay", path="/api")) == []


def test_a_host_names_a_service_only_for_the_whole_site() -> None:
    text = NGINX + service("cart", None) + service("pay", None)
    assert codes(found(text + route("pay", host="cart.example.com"))) == {"ingress.misroute"}
    assert found(text + route("pay", path="/checkout", host="cart.example.com")) == []


def test_the_last_applied_backend_proves_a_misroute() -> None:
    applied = {"spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": {"service": {"name": "cart"}}}]}}]}}
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(applied)}
    text = NGINX + service("cart", None) + service("pay", None) + route("pay", metadata={"annotations": annotations})
    assert [(finding.code, finding.certainty) for finding in found(text)] == [("ingress.misroute", Certainty.PROVEN)]


def test_a_route_past_the_entry_service_is_only_possible() -> None:
    web = pod("web", {"app": "web"}, container={"env": [{"name": "CART_ADDR", "value": "cart:80"}]})
    text = NGINX + service("web", {"app": "web"}) + service("cart", None) + web
    assert [(finding.code, finding.certainty) for finding in found(text + route("cart"))] == [("ingress.misroute", Certainty.POSSIBLE)]
    assert found(text + route("web")) == []


def test_a_tls_secret_is_missed_only_on_a_controllers_word() -> None:
    text = NGINX + service("cart", None) + route("cart", spec={"tls": [{"secretName": "cert"}]})
    assert found(text) == []
    said = event("Ingress", "web", "Sync", 'error getting secret: secrets "cert" not found')
    assert codes(found(text + said)) == {"ingress.tls-secret-missing"}
    log = 'Error getting SSL certificate "shop/cert": local SSL certificate shop/cert was not found'
    assert codes(found(text, logs={("ingress", "controller-1", "main"): log})) == {"ingress.tls-secret-missing"}
    assert found(text, logs={("ingress", "controller-1", "main"): 'certificate "shop/other" was not found'}) == []
