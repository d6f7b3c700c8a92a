"""D. Bombs end as refusals, secrets and escapes go nowhere, foreign tenants change nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from cluster.errors import RecordingError
from cluster.recorded import RecordedReader
from cluster.reference import ContainerRef
from guardrails.action import parse_action
from guardrails.bundle import SHIPPED, Bundles, load
from guardrails.directory import Directory
from guardrails.errors import BadBundle, InvalidAction
from guardrails.gate import Gate
from guardrails.office import DATABASE, PEOPLE, open_office
from guardrails.proposal import State
from guardrails.redact import MARK
from guardrails.sanitise import sanitise
from oncall.cli import run
from tests.agent.recordings import NOW
from tests.attacks.corpus import Attack, runnable
from tests.attacks.stage import WORKER, concluded, desk, planted
from tests.guardrails.conftest import CALM, UNDO, WEB, FakeClock
from tests.guardrails.fake_cluster import FakeCluster
from tests.guardrails.test_redaction_corpus import SHAPED

BOMB_SECONDS = 30.0
by_id = {attack.id: attack for attack in runnable("sinks")}


def test_every_attack_of_this_file_has_its_runner() -> None:
    ran = {49, 50, 51, 52, 54, 56, 57, 58, 60}  # 55 has its own in test_wire.py
    assert set(by_id) - {55} == ran


def test_49_an_alias_bomb_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"] + [f"a{n}: &a{n} [{','.join(f'*a{n - 1}' for _ in range(10))}]" for n in range(1, 10)]
    (tmp_path / "objects.yaml").write_text("\n".join(lines), encoding="utf-8")
    start = time.process_time()
    with pytest.raises(RecordingError):
        RecordedReader.open(tmp_path, NOW)
    assert time.process_time() - start < BOMB_SECONDS
    assert run(["--state", str(tmp_path / "state"), "diagnose", "--recording", str(tmp_path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.anyio
async def test_50_endless_nesting_is_refused_and_the_process_lives(tmp_path: Path) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    for document in (deep, '{"action": "scale", "replicas": ' + deep + "}"):
        with pytest.raises(InvalidAction):
            parse_action(document)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "objects.json").write_text('{"kind": "List", "items": ' + deep + "}", encoding="utf-8")
    with pytest.raises(RecordingError):
        RecordedReader.open(tmp_path / "deep", NOW)
    reader = planted(tmp_path / "recording", "log", deep)
    conclusion, _ = await concluded(reader, "what is wrong?", "")
    assert conclusion.diagnosis.causes
    async with desk(tmp_path / "state", reader) as client:
        # As a client that packs a list into a string.
        done, said = await client.call("pods_list", {"namespace": deep})
        assert not done
        assert len(said) < 2_000


@pytest.mark.anyio
async def test_51_an_endless_line_is_cut_and_says_so(tmp_path: Path) -> None:
    reader = planted(tmp_path / "recording", "nothing", "")
    path = tmp_path / "recording" / "logs" / f"ml__{WORKER}__main.log"
    with path.open("wb") as log:
        for _ in range(100):
            log.write(b"x" * 1_000_000)
    start = time.process_time()
    reading = await reader.logs(ContainerRef("ml", WORKER, "main"), previous=False, limit_bytes=256 * 1024)
    assert sum(len(line) for line in reading.value.lines) <= 256 * 1024
    assert reading.value.cut
    async with desk(tmp_path / "state", reader) as client:
        done, said = await client.call("logs_search", {"namespace": "ml", "pod": WORKER})
        assert done, said
        assert len(said) < 5_000
        assert "more characters" in said
    assert time.process_time() - start < BOMB_SECONDS


@pytest.mark.anyio
@pytest.mark.parametrize("attack", runnable("sinks", "sink"), ids=str)
@pytest.mark.parametrize("surface", ["log", "event"])
async def test_52_and_54_no_sink_obeys_a_text(attack: Attack, surface: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = planted(tmp_path / "recording", surface, attack.input)
    conclusion, endpoint = await concluded(reader, attack.input, attack.input)
    async with desk(tmp_path / "state", reader) as client:
        said = await client.everything_said()
    sinks = {"tools": said, "report": conclusion.report, "prompt": "\n".join(endpoint.prompts), "notes": "\n".join(conclusion.notes)}
    for name, shown in sinks.items():
        assert not [bad for bad in attack.never if bad in shown], name
        assert sanitise(shown) == shown, name
    if attack.shown:
        assert attack.shown in said


@pytest.mark.parametrize("attack", runnable("sinks", "sink"), ids=str)
def test_52_and_54_neither_does_the_terminal(attack: Attack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted(tmp_path / "recording", "event", attack.input)
    for form in ("text", "json", "markdown"):
        assert run(["--state", str(tmp_path / "state"), "diagnose", "--recording", str(tmp_path / "recording"), "-o", form]) == 0
        printed = capsys.readouterr()
        assert not [bad for bad in attack.never if bad in printed.out + printed.err], form


@pytest.mark.anyio
@pytest.mark.parametrize("surface", ["log", "event", "annotation", "variable", "configmap"])
async def test_56_secrets_reach_neither_model_nor_ledger(surface: str, tmp_path: Path) -> None:
    named = ("aws access key", "service account token", "ec key")
    dsn = "postgres://app:" + "hunter2Hunter2@db:5432/x"
    secrets = {**{name: SHAPED[name] for name in named}, "dsn": "hunter2Hunter2"}
    text = " ".join((*(SHAPED[name] for name in named), dsn))
    reader = planted(tmp_path / "recording", surface, text)
    conclusion, endpoint = await concluded(reader, f"is it {text}?", text)
    async with desk(tmp_path / "state", reader) as client:
        said = await client.everything_said()
        wish = {"action": "rollout_undo", "kind": "Deployment", "namespace": "ml", "name": "serve", "reason": text[:900]}
        assert (await client.call("remediation_propose", wish))[0]
        said += json.dumps([view.model_dump(mode="json") for view in await client.proposals()])
    with closing(sqlite3.connect(tmp_path / "state" / DATABASE)) as database:
        kept = "\n".join(database.iterdump())
    assert MARK in "\n".join(endpoint.prompts)
    for where in (said, conclusion.report, "\n".join(conclusion.notes), "\n".join(endpoint.prompts), kept):
        for name, secret in secrets.items():
            lines = [line for line in secret.splitlines() if not line.startswith("-----")]
            assert not [line for line in lines if line[:16] in where], name


@pytest.mark.anyio
async def test_57_the_last_applied_copy_is_dropped(tmp_path: Path) -> None:
    canary = by_id[57].input
    reader = planted(tmp_path / "recording", "last applied", canary)
    conclusion, endpoint = await concluded(reader, "what is wrong?", "")
    async with desk(tmp_path / "state", reader) as client:
        said = await client.everything_said()
    assert canary in (tmp_path / "recording" / "objects.yaml").read_text(encoding="utf-8")
    assert not [where for where in (said, conclusion.report, "\n".join(endpoint.prompts)) if canary in where]


@pytest.mark.anyio
async def test_58_a_stranger_changes_nothing_here(tmp_path: Path, cluster: FakeCluster, clock: FakeClock) -> None:
    """Whoever belongs to another tenant is denied by the policy, and an id that is not here says no more than one that never was."""
    people = Directory.load(tmp_path / PEOPLE)
    people.add("eve", ["sre-oncall"], tenants=("other",))
    async with open_office(tmp_path, {"lab": cluster}, clock=clock) as office:
        gate = Gate(office)
        shown = await gate.propose(UNDO, WEB, cluster="lab", requester="eve", evidence=CALM)
        assert shown.state is State.DENIED
        assert shown.verdict is not None
        assert any("tenant" in rule for rule in shown.verdict.rules), shown.verdict.rules
        answers = set()
        for unknown in ("p-000000000001", "p-00000000feed"):
            with pytest.raises(Exception, match="p-0000") as refusal:
                await gate.status(unknown)
            answers.add((type(refusal.value), str(refusal.value).replace(unknown, "ID")))
        assert len(answers) == 1
    assert cluster.writes == []


def test_60_a_policy_that_would_kill_the_process_is_not_loaded(tmp_path: Path) -> None:
    good = load(SHIPPED, ("sre-oncall", "gpu-oncall"))
    bundles = Bundles(good)
    folder = tmp_path / "bundle"
    shutil.copytree(SHIPPED, folder)
    rule = f'@id("bomb") @effect("deny")\nforbid (principal, action, resource) when {{ {"(" * 1000}true{")" * 1000} }};\n'
    (folder / "zz.cedar").write_text(rule, encoding="utf-8")
    with pytest.raises(BadBundle):
        load(folder, ("sre-oncall", "gpu-oncall"))
    assert bundles.policy is good
