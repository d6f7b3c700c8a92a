from __future__ import annotations

import pytest

from runbooks.detectors.addresses import broken_addresses
from tests.runbooks.manifests import manifest
from tests.runbooks.specimens import configmap, deployment, pod, service
from tests.runbooks.worlds import codes, world


def caller(name: str = "web-5d4f8-abcde", **env: str) -> str:
    return pod(name, ready=True, container={"env": [{"name": key, "value": value} for key, value in env.items()]})


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("api:9999", {"config.wrong-port"}),
        ("http://api.shop.svc.cluster.local:9999/v1", {"config.wrong-port"}),
        ("api:80", set()),
        ("http://api/v1", set()),
        ("example.com:9999", set()),
    ],
)
def test_a_port_that_the_service_does_not_serve(value: str, found: set[str]) -> None:
    assert codes(broken_addresses(world(service("api") + caller(API_ADDR=value)))) == found


def test_host_and_port_in_two_variables() -> None:
    (finding,) = broken_addresses(world(service("api") + caller(API_HOST="api", API_PORT="9999")))
    assert (finding.code, finding.subject.name) == ("config.wrong-port", "web")


def test_the_configmap_that_holds_the_address_is_to_be_changed() -> None:
    env_from = pod(ready=True, container={"envFrom": [{"configMapRef": {"name": "settings"}}]})
    (finding,) = broken_addresses(world(service("api") + configmap("settings", {"API_ADDR": "api:9999"}) + env_from))
    assert (finding.subject.kind, finding.subject.name) == ("ConfigMap", "settings")


def test_a_headless_service_has_no_ports_of_its_own() -> None:
    assert not list(broken_addresses(world(service("api", address="None") + caller(API_ADDR="api:9999"))))


def test_callers_that_agree_accuse_the_service() -> None:
    made = world(service("api") + caller(API_ADDR="api:8080") + caller("cart-77777-abcde", API_ADDR="api:8080"))
    (finding,) = broken_addresses(made)
    assert (finding.code, finding.subject.name) == ("config.service-lacks-port", "api")
    one_is_right = world(
        service("api")
        + caller(API_ADDR="api:8080")
        + caller("cart-77777-abcde", API_ADDR="api:8080")
        + caller("ui-77777-abcde", API_ADDR="api:80")
    )
    assert codes(broken_addresses(one_is_right)) == {"config.wrong-port"}


def test_a_service_that_is_gone_while_its_workload_is_there() -> None:
    (finding,) = broken_addresses(world(service("other") + deployment("api") + caller(API_ADDR="api:80")))
    assert (finding.code, finding.subject.kind, finding.subject.name) == ("config.service-absent", "Service", "api")


def test_a_slip_of_the_pen() -> None:
    (finding,) = broken_addresses(world(service("price-list") + caller(CATALOG_ADDR="price-lsit:80")))
    assert finding.code == "config.wrong-host"
    assert "price-list" in finding.explanation


@pytest.mark.parametrize("value", ["jaeger:4317", "production", "localhost:5432", "10.1.2.3:80", "key=value"])
def test_what_resembles_nothing_stays_unmentioned(value: str) -> None:
    assert not list(broken_addresses(world(service("api") + caller(TRACE_HOST=value))))


def test_unread_services_prove_nothing() -> None:
    assert not list(broken_addresses(world(deployment("api") + caller(API_ADDR="api:80"))))


def test_a_headless_service_leads_to_its_pods_own_ports() -> None:
    headless = manifest("Service", "bus", spec={"clusterIP": "None", "selector": {"app": "bus"}, "ports": [{"port": 9092}]})
    broker = manifest(
        "Pod",
        "bus-0",
        metadata={"labels": {"app": "bus"}},
        spec={"containers": [{"name": "main", "image": "k", "ports": [{"containerPort": 9092}]}]},
    )
    assert codes(broken_addresses(world(headless + broker + caller(BROKERS="bus:9999")))) == {"config.wrong-port"}
    assert codes(broken_addresses(world(headless + broker + caller(BROKERS="bus:9092")))) == set()
    silent = broker.replace('{"containerPort": 9092}', "")
    assert codes(broken_addresses(world(headless + silent + caller(BROKERS="bus:9999")))) == set()
