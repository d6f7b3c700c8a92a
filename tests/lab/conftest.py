"""The order of scenario tests: batch by batch, and in a batch one question after the other, because the last of them repairs it."""

from __future__ import annotations

from types import FunctionType
from typing import cast

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = [place for place, item in enumerate(items) if _staged(item)]
    ordered = sorted((items[place] for place in places), key=_order)
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


def _staged(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and hasattr(item, "callspec") and {"stage", "name"} <= set(item.callspec.params)


def _order(item: pytest.Item) -> tuple[int, int]:
    assert isinstance(item, pytest.Function)
    code = cast("FunctionType", item.function).__code__
    return cast("int", item.callspec.params["stage"]), code.co_firstlineno
