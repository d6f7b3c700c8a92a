"""The list of pods: worst first, kubectl's words, everything read in the growth whatever is shown."""

from __future__ import annotations

import pytest

from cluster.facts.pod import Pod
from cluster.recorded import RecordedReader
from mcp_server.errors import ToolRefusal
from mcp_server.tools.pods import BAD, HEALTHY, QUIET, WAITING, severity, status_message, status_word
from tests.mcp_server.incident import call, text
from tests.runbooks.worlds import world

READY = 'phase: Running, conditions: [{type: Ready, status: "True"}]'


def pod(status: str, spec: str = "{containers: [{name: c}]}", metadata: str = "{name: p, namespace: ml}") -> Pod:
    (made,) = world(f"kind: Pod\nmetadata: {metadata}\nspec: {spec}\nstatus: {status}").all(Pod)
    return made


@pytest.mark.parametrize(
    ("status", "word", "rank"),
    [
        (f"{{{READY}}}", "Running", HEALTHY),
        ("{phase: Succeeded}", "Completed", HEALTHY),
        ("{phase: Pending}", "Pending", WAITING),
        ("{phase: Failed, reason: Evicted}", "Evicted", BAD),
        ("{phase: Running, containerStatuses: [{name: c, state: {waiting: {reason: CrashLoopBackOff}}}]}", "CrashLoopBackOff", BAD),
        ("{phase: Running, containerStatuses: [{name: c, state: {terminated: {exitCode: 137, reason: OOMKilled}}}]}", "OOMKilled", BAD),
        ("{phase: Running, containerStatuses: [{name: c, state: {terminated: {exitCode: 3}}}]}", "ExitCode:3", BAD),
        ("{phase: Pending, containerStatuses: [{name: c, state: {waiting: {reason: ContainerCreating}}}]}", "ContainerCreating", WAITING),
        ("{phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 1}}}]}", "Init:ExitCode:1", BAD),
        (
            "{phase: Pending, initContainerStatuses: [{name: i, state: {waiting: {reason: CrashLoopBackOff}}}]}",
            "Init:CrashLoopBackOff",
            BAD,
        ),
        (f"{{{READY}, containerStatuses: [{{name: c, ready: true, restartCount: 2}}]}}", "Running", QUIET),
    ],
)
def test_status_words_are_those_of_kubectl(status: str, word: str, rank: int) -> None:
    made = pod(status, "{containers: [{name: c}], initContainers: [{name: i}]}")
    assert (status_word(made), severity(made)) == (word, rank)


def test_a_started_sidecar_does_not_hide_the_containers() -> None:
    spec = "{containers: [{name: c}], initContainers: [{name: i, restartPolicy: Always}]}"
    status = f"{{{READY}, initContainerStatuses: [{{name: i, started: true, state: {{running: {{}}}}}}]}}"
    assert status_word(pod(status, spec)) == "Running"


def test_a_deleted_pod_terminates() -> None:
    metadata = '{name: p, namespace: ml, deletionTimestamp: "2026-01-15T11:00:00Z"}'
    assert status_word(pod("{phase: Running}", metadata=metadata)) == "Terminating"


def test_the_last_run_is_told() -> None:
    made = pod(
        "{phase: Running, containerStatuses: [{name: c, state: {waiting: {reason: CrashLoopBackOff, message: back-off}},"
        " lastState: {terminated: {exitCode: 1, reason: Error, message: no model}}}]}"
    )
    assert status_message(made) == "back-off; c exited with 1 (Error); no model"


@pytest.mark.anyio
async def test_problems_are_listed_worst_first_and_everything_grows(reader: RecordedReader) -> None:
    answer = await call(reader, "pods_list")
    page = answer.render()
    assert [row[1] for row in page.structured["rows"]] == ["serve-5c9f7-abcde", "train-0"]
    assert page.lines[0] == "3 pods in all namespaces, 2 with problems"
    (read,) = answer.growth.kinds
    assert len(read.facts) == 3
    assert read.complete


@pytest.mark.anyio
async def test_filters_narrow_the_page_and_not_the_growth(reader: RecordedReader) -> None:
    answer = await call(reader, "pods_list", problem_only=False, node="cpu-1", namespace="web")
    assert [row[1] for row in answer.render().structured["rows"]] == ["shop-1"]
    assert answer.growth.kinds[0].namespaces == ("web",)


@pytest.mark.anyio
async def test_pages_of_one_join(reader: RecordedReader) -> None:
    first = (await call(reader, "pods_list", limit=1)).render()
    second = (await call(reader, "pods_list", limit=1, cursor=first.cursor)).render()
    assert [page.structured["rows"][0][1] for page in (first, second)] == ["serve-5c9f7-abcde", "train-0"]
    assert second.cursor is None
    with pytest.raises(ToolRefusal, match="other arguments"):
        (await call(reader, "pods_list", limit=1, namespace="ml", cursor=first.cursor)).render()


@pytest.mark.anyio
async def test_an_empty_namespace_that_does_not_exist_is_named(reader: RecordedReader) -> None:
    assert "namespace 'mll' does not exist, nearest namespaces: ml" in await text(reader, "pods_list", namespace="mll")
