"""Five hundred proposals, four workers, death and long sleep at every step: each change happens once, and none gets lost."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from guardrails.audit import verify
from guardrails.bundle import SHIPPED
from guardrails.directory import Directory
from guardrails.gate import Gate
from guardrails.note import Signer
from guardrails.office import ANCHOR, KEY, PEOPLE, open_office
from guardrails.record import Record, load
from guardrails.store import proposals
from tests.lab.lab import Lab
from tests.lab.witness import Permission, account_for, permitted_in
from tests.oncall.executing import Later
from tests.soak.items import STRAIGHT, UNDONE, draw
from tests.soak.reckoning import reckon
from tests.soak.storm import Storm, mig_manager, set_scene
from tests.soak.worker import APPROVERS, REQUESTER, Order, approver

LOADER = "lab:loader"
PROPOSALS = 500
# A smaller storm for a first look; then not every step has its turn.
SIZE_SETTING = "SMOKEJUMPER_STORM"
# Past the time after which a proposal that is still being validated belongs to a process that died.
AFTERWARDS_SECONDS = 700


def furnish(state: Path, bundle: Path) -> None:
    """People enough that nobody approves faster than anybody can read, and the shipped policy without its limit of changes an hour."""
    directory = Directory.load(state / PEOPLE)
    directory.add(REQUESTER, ["sre-oncall"])
    for number in range(APPROVERS):
        directory.add(approver(number), ["sre-oncall"])
    shutil.copytree(SHIPPED, bundle)
    for name in ("default.cedar", "policy_test.yaml"):
        text = (bundle / name).read_text("utf-8")
        (bundle / name).write_text(re.sub(r"(changesLastHour\s*(?:>=|:)\s*)\d+", r"\g<1>1000000", text), "utf-8")


async def settle(order: Order) -> tuple[tuple[tuple[str, Record], ...], tuple[Permission, ...]]:
    """Reject what died while it was validated, check the ledger, and return every proposal with its key, and what was permitted."""
    later = Later(timedelta(seconds=AFTERWARDS_SECONDS))
    async with open_office(order.state, {}, bundle=order.bundle, clock=later, database=order.database) as office:
        await Gate(office).recover()
        signer = Signer.load_or_create(order.state / KEY)
        report = await verify(office.store, signer.verifier, anchor=order.state / ANCHOR)
        assert report.status == "intact", report.problems
        async with office.store.read() as connection:
            keys = (await connection.execute(select(proposals.c.key, proposals.c.id))).all()
            records = tuple([(row.key, await load(connection, row.id)) for row in keys])
        return records, await permitted_in(office.store)


@pytest.mark.soak
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_the_storm(
    request: pytest.FixtureRequest, lab: Lab, executor_granted: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str
) -> None:
    state, bundle, folder = tmp_path / "state", tmp_path / "bundle", tmp_path / "fates"
    state.mkdir()
    folder.mkdir()
    furnish(state, bundle)
    database = None if backend == "sqlite" else request.getfixturevalue("databases").emptied()
    count = int(os.environ.get(SIZE_SETTING, PROPOSALS))
    loader = lab.client(LOADER)
    with lab.namespace("storm") as space:
        items = draw(count, space, seed=5)
        executor = lab.kubeconfig("executor")
        order = Order(state, database, bundle, executor, folder, lab.server, lab.token(LOADER), lab.authority, items)
        try:
            set_scene(loader, items)
            since = lab.audit.mark()
            with mig_manager(lab.client("admin")):
                weather = Storm(order, workers=4, seed=5, limit_seconds=3600).blow()
            records, permissions = asyncio.run(settle(order))
            if database is not None:
                lab.permitted_elsewhere += permissions
            account = account_for(lab.audit.writes("executor", since), permissions)
        finally:
            for item in items:
                if item.sort == "partition":
                    loader.delete("v1", "Node", item.subject[2])
    result = reckon(items, records, account)
    refused = Counter(json.loads(line)["code"] for line in (folder / "refused.jsonl").read_text("utf-8").splitlines())
    with capsys.disabled():
        print(f"\n{backend}: {result}")
        print(f"{weather}; refused: {dict(refused)}")
        print(f"{account}")
    assert result.duplicates == (), "\n".join(result.duplicates)
    assert result.lost == (), "\n".join(result.lost)
    assert account.offences == ()
    if count >= PROPOSALS:
        assert {step for step, _ in weather.met} >= {*STRAIGHT, *UNDONE}
