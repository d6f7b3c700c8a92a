from __future__ import annotations

from typing import Any

import pytest

from runbooks.detectors.applications import (
    crashes,
    failing_answers,
    growing_gauges,
    own_faults,
    recurring_errors,
    refused_configurations,
    refused_files,
    slow_calls,
)
from runbooks.finding import Certainty
from tests.runbooks.specimens import CRASHING, configmap, deployment, pod, replica_set, service, terminated, waiting
from tests.runbooks.worlds import LogKey, codes, world

APP = ("shop", "web-5d4f8-abcde", "app")
OWN = [
    ("exec /app: exec format error", "app.wrong-architecture"),
    ("listen tcp :80: bind: address already in use", "app.port-in-use"),
    ("/bin/sh: 1: serve: not found", "app.command-missing"),
    ("python: can't open file '/app/mian.py': [Errno 2] No such file or directory", "app.command-missing"),
    ("unknown flag: --listn", "app.bad-arguments"),
    ("panic: environment variable BASKET_ADDR not set", "app.missing-env"),
    ("ssl: certificate has expired", "app.certificate-expired"),
    ("java.lang.OutOfMemoryError: Java heap space", "app.memory-exhausted"),
    ("RuntimeError: can't start new thread", "app.limits-exhausted"),
    ("OSError: [Errno 28] No space left on device", "app.disk-full"),
    ("OSError: [Errno 30] Read-only file system: '/x'", "app.read-only-filesystem"),
    ("ERROR: deadlock detected", "app.lock-contention"),
    ("Error: Catalog Fail Feature Flag Enabled", "app.feature-flag"),
    ("ERROR consumer lag is growing: 120000 messages", "app.queue-backlog"),
    ("Retryable commit conflict for version 12", "app.commit-conflict"),
    ("RuntimeError: Table 'documents' was not found", "app.table-missing"),
    ("lance error: Not found: bucket/docs.lance/_versions/41.manifest", "app.table-version-missing"),
    ("botocore.exceptions.NoCredentialsError: Unable to locate credentials", "app.object-store-denied"),
    ("An error occurred (AccessDenied) when calling the PutObject operation", "app.object-store-denied"),
    ("ClientError: SlowDown: Please reduce your request rate", "app.object-store-throttled"),
    ("MaxRetryError: max retries exceeded", "app.retry-storm"),
    ("PANIC:  could not fsync file pg_wal/0001: Input/output error", "app.storage-io"),
    ("Error deserializing key/value for partition orders-0 at offset 7", "app.message-unreadable"),
]


@pytest.mark.parametrize(("line", "code"), OWN)
def test_a_failing_program_says_what_it_lacks(line: str, code: str) -> None:
    (finding,) = own_faults(world(pod(**CRASHING), logs={APP: f"starting\n{line}"}))
    assert (finding.code, finding.certainty, finding.subject.name) == (code, Certainty.PROVEN, "web")
    assert line in finding.evidence[0].quote


@pytest.mark.parametrize(("line", "code"), OWN)
def test_a_running_program_that_got_over_it_accuses_nobody(line: str, code: str) -> None:
    log = "\n".join([line, *(f"request {number} served" for number in range(100))])
    assert not list(own_faults(world(pod(ready=True), logs={APP: log}))), code


MOUNTED: dict[str, Any] = {
    "container": {"volumeMounts": [{"name": "settings", "mountPath": "/etc/app"}]},
    "volumes": [{"name": "settings", "configMap": {"name": "app-config"}}],
}
BAD_JSON = "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"


@pytest.mark.parametrize(("spec", "kind", "name"), [(MOUNTED, "ConfigMap", "app-config"), ({}, "Deployment", "web")])
def test_a_configuration_that_cannot_be_used(spec: dict[str, Any], kind: str, name: str) -> None:
    (finding,) = refused_configurations(world(pod(**CRASHING, **spec), logs={APP: BAD_JSON}))
    assert (finding.code, finding.subject.kind, finding.subject.name) == ("app.invalid-configuration", kind, name)


def test_a_running_program_may_refuse_what_a_client_sent() -> None:
    assert not list(refused_configurations(world(pod(ready=True, **MOUNTED), logs={APP: "\n".join([BAD_JSON] * 5)})))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("FileNotFoundError: [Errno 2] No such file or directory: '/etc/app/settings.yaml'", {"app.missing-file"}),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/tmp/x'", set()),
    ],
)
def test_a_file_that_its_configmap_should_hold(line: str, code: set[str]) -> None:
    made = world(configmap("app-config", {"setings.yaml": ""}) + pod(**CRASHING, **MOUNTED), logs={APP: line})
    found = list(refused_files(made))
    assert codes(found) == code
    assert not found or "setings.yaml" in found[0].explanation


@pytest.mark.parametrize(
    ("volume", "code"),
    [({"persistentVolumeClaim": {"claimName": "data"}}, {"app.file-permission"}), ({"configMap": {"name": "x"}}, set())],
)
def test_a_volume_that_may_not_be_written(volume: dict[str, Any], code: set[str]) -> None:
    spec: dict[str, Any] = {"container": {"volumeMounts": [{"name": "v", "mountPath": "/data"}]}, "volumes": [{"name": "v", **volume}]}
    made = world(pod(**CRASHING, **spec), logs={APP: "PermissionError: [Errno 13] Permission denied: '/data/cache'"})
    assert codes(refused_files(made)) == code


TRACE = 'Traceback (most recent call last):\n  File "/app/m.py", line 1, in <module>\n    f()\nZeroDivisionError: division by zero'


def test_a_crash_is_told_by_its_exception() -> None:
    (finding,) = crashes(world(pod(**CRASHING), logs={APP: TRACE}))
    assert (finding.code, finding.certainty) == ("app.crash", Certainty.PROVEN)
    assert "division by zero" in finding.explanation


def test_without_a_trace_the_last_error_line_is_likely() -> None:
    (finding,) = crashes(world(pod(**CRASHING), logs={APP: "starting\nERROR cannot continue: boom"}))
    assert finding.certainty is Certainty.LIKELY
    assert "boom" in finding.explanation


@pytest.mark.parametrize(
    ("text", "log"),
    [
        (pod(ready=True), TRACE),
        (pod(state=waiting("CrashLoopBackOff"), last=terminated(137, "OOMKilled"), restarts=3), TRACE),
        (pod(**CRASHING), "starting\nlistening on :80"),
        (pod(**CRASHING), "exec /app: exec format error"),
    ],
)
def test_no_crash_of_its_own(text: str, log: str) -> None:
    assert not list(crashes(world(text, logs={APP: log})))


def test_an_error_that_comes_again_and_again() -> None:
    log = "\n".join(
        f"Run {number} failed with error: division by zero" if number % 4 == 0 else f"Run {number} succeeded" for number in range(24)
    )
    assert codes(recurring_errors(world(pod(ready=True), logs={APP: log}))) == {"app.recurring-error"}
    once = "Run 0 failed with error: division by zero\n" + "\n".join(f"Run {number} succeeded" for number in range(60))
    assert not list(recurring_errors(world(pod(ready=True), logs={APP: once})))
    seldom = "\n".join(f"Run {number} failed with error: x" if number % 50 == 49 else f"Run {number} succeeded" for number in range(400))
    assert not list(recurring_errors(world(pod(ready=True), logs={APP: seldom})))


@pytest.mark.parametrize(
    ("status", "every", "found"), [(500, 4, {"app.recurring-error"}), (429, 4, {"app.rate-limited"}), (500, 30, set()), (404, 2, set())]
)
def test_a_server_that_answers_with_errors(status: int, every: int, found: set[str]) -> None:
    log = "\n".join(f'10.0.0.1 - - "GET /x HTTP/1.1" {status if number % every == 0 else 200} 12' for number in range(60))
    assert codes(failing_answers(world(pod(ready=True), logs={APP: log}))) == found


def test_the_least_slow_of_several_slow_programs_is_the_deepest() -> None:
    other = ("shop", "audit-77777-abcde", "app")
    logs: dict[LogKey, str] = {
        APP: "\n".join('{"responseTime":7000.1,"msg":"done"}' for _ in range(5)),
        other: "\n".join('{"responseTime":4000.1,"msg":"done"}' for _ in range(5)),
    }
    found = list(slow_calls(world(pod(ready=True) + pod("audit-77777-abcde", ready=True), logs=logs)))
    assert codes(found) == {"app.slow-calls"}
    assert {item.subject.name: item.certainty for item in found} == {"web": Certainty.POSSIBLE, "audit": Certainty.LIKELY}


def test_a_printed_number_that_only_grows() -> None:
    def heard(form: str) -> set[str]:
        return codes(growing_gauges(world(pod(ready=True), logs={APP: "\n".join(form.format(100 + 30 * step) for step in range(40))})))

    assert heard("INFO consumer lag={}") == {"app.queue-backlog"}
    assert heard("INFO heap used {}MB") == {"memory.leak"}
    assert heard("INFO orders today: {}") == set()


def test_fast_calls_are_no_fault() -> None:
    assert not list(slow_calls(world(pod(ready=True), logs={APP: "\n".join(["took 12 ms"] * 20)})))


def test_what_a_program_complains_of_since_its_address_was_changed() -> None:
    def heard(before: str) -> set[str]:
        environment = [{"name": "BOOKING_URL", "value": "http://offers:80"}]
        text = service("offers", address="10.96.0.9") + pod(ready=True, container={"env": environment}) + deployment()
        text += replica_set("web-4c3e7", 1, {"env": [{"name": "BOOKING_URL", "value": before}]})
        text += replica_set("web-5d4f8", 2, {"env": environment})
        line = '{"level":"error","message":"Request failed with status code 404","url":"http://offers:80/bookings"}'
        return codes(recurring_errors(world(text, logs={APP: f"{line}\n" * 6})))

    assert heard("http://booking:80") == {"config.changed-address"}
    assert heard("http://offers:80") == {"app.peer-errors"}
