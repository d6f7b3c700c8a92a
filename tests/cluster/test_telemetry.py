"""Telemetry files in the layouts that tools write."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cluster.telemetry import Dependency, read_alerts, read_connectivity, read_dependencies, read_node_services, verdict

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PROMETHEUS = {"labels": {"alertname": "HighLatency", "service": "web"}, "state": "firing", "activeAt": "2026-01-02T03:04:05.123456789Z"}
ALERTMANAGER = {"labels": {"alertname": "HighLatency", "service": "web"}, "status": {"state": "firing"}, "startsAt": "2026-01-02T03:04:05Z"}
DETECTOR = {
    "type": "Service",
    "name": "web",
    "status": "firing",
    "time_range": "2026-01-02 03:04:05 ~ 2026-01-02 03:10:00",
    "evidence": ["cpu 0.03 -> 0.16"],
}


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"alerts": [x]}, lambda x: {"data": {"alerts": [x]}}, lambda x: {"data": [x]}])
@pytest.mark.parametrize("item", [PROMETHEUS, ALERTMANAGER, DETECTOR])
def test_alerts_in_every_wrapping(wrap: Any, item: dict[str, Any]) -> None:
    (alert,) = read_alerts(wrap(item))
    assert (alert.subject, alert.state) == ("web", "firing")
    assert alert.since is not None
    assert alert.since.replace(microsecond=0) == STARTED


def test_an_alert_keeps_its_words_and_loses_its_secrets() -> None:
    (alert,) = read_alerts([{"name": "a", "annotations": {"summary": "login with password=hunter2hunter2 failed"}}])
    assert "login with" in alert.text
    assert "hunter2" not in alert.text
    assert read_alerts([DETECTOR])[0].text == "cpu 0.03 -> 0.16"


def test_alerts_by_name_and_as_text() -> None:
    assert [alert.name for alert in read_alerts({"Down": {"severity": "critical"}})] == ["Down"]
    assert [alert.name for alert in read_alerts(["node worker-1 is down"])] == ["node worker-1 is down"]


@pytest.mark.parametrize("document", [None, [], {}, 7, "text", [None, 7], {"alerts": None}])
def test_nothing_is_read_from_nothing(document: Any) -> None:
    assert read_alerts(document) == ()
    assert read_dependencies(document) == ()


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("● kubelet.service\n   Active: active (running) since Mon\n error syncing pod", True),
        ("   Active: inactive (dead) since Mon", False),
        ("   Active: failed (Result: exit-code)", False),
        ("active", True),
        ("inactive", False),
        ("running", True),
        ("not running", False),
        ("web (10.0.0.1:80) open\nConnection Succeeded", True),
        ("Connection failed", False),
        ("connect: connection refused", False),
        ("dial tcp: i/o timeout", False),
        (True, True),
        (False, False),
        (7, None),
        ("purple", None),
    ],
)
def test_what_words_say(said: Any, meaning: bool | None) -> None:
    assert verdict(said) is meaning


@pytest.mark.parametrize(
    "document",
    [
        {"n1": {"kubelet": "active"}},
        {"n1": {"kubelet": True}},
        {"n1": {"kubelet": {"state": "active"}}},
        {"nodes": {"n1": {"services": {"kubelet": "active (running)"}}}},
        {"n1": [{"service": "kubelet", "status": "active"}]},
        [{"node": "n1", "service": "kubelet", "status": "active"}],
        [{"node_name": "n1", "service_name": "kubelet", "output": "Active: active (running)"}],
        {'Check:{"node_name":"n1","service_name":"kubelet"}': "Active: active (running)"},
    ],
)
def test_node_services(document: Any) -> None:
    (item,) = read_node_services(document)
    assert (item.node, item.service, item.running) == ("n1", "kubelet", True)


@pytest.mark.parametrize(
    "document",
    [
        {"web:80": "Connection failed"},
        {"web:80": False},
        {"web:80": {"ok": False}},
        [{"to": "web", "port": 80, "ok": False}],
        [{"service": "web", "port": 80, "result": "connection refused"}],
        {"services": {"web:80": {"reachable": False}}},
        {'Check:{"namespace":"ml","service_name":"web","port":80}': "Connection failed"},
    ],
)
def test_connectivity(document: Any) -> None:
    (item,) = read_connectivity(document)
    assert (item.target, item.port, item.reachable) == ("web", 80, False)


def test_connectivity_between_two() -> None:
    (item,) = read_connectivity({"web": {"db:5432": "open"}})
    assert (item.source, item.target, item.port, item.reachable) == ("web", "db", 5432, True)
    (item,) = read_connectivity([{"from": "web", "to": "db", "ok": True, "latency_ms": 250}])
    assert (item.source, item.latency_seconds) == ("web", 0.25)
    (item,) = read_connectivity([{"from": "web", "to": "db", "ok": True, "latency": "0.5s"}])
    assert item.latency_seconds == 0.5


@pytest.mark.parametrize(
    "document",
    [
        {"web": ["api"], "api": ["db"]},
        {"web": {"downstream": ["api"]}, "db": {"upstream": ["api"]}},
        [{"from": "web", "to": "api"}, {"from": "api", "to": "db"}],
        [["web", "api"], ["api", "db"]],
        {"edges": [{"source": "web", "target": "api"}, {"source": "api", "target": "db"}]},
        {"dependencies": {"web": [{"service": "api"}], "api": ["db"]}},
        json.dumps({"web": ["api"], "api": ["db"]}),
        {"web": "[Service]: web\n[Downstream (Calls)]:\nweb\n└── api\n    └── db   <-- (Database)"},
        {
            'Deps:{"service_name":"web"}': "[Service]: web\n[Upstream (Called By)]: (User Traffic)\n[Downstream (Calls)]:\nweb\n└── api",
            'Deps:{"service_name":"db"}': "[Service]: db\n[Upstream (Called By)]: api\n[Downstream (Calls)]:\n(None - Leaf Service)",
        },
    ],
)
def test_dependencies(document: Any) -> None:
    assert read_dependencies(document) == (Dependency("api", "db"), Dependency("web", "api"))


def test_a_tree_with_branches() -> None:
    text = "[Downstream (Calls)]:\nweb\n├── ads\n├── cart\n│   └── redis\n└── pay\n"
    assert read_dependencies({"web": text}) == (
        Dependency("cart", "redis"),
        Dependency("web", "ads"),
        Dependency("web", "cart"),
        Dependency("web", "pay"),
    )


def test_deep_documents_end() -> None:
    deep: Any = "active"
    for _ in range(200):
        deep = {"x": deep}
    assert read_node_services(deep) == ()
    assert read_connectivity(deep) == ()
