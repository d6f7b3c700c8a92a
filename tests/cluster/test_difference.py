"""What a write would change, for people."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.difference import CHANGES_LIMIT, difference


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", "1", "2")]),
        ({}, {"a": {"b": 1}}, [("a", None, '{"b": 1}')]),
        ({"a": 1}, {}, [("a", "1", None)]),
        ({"m": {"k8s.io/x": "1"}}, {"m": {"k8s.io/x": "2"}}, [("m[k8s.io/x]", "1", "2")]),
        (
            {"c": [{"name": "x", "v": 1}]},
            {"c": [{"name": "y"}, {"name": "x", "v": 2}]},
            [("c[name=y]", None, '{"name": "y"}'), ("c[name=x].v", "1", "2")],
        ),
        ({"c": ["a"]}, {"c": ["a", "b"]}, [("c", '["a"]', '["a", "b"]')]),
        ({"metadata": {"resourceVersion": "1", "generation": 1}}, {"metadata": {"resourceVersion": "2", "generation": 2}}, []),
    ],
)
def test_fields_that_differ(before: dict[str, Any], after: dict[str, Any], changes: list[tuple[str, str | None, str | None]]) -> None:
    assert [(change.path, change.before, change.after) for change in difference(before, after)] == changes


def test_values_are_redacted_and_everything_is_bounded() -> None:
    (change,) = difference({}, {"note": "password=hunter2hunter2 " + "x" * 1_000})
    assert change.after is not None
    assert "hunter2" not in change.after
    assert len(change.after) < 300
    many = difference({}, {f"k{number}": number for number in range(CHANGES_LIMIT + 7)})
    assert len(many) == CHANGES_LIMIT + 1
    assert many[-1].after == "7 more fields"
