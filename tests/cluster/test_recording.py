"""Writing recordings, and that one answers like the cluster it was taken of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RecordingError
from cluster.facts.pod import Pod
from cluster.kinds import BY_NAME, CUSTOM_KINDS, KINDS
from cluster.kube import KubeReader
from cluster.recorded import RecordedReader
from cluster.recording import needs_log, write_recording
from cluster.reference import ContainerRef, Scope
from tests.cluster.fake_api import NOW, FakeApi, Reply, connection, groups, listing, pod, running, status

ALL = Scope("test")
CRASHED = {"terminated": {"exitCode": 1, "reason": "Error"}}


def crashing(name: str) -> dict[str, Any]:
    env = [{"name": "DB_PASSWORD", "value": "hunter2hunter2"}, {"name": "MODE", "value": "fast"}]
    statuses = [{"name": "main", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": CRASHED}]
    return {**pod(name, containers=[{"name": "main", "env": env}]), "status": {"phase": "Running", "containerStatuses": statuses}}


def healthy(name: str) -> dict[str, Any]:
    statuses = [{"name": "main", "ready": True, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]
    conditions = [{"type": "Ready", "status": "True"}]
    return {**pod(name), "status": {"phase": "Running", "conditions": conditions, "containerStatuses": statuses}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with running() as api:
        api.reply("/apis", groups(apps={"v1": ["deployments"]}))
        for kind in (*KINDS, *CUSTOM_KINDS):
            api.objects(kind.address(), kind.name, [])
        api.objects("/api/v1/pods", "Pod", [crashing("bad"), healthy("good")])
        api.reply("/api/v1/nodes", status(403, "Forbidden", "no"))
        api.routes["/api/v1/namespaces/ml/pods/bad/log"] = lambda seen: Reply(
            200, b"before\n" if "previous" in seen.query else b"token=hunter2hunter2\nnow\n"
        )
        yield api


@pytest.fixture
async def reader(api: FakeApi) -> AsyncIterator[KubeReader]:
    async with KubeReader(connection(api)) as reader:
        yield reader


@pytest.mark.anyio
async def test_a_recording_answers_like_the_cluster(reader: KubeReader, tmp_path: Path) -> None:
    written = await write_recording(reader, ALL, tmp_path / "incident", lambda: NOW)
    assert (written.objects, written.logs) == (2, 2)
    recorded = RecordedReader.open(tmp_path / "incident")
    assert (recorded.cluster, recorded.now()) == ("test", NOW)
    for kind in (*KINDS, *CUSTOM_KINDS):
        live, kept = await reader.objects(kind, ALL), await recorded.objects(kind, ALL)
        assert [fact.ref for fact in kept.value] == [fact.ref for fact in live.value]
        assert kept.missing == live.missing
    log = await recorded.logs(ContainerRef("ml", "bad", "main"), previous=True, limit_bytes=1_000)
    assert log.value.lines == ("before",)


@pytest.mark.anyio
async def test_no_secret_reaches_the_disk(api: FakeApi, reader: KubeReader, tmp_path: Path) -> None:
    await write_recording(reader, ALL, tmp_path / "incident", lambda: NOW)
    everything = "".join(path.read_text() for path in (tmp_path / "incident").rglob("*") if path.is_file())
    assert "hunter2" not in everything
    assert "fast" in everything
    assert not [path for path in api.paths() if "secrets" in path]


@pytest.mark.anyio
async def test_only_pods_that_are_not_well_give_logs(api: FakeApi, reader: KubeReader, tmp_path: Path) -> None:
    await write_recording(reader, ALL, tmp_path / "incident", lambda: NOW)
    assert {path for path in api.paths() if path.endswith("/log")} == {"/api/v1/namespaces/ml/pods/bad/log"}
    assert names(tmp_path / "incident" / "logs") == ["ml__bad__main.log", "ml__bad__main.previous.log"]


@pytest.mark.anyio
async def test_a_recording_of_a_recording_is_the_same(reader: KubeReader, tmp_path: Path) -> None:
    await write_recording(reader, ALL, tmp_path / "one", lambda: NOW)
    await write_recording(RecordedReader.open(tmp_path / "one"), ALL, tmp_path / "two", lambda: NOW)
    for name in ("objects.yaml", "recording.yaml"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()


@pytest.mark.anyio
async def test_a_recording_overwrites_nothing_and_leaves_nothing_half_done(reader: KubeReader, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes").write_text("mine")
    with pytest.raises(RecordingError, match="not empty"):
        await write_recording(reader, ALL, tmp_path / "taken", lambda: NOW)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RecordingError, match="cannot write"):
        await write_recording(reader, ALL, tmp_path / "file" / "below", lambda: NOW)
    assert names(tmp_path) == ["file", "taken"]
    (tmp_path / "empty").mkdir()
    await write_recording(reader, ALL, tmp_path / "empty", lambda: NOW)
    assert (tmp_path / "empty" / "objects.yaml").exists()


@pytest.mark.anyio
async def test_more_sick_pods_than_are_recorded_is_said(api: FakeApi, reader: KubeReader, tmp_path: Path) -> None:
    api.reply("/api/v1/pods", listing("Pod", [crashing(f"p{number}") for number in range(203)]))
    written = await write_recording(reader, ALL, tmp_path / "incident", lambda: NOW)
    assert any(gap.what == "logs of 3 pods" for gap in written.missing)


@pytest.mark.anyio
async def test_which_logs_a_pod_is_worth(api: FakeApi, reader: KubeReader) -> None:
    pods = {fact.name: fact for fact in (await reader.objects(BY_NAME["Pod"], ALL)).value if isinstance(fact, Pod)}
    assert list(needs_log(pods["good"])) == []
    assert list(needs_log(pods["bad"])) == [("main", False), ("main", True)]
