"""YAML from strangers: bounded, and read as Kubernetes means it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import RecordingError
from cluster.yamltext import load_documents


def load(text: str) -> Any:
    (document,) = load_documents(text.encode(), "objects.yaml")
    return document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("1:30", "1:30"),
        ("12345e7", "12345e7"),
        ("0o17", "0o17"),
        ("0644", 420),
        ("8080", 8080),
        ("-1", -1),
        ("'8080'", "8080"),
        ("1.5", 1.5),
        ("v1.5", "v1.5"),
        ("yes", True),
        ("'yes'", "yes"),
        ("~", None),
        ("", None),
        ("100m", "100m"),
        ("10.0.0.1", "10.0.0.1"),
        ("nvidia.com/gpu", "nvidia.com/gpu"),
    ],
)
def test_scalars_as_kubernetes_means_them(text: str, value: Any) -> None:
    assert load(f"a: {text}") == {"a": value}


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | _TEXT | st.from_regex(r"[0-9a-fe.:_+-]{1,9}", fullmatch=True),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(_TREES)
def test_what_a_recorder_prints_comes_back(tree: Any) -> None:
    printed = yaml.safe_dump({"tree": tree}, allow_unicode=True)
    assert load(printed) == {"tree": tree}


def test_json_is_read_as_json() -> None:
    assert load('{"a": "2026-01-02", "b": [1, null]}') == {"a": "2026-01-02", "b": [1, None]}
    assert load("{a: 1}") == {"a": 1}


def test_aliases_share_and_count_as_what_they_expand_to() -> None:
    assert load("a: &x {k: 1}\nb: *x") == {"a": {"k": 1}, "b": {"k": 1}}


def test_a_billion_laughs_are_refused() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(RecordingError, match="exhaust memory"):
        load("\n".join(lines))


def test_an_alias_inside_what_it_names_is_refused() -> None:
    with pytest.raises(RecordingError, match="alias"):
        load("a: &x [*x]")


@pytest.mark.parametrize("text", ["a: " + "[" * 500 + "]" * 500, "[" * 500 + "]" * 500, "a: " + "[" * 5_000 + "]" * 5_000, "[" * 50_000])
def test_depth_is_bounded(text: str) -> None:
    with pytest.raises(RecordingError, match=r"nested deeper|nesting depth"):
        load(text)


def test_a_file_that_was_cut_off_is_named_with_its_line() -> None:
    with pytest.raises(RecordingError, match=r"objects\.yaml, line \d+ is no YAML.*record it again"):
        load('items:\n- metadata: {name: "web\n')


def test_keys_are_text() -> None:
    assert load("1: a\ntrue: b") == {"1": "a", "true": "b"}
    with pytest.raises(RecordingError, match="no text"):
        load("? [a]\n: b")


def test_several_documents() -> None:
    assert load_documents(b"a: 1\n---\nb: 2\n", "x") == [{"a": 1}, {"b": 2}]
    assert load_documents(b"", "x") == []
