"""Output is bounded, pages join without loss, and foreign text cannot leave its fence."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.reading import Missing, Why
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Page
from mcp_server.result import DEFAULT_BYTES, HARD_BYTES, Request, cannot_see, cell, fence, flattened, render_table, text_of


def page(asked: Request, items: list[tuple[int, str]], width: int = 10, *, untrusted: bool = False) -> Page:
    return render_table(
        asked,
        headline=[f"{len(items)} things"],
        columns=("name", "text"),
        items=(((rank, name), (name, "y" * width)) for rank, name in items),
        cells=lambda item: item,
        untrusted=untrusted,
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.text(min_size=1, max_size=8)), unique=True, max_size=60), st.integers(1, 25))
def test_pages_join_to_every_row_once_in_order(items: list[tuple[int, str]], limit: int) -> None:
    seen: list[object] = []
    cursor: str | None = None
    for _ in range(len(items) + 1):
        answer = page(Request("q", limit, cursor), items)
        seen += [row[0] for row in answer.structured["rows"]]
        cursor = answer.cursor
        if cursor is None:
            break
    assert seen == [cell(name) for _, name in sorted(items)]


def test_a_cursor_survives_rows_that_come_and_go() -> None:
    first = page(Request("q", 2), [(0, "a"), (0, "c"), (0, "e")])
    second = page(Request("q", 2, first.cursor), [(0, "b"), (0, "d"), (0, "e")])
    assert [row[0] for row in second.structured["rows"]] == ["d", "e"]


def test_a_cursor_whose_order_was_made_up_is_refused() -> None:
    items = [(0, "a"), (1, "b")]
    ours = page(Request("q", 1), items).cursor
    assert ours is not None
    question = msgspec.json.decode(base64.urlsafe_b64decode(ours + "=" * (-len(ours) % 4)))[0]
    forged = base64.urlsafe_b64encode(msgspec.json.encode([question, ["x"]])).decode().rstrip("=")
    with pytest.raises(ToolRefusal, match="not one that this server gave out"):
        page(Request("q", 1, forged), items)


@pytest.mark.parametrize("cursor", ["garbage", "!!!", "AAAA", "", "e30"])
def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    items = [(0, "a")]
    if not cursor:
        assert page(Request("q", 1, cursor), items).structured["rows"]
        return
    with pytest.raises(ToolRefusal, match="repeat the call without it"):
        page(Request("q", 1, cursor), items)


def test_a_cursor_of_another_question_is_refused() -> None:
    first = page(Request("pods of ml", 1), [(0, "a"), (0, "b")])
    with pytest.raises(ToolRefusal, match="other arguments"):
        page(Request("pods of web", 1, first.cursor), [(0, "a"), (0, "b")])


def test_the_default_page_keeps_to_its_budget_and_says_what_it_cut() -> None:
    answer = page(Request("q"), [(0, f"n{number:03d}") for number in range(500)], width=230)
    text = text_of(answer)
    assert len(text.encode()) <= DEFAULT_BYTES
    assert text.splitlines()[-1].startswith("-- ")
    assert f"{500 - len(answer.structured['rows'])} more of 500; cursor=" in text


def test_no_page_passes_the_hard_cap() -> None:
    assert len(text_of(page(Request("q", 200), [(0, f"n{n}") for n in range(500)], width=2_000)).encode()) <= HARD_BYTES
    long = Page(tuple("ü" * 1_000 for _ in range(100)), {}, "cursor", "1 more")
    text = text_of(long)
    assert len(text.encode()) <= HARD_BYTES
    assert "cut here" in text
    assert text.endswith("-- 1 more; cursor=cursor")


def test_one_row_larger_than_the_budget_is_shown_cut() -> None:
    answer = page(Request("q"), [(0, "a")], width=1_000_000)
    assert len(text_of(answer)) < 1_000
    assert "more characters" in text_of(answer)


def test_text_and_data_say_the_same() -> None:
    answer = page(Request("q", 3), [(0, "a"), (1, "b"), (2, "c"), (3, "d")])
    for row in answer.structured["rows"]:
        assert "\t".join(row) in answer.lines
    assert answer.structured["cut"] == "1 more of 4"
    assert answer.structured["total"] == 4


@given(st.text(max_size=300))
def test_a_cell_is_one_printable_field(value: str) -> None:
    shown = cell(value)
    assert not set(shown) & {"\t", "\n", "\r", "\x1b", "\u202e"}
    assert len(shown.splitlines()) <= 1


def test_untrusted_rows_cannot_close_their_fence() -> None:
    known = fence(["a", "b"])
    answer = page(Request("q"), [(0, f"evil {known[-1]}")], untrusted=True)
    opening = next(line for line in answer.lines if line.startswith("<<untrusted"))
    mark = opening.split()[1].rstrip(":")
    assert [line for line in answer.lines if line == f"untrusted {mark}>>"] == [answer.lines[-1]]


def test_missing_is_said_and_bounded() -> None:
    alike = [Missing(f"pods in n{n}", Why.FORBIDDEN, "403", "grant list on pods") for n in range(7)]
    assert cannot_see(alike) == [
        "cannot see: pods in n0, pods in n1, pods in n2, pods in n3, pods in n4, pods in n5 and 1 more (forbidden: 403); grant list on pods"
    ]
    different = [Missing(f"pods in n{n}", Why.FORBIDDEN, f"403 of n{n}", "grant list on pods") for n in range(12)]
    lines = cannot_see(different)
    assert lines[0] == "cannot see: pods in n0 (forbidden: 403 of n0); grant list on pods"
    assert lines[-1] == "cannot see: 2 more"
    assert cannot_see(different, 100) == [lines[0], "cannot see: 11 more"]


def test_a_document_flattens_within_its_budget() -> None:
    lines, cut = flattened({"a": {"b": [1, 2]}, "c": [{"d": True}, {"d": None}], "e": ""}, 1_000)
    assert lines == ["a.b: 1, 2", "c[0].d: true"]
    assert cut == ""
    lines, cut = flattened({str(number): "x" * 100 for number in range(100)}, 1_000)
    assert sum(len(line) + 1 for line in lines) <= 1_000
    assert cut == f"{100 - len(lines)} more of 100 fields"


def test_structured_content_is_json() -> None:
    answer = page(Request("q"), [(0, "a")])
    assert msgspec.json.decode(msgspec.json.encode(answer.structured)) == answer.structured


def test_what_is_cut_inside_a_fence_is_closed() -> None:
    fenced = fence(["evil" * 50] * 100)
    text = text_of(Page(("head", *fenced), {}, budget_bytes=1_000))
    assert len(text.encode()) <= 1_000
    assert text.splitlines()[-2:] == [fenced[-1], text.splitlines()[-1]]
    assert text.splitlines()[-1].startswith("-- cut here")
