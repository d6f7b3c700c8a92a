from __future__ import annotations

from typing import Any

import pytest

from runbooks.detectors.containers import (
    blocked_inits,
    crashes,
    failed_hooks,
    memory_kills,
    port_conflicts,
    restarts,
    start_failures,
)
from runbooks.finding import LogWant
from tests.runbooks.specimens import CRASHING, document, event, pod, terminated, waiting
from tests.runbooks.worlds import codes, world

LIMITED = {"resources": {"limits": {"memory": "64Mi"}}}


def test_an_oom_kill_names_the_limit() -> None:
    made = world(pod(state=waiting("CrashLoopBackOff"), last=terminated(137, "OOMKilled"), restarts=4, container=LIMITED))
    (finding,) = memory_kills(made)
    assert finding.code == "container.oom-killed"
    assert "64Mi" in finding.explanation
    assert not list(crashes(made))


@pytest.mark.parametrize(
    ("finished", "code"), [("2026-01-15T11:50:00Z", {"container.oom-killed-recently"}), ("2026-01-14T00:00:00Z", set())]
)
def test_a_recovered_container_is_only_accused_for_a_while(finished: str, code: set[str]) -> None:
    made = world(pod(ready=True, restarts=1, last=terminated(137, "OOMKilled", finished=finished), container=LIMITED))
    assert codes(memory_kills(made)) == code


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('OCI runtime create failed: exec: "serve": executable file not found in $PATH: unknown', "container.command-not-found"),
        (
            "executable file `serve` not found in $PATH: No such file or directory: OCI runtime attempted to invoke",
            "container.command-not-found",
        ),
        ('exec: "/run.sh": permission denied: unknown', "container.command-not-executable"),
        ("exec /app/serve: exec format error", "container.wrong-architecture"),
        ('mount /a to rootfs at "/b": not a directory: unknown', "container.mount-conflict"),
        ("container init was OOM-killed (memory limit too low?)", "container.oom-killed"),
        ("failed to create shim task: something odd", "container.start-failed"),
    ],
)
def test_what_the_runtime_says_decides(message: str, code: str) -> None:
    made = world(pod(state=waiting("CrashLoopBackOff"), last=terminated(128, "StartError", message), restarts=3))
    assert codes(start_failures(made)) == {code}
    assert not list(crashes(made))


def test_the_event_tells_where_the_status_does_not() -> None:
    made = world(
        pod(state=waiting("RunContainerError"), restarts=1)
        + event("Failed", 'Error: failed to start container "app": exec: "serv": executable file not found in $PATH')
    )
    (finding,) = start_failures(made)
    assert finding.code == "container.command-not-found"
    assert "'serv'" in finding.explanation


def test_a_container_that_cannot_be_created() -> None:
    made = world(pod(state=waiting("CreateContainerError", 'failed to reserve container name "app_web"'), phase="Pending"))
    assert codes(start_failures(made)) == {"container.create-failed"}


@pytest.mark.parametrize(
    ("exit_code", "code"),
    [
        (1, "container.crash-loop"),
        (0, "container.exits-at-once"),
        (139, "container.killed-by-signal"),
        (127, "container.command-not-found"),
        (126, "container.command-not-executable"),
    ],
)
def test_the_exit_code_decides_and_the_log_is_wanted(exit_code: int, code: str) -> None:
    made = world(pod(state=waiting("CrashLoopBackOff"), last=terminated(exit_code), restarts=5))
    (finding,) = crashes(made)
    assert finding.code == code
    assert {want.previous for want in finding.wants if isinstance(want, LogWant)} == {False, True}


def test_a_crash_between_two_restarts_is_seen() -> None:
    assert codes(crashes(world(pod(last=terminated(1), restarts=5)))) == {"container.crash-loop"}


@pytest.mark.parametrize(
    "quiet",
    [
        pod(ready=True, restarts=40, last=terminated(1, finished="2026-01-10T00:00:00Z")),
        pod(state=terminated(0, "Completed"), phase="Succeeded", restartPolicy="OnFailure"),
        pod(last=terminated(137), restarts=3) + event("Killing", "Container app failed liveness probe, will be restarted"),
    ],
)
def test_old_restarts_ended_pods_and_probe_kills_are_no_crashes(quiet: str) -> None:
    assert not list(crashes(world(quiet)))


def test_an_attempt_of_a_job_that_completed_since_is_history() -> None:
    failed = document(
        kind="Pod",
        metadata={"name": "once-abcde", "namespace": "shop", "ownerReferences": [{"kind": "Job", "name": "once", "controller": True}]},
        spec={"containers": [{"name": "app"}], "restartPolicy": "Never"},
        status={"phase": "Failed", "containerStatuses": [{"name": "app", "state": terminated(1)}]},
    )
    job = {"kind": "Job", "metadata": {"name": "once", "namespace": "shop"}}
    assert codes(crashes(world(failed + document(**job)))) == {"container.crash-loop"}
    complete = document(**job, status={"conditions": [{"type": "Complete", "status": "True"}]})
    assert not list(crashes(world(failed + complete)))


def test_an_init_container_that_crashes() -> None:
    assert codes(crashes(world(pod(init=True, phase="Pending", **CRASHING)))) == {"init.crash-loop"}


@pytest.mark.parametrize(("finished", "found"), [("2026-01-15T11:55:00Z", {"container.high-restarts"}), ("2026-01-15T02:00:00Z", set())])
def test_many_restarts_count_while_they_are_fresh(finished: str, found: set[str]) -> None:
    assert codes(restarts(world(pod(ready=True, restarts=12, last=terminated(1, finished=finished))))) == found


def test_restarts_that_go_on_at_their_usual_interval_count() -> None:
    # Six hours old, twelve restarts: every half hour; the last one 40 minutes ago.
    young = pod(ready=True, restarts=12, last=terminated(1, finished="2026-01-15T11:20:00Z")).replace("T11:00:00Z", "T06:00:00Z")
    assert codes(restarts(world(young))) == {"container.high-restarts"}


def test_printed_tables_speak_of_an_init_container_and_of_memory() -> None:
    assert codes(crashes(world(pod(state=waiting("Init:CrashLoopBackOff"), phase="Pending", restarts=3)))) == {"init.crash-loop"}
    assert codes(memory_kills(world(pod(state=waiting("OOMKilled"), restarts=3)))) == {"container.oom-killed"}


@pytest.mark.parametrize(("started", "found"), [("2026-01-15T11:30:00Z", {"init.blocked"}), ("2026-01-15T11:58:00Z", set())])
def test_an_init_container_blocks_after_a_while(started: str, found: set[str]) -> None:
    assert codes(blocked_inits(world(pod(init=True, phase="Pending", state={"running": {"startedAt": started}})))) == found


def test_a_native_sidecar_may_run_on() -> None:
    assert not list(blocked_inits(world(pod(init=True, phase="Pending", container={"restartPolicy": "Always"}))))


@pytest.mark.parametrize(("ready", "found"), [(False, {"hook.failed"}), (True, set())])
def test_a_failing_hook(ready: bool, found: set[str]) -> None:
    made = world(pod(ready=ready) + event("FailedPostStartHook", "Exec lifecycle hook ([/hook]) for Container app failed - exit code 1"))
    assert codes(failed_hooks(made)) == found


@pytest.mark.parametrize(("other", "found"), [(8080, {"container.port-conflict"}), (9090, set())])
def test_two_containers_of_a_pod_on_one_port(other: int, found: set[str]) -> None:
    spec: dict[str, Any] = {
        "containers": [
            {"name": "app", "ports": [{"containerPort": 8080}]},
            {"name": "sidecar", "ports": [{"containerPort": other}]},
        ]
    }
    assert codes(port_conflicts(world(pod(**CRASHING, **spec)))) == found


def _run(name: str, at: str, code: int, phase: str, condition: str) -> str:
    """One run of a CronJob and its only pod."""
    cron: dict[str, Any] = {"kind": "CronJob", "name": "sync", "controller": True}
    job: dict[str, Any] = {"kind": "Job", "name": name, "controller": True}
    run = {"name": name, "namespace": "shop", "creationTimestamp": at, "ownerReferences": [cron]}
    ended = {"name": "main", "state": {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": at}}}
    return document(kind="Job", metadata=run, status={"conditions": [{"type": condition, "status": "True"}]}) + document(
        kind="Pod",
        metadata={"name": f"{name}-x", "namespace": "shop", "creationTimestamp": at, "ownerReferences": [job]},
        spec={"restartPolicy": "Never", "containers": [{"name": "main"}]},
        status={"phase": phase, "containerStatuses": [ended]},
    )


def test_a_failed_run_accuses_until_a_later_one_succeeds() -> None:
    cron = document(kind="CronJob", metadata={"name": "sync", "namespace": "shop"}, spec={"schedule": "0 * * * *"})
    failed = _run("sync-1", "2026-01-15T10:00:00Z", 1, "Failed", "Failed")
    good = _run("sync-2", "2026-01-15T11:00:00Z", 0, "Succeeded", "Complete")
    failed_again = _run("sync-3", "2026-01-15T11:30:00Z", 1, "Failed", "Failed")
    assert codes(crashes(world(cron + failed))) == {"container.crash-loop"}
    assert list(crashes(world(cron + failed + good))) == []
    (finding,) = crashes(world(cron + failed + good + failed_again))
    assert [ref.name for ref in finding.affects] == ["sync-3-x"]
