from __future__ import annotations

from typing import Any

from runbooks.detectors import gateways
from runbooks.finding import Certainty, Finding, Source
from tests.runbooks.manifests import manifest, service
from tests.runbooks.worlds import codes, world

CLASS = manifest("GatewayClass", "eg", namespace=None, spec={"controllerName": "example.com/eg"})


def gateway(*conditions: dict[str, str], name: str = "eg") -> str:
    return manifest("Gateway", "edge", spec={"gatewayClassName": name}, status={"conditions": list(conditions)})


def route(**more: Any) -> str:
    backend = {"name": "cart", "port": 80, **more.pop("backend", {})}
    spec = {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [backend]}]}
    return manifest("HTTPRoute", "cart", spec=spec, **more)


def found(text: str, *complete: str) -> list[Finding]:
    made = world(text, complete=complete)
    return [finding for detector in gateways.DETECTORS for finding in detector(made)]


GOOD = {"type": "Programmed", "status": "True", "reason": "Programmed"}
BAD = {"type": "Programmed", "status": "False", "reason": "AddressNotAssigned"}


def test_a_gateway_that_is_not_programmed() -> None:
    assert codes(found(CLASS + gateway(BAD))) == {"gateway.not-ready"}
    assert found(CLASS + gateway(GOOD)) == []


def test_a_gateway_without_its_certificate() -> None:
    refused = {"type": "ResolvedRefs", "status": "False", "reason": "InvalidCertificateRef"}
    assert codes(found(CLASS + gateway(refused))) == {"gateway.certificate-missing"}


def test_a_gateway_of_a_class_that_does_not_exist() -> None:
    assert [finding.certainty for finding in found(gateway(name="x") + CLASS)] == [Certainty.PROVEN]
    assert [(finding.code, finding.certainty) for finding in found(gateway(name="x"))] == [("gateway.class-missing", Certainty.POSSIBLE)]


def test_a_class_that_its_controller_refuses() -> None:
    refused = manifest(
        "GatewayClass", "eg", namespace=None, status={"conditions": [{"type": "Accepted", "status": "False", "reason": "X"}]}
    )
    assert codes(found(refused + gateway(GOOD))) == {"gateway.class-not-accepted"}


def test_a_class_that_no_controller_takes_up() -> None:
    waiting = {"type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller"}

    def made(created: str) -> str:
        return manifest("GatewayClass", "eg", namespace=None, status={"conditions": [waiting]}, metadata={"creationTimestamp": created})

    old, new = made("2026-01-15T11:00:00Z"), made("2026-01-15T11:58:00Z")
    assert [(item.code, item.certainty) for item in found(old + gateway(GOOD))] == [("gateway.class-not-accepted", Certainty.LIKELY)]
    assert [item.certainty for item in found(old)] == [Certainty.POSSIBLE]
    assert found(new + gateway(GOOD)) == []


def test_a_route_whose_backend_is_missing_or_lacks_the_port() -> None:
    edge = CLASS + gateway(GOOD)
    assert codes(found(edge + route() + service("pay", None))) == {"route.backend-missing"}
    assert codes(found(edge + route(backend={"port": 81}) + service("cart", None))) == {"route.backend-port-missing"}
    assert found(edge + route() + service("cart", None)) == []


def test_a_route_on_a_gateway_that_does_not_exist() -> None:
    assert codes(found(route() + service("cart", None), "Gateway")) == {"route.parent-missing"}
    [unseen] = found(route() + service("cart", None))
    assert (unseen.code, unseen.certainty) == ("route.parent-missing", Certainty.POSSIBLE)
    # That it was not seen is no proof that it is not there.
    assert {item.source for item in unseen.evidence} == {Source.FIELD}
    assert found(route(metadata={"creationTimestamp": "2026-01-15T11:58:00Z"}) + service("cart", None)) == []
    taken = {"parents": [{"conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted"}]}]}
    assert found(route(status=taken) + service("cart", None)) == []


def test_a_route_that_its_gateway_refuses() -> None:
    edge = CLASS + gateway(GOOD) + service("cart", None)
    for reason, code in (("NotAllowedByListeners", "route.not-accepted"), ("RefNotPermitted", "route.backend-refused")):
        status = {"parents": [{"conditions": [{"type": "Accepted", "status": "False", "reason": reason}]}]}
        assert codes(found(edge + route(status=status))) == {code}
