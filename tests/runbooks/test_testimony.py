from __future__ import annotations

import pytest

from runbooks import testimony as said
from runbooks.causes import explain
from runbooks.detectors.registry import detect
from runbooks.finding import Certainty
from runbooks.testimony import State, observed_calls
from tests.runbooks.specimens import CRASHING, pod, service, terminated, waiting
from tests.runbooks.worlds import LogKey, world

REFUSED = "dial tcp 10.96.0.7:80: connect: connection refused"
APP = ("shop", "web-5d4f8-abcde", "app")


def heard(text: str, log: str, previous: str = "") -> said.Testimony:
    logs: dict[LogKey, str] = {APP: log}
    if previous:
        logs[(*APP, True)] = previous
    (testimony,) = said.testimonies(world(text, logs=logs))
    return testimony


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (pod(**CRASHING), State.FAILING),
        (pod(last=terminated(1), restarts=3), State.FAILING),
        (pod(), State.UNREADY),
        (pod(ready=True), State.RUNNING),
        (pod(init=True, phase="Pending"), State.STARTING),
        (pod(init=True, phase="Pending", state=waiting("CrashLoopBackOff"), last=terminated(1)), State.FAILING),
    ],
)
def test_how_the_container_is_doing(text: str, state: State) -> None:
    assert heard(text, "hello").state is state


def test_last_words_of_a_failing_container_are_proof() -> None:
    testimony = heard(pod(**CRASHING), f"starting\n{REFUSED}")
    assert testimony.certainty is Certainty.PROVEN
    assert testimony.sign is not None


def test_of_two_runs_the_one_that_says_more_is_heard() -> None:
    testimony = heard(pod(**CRASHING), "starting", previous=f"starting\n{REFUSED}")
    assert testimony.previous
    assert testimony.sign is not None


QUIET = "\n".join(f"request {number} served" for number in range(200))
TROUBLED = "\n".join([REFUSED] * 8)


def test_of_one_that_serves_between_its_deaths_the_last_run_is_heard() -> None:
    def said_before(restarts: int, at: str, exit_code: int = 1) -> bool:
        text = pod(ready=True, last=terminated(exit_code, finished=at), restarts=restarts)
        return heard(text, QUIET, previous=f"{QUIET}\n{REFUSED}").sign is not None

    assert said_before(6, "2026-01-15T11:58:00Z")
    assert not said_before(1, "2026-01-15T11:58:00Z")
    assert not said_before(6, "2026-01-15T11:58:00Z", 137)
    assert not said_before(6, "2026-01-14T11:58:00Z")


@pytest.mark.parametrize(
    ("log", "certainty"),
    [
        (f"{QUIET}\n{TROUBLED}", Certainty.LIKELY),
        (f"{TROUBLED}\n{QUIET}", Certainty.POSSIBLE),
        (TROUBLED, Certainty.LIKELY),
    ],
)
def test_of_a_running_container_only_what_goes_on_counts(log: str, certainty: Certainty) -> None:
    testimony = heard(pod(ready=True), log)
    assert testimony.sign is not None
    assert testimony.certainty is certainty


def test_what_it_got_over_does_not_count() -> None:
    assert heard(pod(ready=True), f"{REFUSED}\n{QUIET}").sign is None


def test_a_broken_service_explains_who_was_heard_to_fail_at_it() -> None:
    database = pod("db-77777-abcde", state=waiting("ImagePullBackOff", 'Back-off pulling image "x:1": not found'), phase="Pending")
    made = world(service("db", address="10.96.0.7") + database + pod(**CRASHING), logs={APP: f"starting\n{REFUSED}"})
    assert [ref.name for ref in observed_calls(made)[("shop", "db")]] == ["web"]
    diagnosis = explain(made, detect(made))
    assert [(cause.object.name, cause.code) for cause in diagnosis.causes] == [("db", "image.not-found")]


def stamped(minute: int, text: str) -> str:
    return f'{{"time":"2026-01-15T{9 + minute // 60:02d}:{minute % 60:02d}:00Z","msg":"{text}"}}'


def test_what_ended_long_before_the_log_did_is_over_however_few_lines_follow() -> None:
    over = "\n".join([*(stamped(minute, REFUSED) for minute in range(6)), stamped(8, "connected"), stamped(170, "request served")])
    going_on = "\n".join([*(stamped(minute, REFUSED) for minute in range(6)), stamped(8, "request served")])
    assert heard(pod(ready=True), over).certainty is Certainty.POSSIBLE
    assert heard(pod(ready=True), going_on).certainty is Certainty.LIKELY
