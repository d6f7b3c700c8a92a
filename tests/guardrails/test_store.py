"""A database that cannot be used is one clear error with a next step."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text

from guardrails.errors import BadStore
from guardrails.store import Store, switches

pytestmark = pytest.mark.anyio
ROW = {"scope": "*", "is_on": 1, "reason": "r", "by": "b", "at": "a"}


async def test_what_is_written_is_there_and_durable(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "x" / "s.db")
    async with store.write() as connection:
        await connection.execute(insert(switches).values(**ROW))
        assert (await connection.execute(text("PRAGMA synchronous"))).scalar() == 2
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
    async with store.read() as connection:
        assert (await connection.execute(select(switches.c.scope))).scalar() == "*"
    await store.close()
    assert (tmp_path / "x" / "s.db").stat().st_mode & 0o777 == 0o600


async def test_an_exception_rolls_back(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "s.db")

    async def fail() -> None:
        async with store.write() as connection:
            await connection.execute(insert(switches).values(**ROW))
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await fail()
    async with store.read() as connection:
        assert (await connection.execute(select(switches))).all() == []
    await store.close()


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
async def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(BadStore, match=r"damaged.*backup"):
        await Store.open(path)


async def test_a_read_only_database(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = await Store.open(path)
    async with store.write() as connection:
        await connection.execute(text("PRAGMA query_only=ON"))
        with pytest.raises(Exception, match="readonly"):
            await connection.execute(insert(switches).values(**ROW))

    async def write() -> None:
        async with store.write() as connection:
            await connection.execute(insert(switches).values(**ROW))

    with pytest.raises(BadStore, match=r"read-only.*another state folder"):
        await write()
    await store.close()


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(BadStore, match="cannot be opened"):
        await Store.open(tmp_path)


async def test_a_locked_database(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = await Store.open(path)
    holder = sqlite3.connect(path)
    holder.execute("BEGIN IMMEDIATE")

    async def write() -> None:
        async with store.read() as connection:
            await connection.execute(text("PRAGMA busy_timeout=10"))
        async with store.write():
            pass

    with pytest.raises(BadStore, match="is locked"):
        await write()
    holder.rollback()
    holder.close()
    await store.close()
