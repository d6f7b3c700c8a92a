"""Logs that the kubelet no longer has, as a person asks for them: by flag, live and with a recording's clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.credentials import Impersonation
from cluster.reading import LogText, Reading, Why
from cluster.reference import ContainerRef
from oncall.assembly import open_reader
from oncall.cli import run
from oncall.settings import load
from tests.agent.recordings import NOW, recording
from tests.cluster.fake_api import Reply as Answer
from tests.cluster.fake_api import document, running, status
from tests.cluster.fake_monitoring import Reply, Seen, answering
from tests.oncall.test_cli import kubeconfig

CONTAINER = ContainerRef("ml", "chat-0", "main")
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
CRASHED = """
kind: StatefulSet
apiVersion: apps/v1
metadata: {name: chat, namespace: ml, uid: s1}
spec:
  replicas: 1
  selector: {matchLabels: {app: chat}}
  template: {metadata: {labels: {app: chat}}, spec: {containers: [{name: main, image: vllm/vllm-openai}]}}
status: {replicas: 1}
---
kind: Pod
apiVersion: v1
metadata:
  name: chat-0
  namespace: ml
  uid: p1
  labels: {app: chat}
  ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: chat, uid: s1, controller: true}]
spec: {nodeName: n0, containers: [{name: main, image: vllm/vllm-openai}]}
status:
  phase: Running
  containerStatuses:
  - name: main
    image: vllm/vllm-openai
    imageID: x
    ready: false
    restartCount: 4
    state: {waiting: {reason: CrashLoopBackOff}}
    lastState: {terminated: {exitCode: 1, reason: Error, finishedAt: "2026-01-15T11:58:00Z"}}
"""


def kept(*lines: str, at: datetime = NOW) -> Callable[[Seen], Reply]:
    """A Loki that has these lines, by the labels of Promtail."""
    values = [[str(int(at.timestamp()) * 10**9 + index), line] for index, line in enumerate(lines)]
    body = {"status": "success", "data": {"resultType": "streams", "result": [{"stream": {"pod": "chat-0"}, "values": values}]}}
    return lambda _: Reply(body=json.dumps(body).encode())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("refusal", "previous"),
    [
        (status(404, "NotFound", 'pods "chat-0" not found'), False),
        (status(400, "BadRequest", 'previous terminated container "main" in pod "chat-0" not found'), True),
        (status(500, "InternalError", 'Get "https://10.0.0.1:10250/containerLogs/ml/chat-0/main": dial tcp: connection refused'), False),
    ],
)
async def test_what_the_kubelet_has_no_more(tmp_path: Path, refusal: Answer, previous: bool) -> None:
    reading, seen = await read(tmp_path, refusal, kept("loading", OOM, at=datetime.now(UTC)), previous=previous)
    assert (reading.value.lines, reading.missing) == (("loading", OOM), ())
    assert "read from Loki" in (reading.value.cut or "")
    assert len(seen) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    "refusal",
    [
        status(403, "Forbidden", "pods/log is forbidden"),
        # A container that has not begun; what its name wrote earlier was another pod's.
        status(400, "BadRequest", 'container "main" in pod "chat-0" is waiting to start: PodInitializing'),
    ],
)
async def test_what_is_not_looked_for_elsewhere(tmp_path: Path, refusal: Answer) -> None:
    reading, seen = await read(tmp_path, refusal, kept("secret"), previous=False)
    assert (reading.value.lines, seen) == ((), [])
    assert reading.missing


@pytest.mark.anyio
async def test_nobody_is_shown_logs_that_their_own_permissions_might_not(tmp_path: Path) -> None:
    gone = status(404, "NotFound", "gone")
    reading, seen = await read(tmp_path, gone, kept("secret"), previous=False, impersonate=Impersonation("alice"))
    assert (reading.value.lines, seen) == ((), [])


@pytest.mark.anyio
async def test_both_reasons_are_named_where_neither_has_it(tmp_path: Path) -> None:
    reading, _ = await read(tmp_path, status(404, "NotFound", "gone"), lambda _: Reply(401, b"no org id"), previous=False)
    assert [gap.why for gap in reading.missing] == [Why.NOT_FOUND, Why.UNAUTHENTICATED]
    assert "monitoring.tenant" in reading.missing[1].next_step


async def read(
    tmp_path: Path, refusal: Answer, keeps: Callable[[Seen], Reply], *, previous: bool, impersonate: Impersonation | None = None
) -> tuple[Reading[LogText], list[Seen]]:
    with answering(keeps) as loki:
        async with running() as api:
            api.reply("/version", document({"gitVersion": "v1.37.2"}))
            api.reply("/api/v1/namespaces/ml/pods/chat-0/log", refusal)
            settings = load({"kubeconfig": kubeconfig(tmp_path, api.url), "loki": loki.url}, None)
            async with open_reader(settings, None, None, impersonate) as reader:
                return await reader.logs(CONTAINER, previous=previous, limit_bytes=10_000), loki.seen


def test_a_recording_is_diagnosed_with_the_logs_of_its_own_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(recording(tmp_path / "r", CRASHED))
    with answering(kept(OOM)) as loki:
        assert run(["diagnose", "--recording", folder, "--now", NOW.isoformat(), "--loki", loki.url, "-o", "json"]) == 0
    [cause] = json.loads(capsys.readouterr().out)["causes"]
    assert (cause["class"], cause["object"]["name"]) == ("inference/cuda-oom", "chat")
    assert {int(seen.query["end"][0]) for seen in loki.seen} == {int(NOW.timestamp()) * 10**9}


def test_why_asks_the_same_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(recording(tmp_path / "r", CRASHED))
    with answering(kept(OOM)) as loki:
        assert run(["why", "failed", "chat", "-n", "ml", "--recording", folder, "--now", NOW.isoformat(), "--loki", loki.url]) == 0
    assert "Model does not fit into the memory of the GPU" in capsys.readouterr().out
    assert loki.seen


def test_doctor_says_whether_it_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["--state", str(tmp_path / "state"), "--kubeconfig", kubeconfig(tmp_path, "https://127.0.0.1:1"), "doctor"]
    with answering(Reply(body=b'{"status": "success", "data": ["pod"]}')) as loki:
        monkeypatch.setenv("SMOKEJUMPER_LOKI", loki.url)
        run(command)
        assert f"ok       loki: {loki.url}" in capsys.readouterr().out
    monkeypatch.setenv("SMOKEJUMPER_LOKI", "http://127.0.0.1:1")
    run(command)
    assert "missing  loki: unreachable" in capsys.readouterr().out
