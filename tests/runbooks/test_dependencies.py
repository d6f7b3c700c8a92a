from __future__ import annotations

import pytest

from runbooks.dependencies import Address, Dependencies, Stands, addresses, serves
from tests.runbooks.specimens import configmap, document, pod, service
from tests.runbooks.worlds import world


@pytest.mark.parametrize(
    ("text", "certain", "found"),
    [
        ("api:8080", False, [Address("api", 8080)]),
        ("http://api/v1", False, [Address("api", None, "http")]),
        ("postgres://user:secret@db:5432/shop?sslmode=off", False, [Address("db", 5432, "postgres")]),
        ("jdbc:mysql://db:3306/shop", False, [Address("db", 3306, "mysql")]),
        ("kafka-0:9092,kafka-1:9092", False, [Address("kafka-0", 9092), Address("kafka-1", 9092)]),
        ("api", True, [Address("api")]),
        ("api", False, []),
        ("12345", True, []),
        ("true and false", False, []),
        ("12:30", False, []),
        ("api:99999", False, []),
        ("a: b\nc: d", False, []),
    ],
)
def test_addresses_in_values(text: str, certain: bool, found: list[Address]) -> None:
    assert list(addresses(text, certain=certain)) == found


CLUSTER = (
    service("api", address="10.96.0.7")
    + service("db", address="None")
    + document(kind="Service", metadata={"name": "auth", "namespace": "platform"}, spec={"ports": [{"port": 80}]})
    + document(kind="Namespace", metadata={"name": "platform"})
)


@pytest.mark.parametrize(
    ("host", "stands", "name"),
    [
        ("api", Stands.SERVICE, "api"),
        ("API.", Stands.SERVICE, "api"),
        ("10.96.0.7", Stands.SERVICE, "api"),
        ("api.shop", Stands.SERVICE, "api"),
        ("api.shop.svc.cluster.local", Stands.SERVICE, "api"),
        ("auth.platform", Stands.SERVICE, "auth"),
        ("db-0.db", Stands.SERVICE, "db"),
        ("auth", Stands.ABSENT, "auth"),
        ("gone.platform.svc", Stands.ABSENT, "gone"),
        ("gone.platform.svc.acme.internal", Stands.ABSENT, "gone"),
        # A name of the world in which a namespace's name stands by chance, and a Service of several clusters.
        ("gone.platform.example.com", Stands.EXTERNAL, "gone.platform.example.com"),
        ("gone.platform.svc.clusterset.local", Stands.EXTERNAL, "gone.platform.svc.clusterset.local"),
        ("example.com", Stands.EXTERNAL, "example.com"),
        ("10.1.2.3", Stands.EXTERNAL, "10.1.2.3"),
        ("localhost", Stands.LOCAL, "localhost"),
        ("127.0.0.1", Stands.LOCAL, "127.0.0.1"),
    ],
)
def test_what_a_host_means(host: str, stands: Stands, name: str) -> None:
    found = Dependencies(world(CLUSTER)).resolve("shop", host)
    assert (found.stands, found.name) == (stands, name)


def test_without_services_nothing_is_absent() -> None:
    assert Dependencies(world(pod(ready=True))).resolve("shop", "api").stands is Stands.UNKNOWN


def test_near_names_are_offered() -> None:
    assert Dependencies(world(CLUSTER)).resolve("shop", "apis").near == ("api",)


def test_ports_of_services() -> None:
    made = Dependencies(world(CLUSTER))
    api, headless = made.resolve("shop", "api").service, made.resolve("shop", "db").service
    assert api is not None
    assert headless is not None
    assert (serves(api, 80), serves(api, 81), serves(headless, 5432)) == (True, False, None)


def test_values_are_followed_through_references_and_configmaps() -> None:
    container = {
        "envFrom": [{"prefix": "CFG_", "configMapRef": {"name": "settings"}}],
        "env": [
            {"name": "BASE", "value": "api"},
            {"name": "API_URL", "value": "http://$(BASE):8080"},
            {"name": "DB_HOST", "value": "db"},
            {"name": "DB_PORT", "value": "5432"},
        ],
        "args": ["--upstream=cache:6379", "serve"],
    }
    made = Dependencies(world(configmap("settings", {"QUEUE_ADDR": "queue:5672"}) + pod(ready=True, container=container)))
    found = {(item.key, str(item.address), item.holder.kind) for item in made.declared}
    assert ("CFG_QUEUE_ADDR", "queue:5672", "ConfigMap") in found
    assert ("API_URL", "api:8080", "Deployment") in found
    assert ("DB_HOST", "db:5432", "Deployment") in found
    assert ("--upstream", "cache:6379", "Deployment") in found


def test_one_pod_speaks_for_its_workload_the_newest() -> None:
    old = pod("web-1111-aaaaa", ready=True, container={"env": [{"name": "API_ADDR", "value": "old:80"}]})
    new = pod("web-2222-bbbbb", ready=True, container={"env": [{"name": "API_ADDR", "value": "new:80"}]})
    made = Dependencies(world(old + new.replace("T11:00:00Z", "T11:40:00Z")))
    assert [item.address.host for item in made.declared] == ["new"]
