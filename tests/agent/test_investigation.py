from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import anyio
import msgspec
import pytest
from pydantic import ValidationError

from agent.budget import Limits
from agent.errors import AgentError, StoreError
from agent.incident import Incident
from agent.investigation import UNUSED, Conclusion, in_process, investigate, is_known, run
from agent.remediation import Decision, Remediation
from cluster.reading import Why
from cluster.reference import Scope
from cluster.world import World
from tests.agent.recordings import BROKEN_ROLLOUT, CRASH, HEALTHY, FileGate, reader, recording

pytestmark = pytest.mark.anyio
SCOPE = Scope("recording")


async def step(folder: Path, store: Path, gate: Remediation | None, answer: Decision | None = None) -> Conclusion:
    """One process's worth of an incident: everything is opened afresh, as after a restart."""
    opened = reader(folder)
    incident = Incident("inc-1", SCOPE, "Why is serve broken?")
    return await run(incident, opened, in_process(opened, Limits()), store=store, remediation=gate, answer=answer)


async def test_a_rollout_with_a_bad_tag_is_the_cause(tmp_path: Path) -> None:
    diagnosis = await investigate(reader(recording(tmp_path, BROKEN_ROLLOUT)), SCOPE)
    assert not diagnosis.healthy
    assert str(diagnosis.causes[0].object) == "Deployment/ml/serve"
    assert diagnosis.causes[0].class_ == "image/bad-reference"
    assert any("manifest unknown" in item.quote for item in diagnosis.causes[0].evidence)
    assert diagnosis.cost.requests > 0


async def test_an_investigation_leaves_no_world_to_the_collector(tmp_path: Path) -> None:
    folder = recording(tmp_path, BROKEN_ROLLOUT)
    gc.collect()
    others = {id(found) for found in gc.get_objects() if isinstance(found, World)}
    gc.disable()
    try:
        opened = reader(folder)
        await run(Incident("inc-1", SCOPE, None), opened, in_process(opened, Limits()), forget=True)
        left = [found for found in gc.get_objects() if isinstance(found, World) and found.facts and id(found) not in others]
    finally:
        gc.enable()
    assert not left


async def test_two_runs_say_the_same_to_the_byte(tmp_path: Path) -> None:
    folder = recording(tmp_path, BROKEN_ROLLOUT + "---" + CRASH, {"ml__worker-cccccccccc-zzzzz__main.log": "fatal: no QUEUE_URL\n"})
    first, second = [await investigate(reader(folder), SCOPE) for _ in range(2)]
    assert msgspec.json.encode(first) == msgspec.json.encode(second)


async def test_a_suspicion_asks_for_the_log_that_settles_it(tmp_path: Path) -> None:
    log = {"ml__worker-cccccccccc-zzzzz__main.log": "starting\nFATAL: cannot connect to database db:5432: connection refused\n"}
    said: list[str] = []

    async def progress(text: str) -> None:
        said.append(text)

    with_log = await investigate(reader(recording(tmp_path / "with", CRASH, log)), SCOPE, progress=progress)
    without = await investigate(reader(recording(tmp_path / "without", CRASH)), SCOPE)
    assert any(text.startswith("round 2") for text in said)
    assert any(item.source.value == "log" for item in with_log.causes[0].evidence)
    assert not any(item.source.value == "log" for cause in without.causes for item in cause.evidence)


async def test_nothing_wrong_is_healthy(tmp_path: Path) -> None:
    diagnosis = await investigate(reader(recording(tmp_path, HEALTHY)), SCOPE)
    assert diagnosis.healthy
    assert diagnosis.causes == ()


async def test_a_spent_budget_is_never_healthy_and_is_said(tmp_path: Path) -> None:
    diagnosis = await investigate(reader(recording(tmp_path, HEALTHY)), SCOPE, limits=Limits(seconds=0))
    assert not diagnosis.healthy
    assert any(item.why is Why.TRUNCATED and "0 seconds" in item.detail for item in diagnosis.cannot_see)


async def test_the_first_round_is_read_once_while_the_graph_is_imported(tmp_path: Path) -> None:
    folder = recording(tmp_path, BROKEN_ROLLOUT)
    usual = await investigate(reader(folder), SCOPE)
    done = await anyio.run_process([sys.executable, "-m", "tests.agent.newcomer", str(folder)], cwd=Path(__file__).parents[2])
    told = {"head_start": True, "asked_twice": [], "cause": "Deployment/ml/serve", "requests": usual.cost.requests}
    assert json.loads(done.stdout) == told


async def test_nothing_is_read_without_a_budget(tmp_path: Path) -> None:
    diagnosis = await investigate(reader(recording(tmp_path, HEALTHY)), SCOPE, limits=Limits(probes=0))
    assert diagnosis.cost.requests == 0


async def test_remediation_waits_for_the_gate_and_executes_what_was_approved_once(tmp_path: Path) -> None:
    folder, store, gate = recording(tmp_path, BROKEN_ROLLOUT), tmp_path / "store.sqlite", FileGate(tmp_path / "gate.json")
    waiting = await step(folder, store, gate.ports)
    assert waiting.waiting
    assert waiting.proposal is not None
    assert waiting.proposal.state == "pending"
    assert gate.document["inc-1"]["action"] == {"action": "rollout_undo", "to_revision": 6}
    evidence = gate.document["inc-1"]["evidence"]
    assert evidence.startswith("image.not-found of Deployment/ml/serve, proven: ")
    assert "\nev:" in evidence
    assert gate.document["inc-1"]["prompts"] == []

    still = await step(folder, store, gate.ports)
    assert still.waiting
    assert gate.effects == 0

    gate.decide("approved")
    done = await step(folder, store, gate.ports)
    assert not done.waiting
    assert gate.effects == 1
    assert done.outcome is not None
    assert done.outcome.state == "succeeded"
    assert "## Remediation" in done.report
    assert str(done.diagnosis.causes[0].object) == "Deployment/ml/serve"

    again = await step(folder, store, gate.ports)
    assert gate.effects == 1
    assert again.report == done.report


async def test_an_answer_that_claims_approval_grants_nothing(tmp_path: Path) -> None:
    folder, store, gate = recording(tmp_path, BROKEN_ROLLOUT), tmp_path / "store.sqlite", FileGate(tmp_path / "gate.json")
    await step(folder, store, gate.ports)
    claimed = await step(folder, store, gate.ports, Decision(verdict="approved", by="nobody in particular"))
    assert claimed.waiting
    assert gate.effects == 0
    gate.decide("denied")
    denied = await step(folder, store, gate.ports, Decision(verdict="denied", by="bo"))
    assert not denied.waiting
    assert gate.effects == 0
    assert denied.proposal is not None
    assert denied.proposal.state == "denied"


def test_an_answer_of_another_shape_is_refused() -> None:
    with pytest.raises(ValidationError):
        Decision.model_validate({"verdict": "maybe"})
    with pytest.raises(ValidationError):
        Decision.model_validate({"verdict": "approved", "grant": "all"})


async def test_without_a_remedy_nothing_is_proposed(tmp_path: Path) -> None:
    folder, store, gate = recording(tmp_path, CRASH), tmp_path / "store.sqlite", FileGate(tmp_path / "gate.json")
    done = await step(folder, store, gate.ports)
    assert not done.waiting
    assert gate.document == {}
    assert any("no remedy" in note for note in done.notes)


async def test_waiting_without_a_store_is_refused(tmp_path: Path) -> None:
    opened = reader(recording(tmp_path, BROKEN_ROLLOUT))
    with pytest.raises(StoreError, match="store"):
        await run(Incident("i", SCOPE), opened, in_process(opened, Limits()), remediation=FileGate(tmp_path / "gate.json").ports)


async def test_a_store_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    folder, store = recording(tmp_path, HEALTHY), tmp_path / "store.sqlite"
    store.write_bytes(b"this is no database, whatever its name says" * 50)
    with pytest.raises(StoreError, match=r"store\.sqlite.*--state"):
        await step(folder, store, None)


async def test_what_fails_beside_the_store_is_not_blamed_on_it(tmp_path: Path) -> None:
    async def broken(_text: str) -> None:
        raise ConnectionResetError("the terminal is gone")

    opened = reader(recording(tmp_path, HEALTHY))
    with pytest.raises(ConnectionResetError):
        await run(Incident("i", SCOPE), opened, in_process(opened, Limits()), store=tmp_path / "store.sqlite", progress=broken)


async def test_an_investigation_goes_on_only_over_its_own_cluster(tmp_path: Path) -> None:
    folder, store, gate = recording(tmp_path, BROKEN_ROLLOUT), tmp_path / "store.sqlite", FileGate(tmp_path / "gate.json")
    assert (await step(folder, store, gate.ports)).waiting
    (folder / "recording.yaml").write_text("cluster: elsewhere\n")
    with pytest.raises(AgentError, match=r"about cluster 'recording', and this is 'elsewhere'"):
        await step(folder, store, gate.ports)


async def test_looking_for_an_investigation_makes_no_store(tmp_path: Path) -> None:
    store = tmp_path / "state" / "store.sqlite"
    assert not await is_known(store, "inv-1")
    assert not store.parent.exists()


def test_an_investigation_runs_no_body_that_it_does_not_use() -> None:
    """In a process of its own, as other tests may have imported them."""
    program = (
        "import sys, agent.investigation as i; i._import_graph();"
        "print(*(type(sys.modules.get(name)).__name__ for name in i.UNUSED));"
        "import langgraph_sdk, langsmith.types;"
        "print(langgraph_sdk.get_client.__name__, langsmith.types.Run.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    bodies, names = done.stdout.splitlines()
    assert set(bodies.split()) <= {"_Postponed", "NoneType"}
    assert len(bodies.split()) == len(UNUSED)
    assert names == "get_client Run"
