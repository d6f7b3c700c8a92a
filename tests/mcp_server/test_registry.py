"""What an answer adds to a world, and what a toolset says of its tools."""

from __future__ import annotations

import pytest

from cluster.reading import LogText, MetricQuery, Reading
from cluster.reference import ContainerRef, Scope
from cluster.world import Presence, World
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Access, Growth, KindRead, LogRead, MetricRead, RBACRule, Toolset
from mcp_server.tools.catalogue import ALL, toolset
from tests.mcp_server.incident import NOW


def world(*namespaces: str) -> World:
    return World("test", NOW, Scope("test", namespaces))


@pytest.mark.parametrize(
    ("scope", "read", "proven"),
    [
        ((), (), True),
        (("ml",), (), True),
        (("ml",), ("ml", "web"), True),
        (("ml", "web"), ("ml",), False),
        ((), ("ml",), False),
    ],
)
def test_a_reading_proves_absence_only_where_it_looked(scope: tuple[str, ...], read: tuple[str, ...], proven: bool) -> None:
    grown = Growth((KindRead("Pod", (), True, (), read),)).grow(world(*scope))
    assert grown.presence("Pod", "ml", "x") is (Presence.ABSENT if proven else Presence.UNKNOWN)


def test_an_incomplete_reading_proves_nothing() -> None:
    assert Growth((KindRead("Pod", (), False),)).grow(world()).presence("Pod", "ml", "x") is Presence.UNKNOWN


def test_logs_and_metrics_grow_a_world() -> None:
    container, log = ContainerRef("ml", "x", "c"), Reading(LogText(("line",)))
    grown = Growth(logs=(LogRead(container, True, log),), metrics=(MetricRead(MetricQuery("up"), Reading(())),)).grow(world())
    assert grown.logs[(container, True)] is log
    assert "up" in grown.metrics


def test_an_unknown_tool_names_the_nearest() -> None:
    with pytest.raises(ToolRefusal, match="unknown tool 'pod_list'; nearest tools: pods_list"):
        toolset().spec("pod_list")


def test_two_tools_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="same name"):
        Toolset((ALL[0], ALL[0]))


def test_a_composed_tool_needs_what_its_parts_need() -> None:
    tools = toolset()
    assert RBACRule(("get",), "", ("pods/log",)) in tools.rules("pod_diagnose")
    assert set(tools.rules("resources_list")) <= set(tools.rules("pod_diagnose"))


def test_groups_select_tools() -> None:
    assert {spec.group for spec in toolset(frozenset({"core"}))} == {"core"}
    assert len(tuple(toolset())) == len(ALL)
    # A verdict without a proposal sends dry runs: it takes both groups.
    offered = {
        groups: "policy_explain" in toolset(groups) for groups in (("investigation",), ("remediation",), ("investigation", "remediation"))
    }
    assert list(offered.values()) == [False, False, True]


def test_no_tool_approves_and_no_reading_tool_may_write() -> None:
    for spec in ALL:
        assert not {"approve", "approval", "grant"} & set(spec.name.split("_"))
        if spec.access is Access.READ:
            verbs = {verb for rule in toolset().rules(spec.name) for verb in rule.verbs}
            assert verbs <= {"get", "list"}
    assert [spec.name for spec in ALL if spec.access is Access.GATED] == ["remediation_execute"]


def test_only_tools_of_remediation_do_more_than_read() -> None:
    assert {spec.group for spec in ALL if spec.access is not Access.READ} == {"remediation"}


def test_no_tool_needs_secrets() -> None:
    assert not [spec.name for spec in ALL for rule in toolset().rules(spec.name) if {"secrets", "*"} & set(rule.resources)]
