"""A wrong argument is answered with what was wrong and the nearest valid value, and never with a trace."""

from __future__ import annotations

import pytest

from mcp_server.arguments import ListArguments, nearest, nearest_kinds, validated
from mcp_server.errors import ToolRefusal
from mcp_server.tools.logs import LogsSearchArguments
from mcp_server.tools.pods import PodsListArguments


def test_an_unknown_argument_names_the_nearest() -> None:
    with pytest.raises(ToolRefusal, match=r"pods_list: unknown argument 'problems_only'; nearest arguments: problem_only"):
        validated(PodsListArguments, "pods_list", {"problems_only": True})


def test_a_wrong_type_and_a_missing_argument_are_named_together() -> None:
    with pytest.raises(ToolRefusal) as refusal:
        validated(LogsSearchArguments, "logs_search", {"pod": "x", "limit": "many"})
    assert "argument 'namespace' is required" in str(refusal.value)
    assert "argument 'limit': " in str(refusal.value)
    assert "integer" in str(refusal.value)


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_limits_are_bounded(limit: int) -> None:
    with pytest.raises(ToolRefusal, match="argument 'limit'"):
        validated(ListArguments, "x", {"limit": limit})


@pytest.mark.parametrize("given", ["ml,web", ["ml", "web"], '["ml", "web"]', "ml, web", ["ml", "web", "ml"]])
def test_namespaces_come_in_every_form_that_clients_send(given: object) -> None:
    assert validated(ListArguments, "x", {"namespace": given}).namespace == ("ml", "web")


@pytest.mark.parametrize("given", [None, "", [], "[]"])
def test_no_namespace_means_all(given: object) -> None:
    assert validated(ListArguments, "x", {"namespace": given}).namespace == ()


@pytest.mark.parametrize("given", ["ML", "a/b", "..", "a" * 64, ["ok", "-no"], [1], {"a": 1}, "[1,", 7])
def test_what_is_no_namespace_is_refused(given: object) -> None:
    with pytest.raises(ToolRefusal, match="argument 'namespace"):
        validated(ListArguments, "x", {"namespace": given})


@pytest.mark.parametrize("name", ["", "..", "a/b", "a%2fb", "Pod/a\n", "x" * 254, "a\x1b[2J"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ToolRefusal, match="argument 'pod'"):
        validated(LogsSearchArguments, "logs_search", {"namespace": "ml", "pod": name})


def test_refusals_do_not_echo_without_bound() -> None:
    with pytest.raises(ToolRefusal) as refusal:
        validated(ListArguments, "x", {"z" * 100_000: 1, "namespace": "Y" * 100_000})
    assert len(str(refusal.value)) < 1_000


def test_nearest_prefers_what_is_alike() -> None:
    assert nearest("serv", ["server-1", "trainer", "serve"], "pods") == "nearest pods: serve, server-1"
    assert nearest("zzz", ["a", "b"], "pods") == "pods: a, b"
    assert nearest("zzz", [f"n{number}" for number in range(9)], "pods") == "pods: n0, n1, n2, n3, n4 and 4 more"
    assert nearest("zzz", [], "pods") == "there are no pods"


def test_nearest_kinds_know_aliases_and_plurals() -> None:
    assert "Deployment" in nearest_kinds("deploymnts")
    assert "can be read" in nearest_kinds("qqqqqq")


@pytest.mark.parametrize("given", ["[" * 50_000, '["ml"', '[{"a": 1}]', [["ml"]], 7])
def test_what_is_no_list_of_names_is_refused(given: object) -> None:
    with pytest.raises(ToolRefusal, match="argument 'namespace"):
        validated(ListArguments, "x", {"namespace": given})
