"""A program that refuses the value of one of its own settings, and programs that only print theirs."""

from __future__ import annotations

import pytest

from runbooks.detectors.settings import refused_setting
from runbooks.finding import Certainty
from tests.runbooks.worlds import world

CRASHING = """
---
kind: ConfigMap
metadata: {name: gate-v2, namespace: shop}
data: {UPSTREAM_URL: "http//router:8080", REQUEST_TIMEOUT_SECONDS: "60"}
---
kind: Pod
metadata: {name: gate-0, namespace: shop}
spec:
  containers:
    - name: gate
      envFrom: [{configMapRef: {name: gate-v2}}]
      env: [{name: WORKERS, value: "many"}, {name: MODE, value: fast}]
status:
  phase: Running
  containerStatuses:
    - name: gate
      restartCount: 4
      state: {waiting: {reason: CrashLoopBackOff}}
      lastState: {terminated: {exitCode: 1, finishedAt: "2026-01-15T11:59:00Z"}}
"""


@pytest.mark.parametrize(
    ("line", "where", "value"),
    [
        ('level=error msg="invalid setting UPSTREAM_URL" error="first path segment cannot contain colon"', "gate-v2", "http//router:8080"),
        ('panic: strconv.Atoi: parsing "many": WORKERS must be a number', "gate-0", "many"),
        ("ValueError: could not parse REQUEST_TIMEOUT_SECONDS", "gate-v2", "60"),
    ],
)
def test_the_setting_and_where_its_value_stands(line: str, where: str, value: str) -> None:
    (finding,) = refused_setting(world(CRASHING, logs={("shop", "gate-0", "gate"): f"starting\n{line}\n"}))
    log, source = finding.evidence
    assert (finding.code, finding.subject.name, finding.certainty) == ("config.value-refused", "gate-0", Certainty.PROVEN)
    assert line.strip() == log.quote
    assert (source.object.name, value in source.quote) == (where, True)


@pytest.mark.parametrize(
    "line",
    [
        "settings loaded UPSTREAM_URL=http//router:8080 REQUEST_TIMEOUT_SECONDS=60",  # printed, not refused
        "invalid setting DOWNSTREAM_URL",  # not one of its settings
        "invalid setting MY_UPSTREAM_URL_2",  # a longer name
        "ERROR: running in fast MODE_X",  # no key of its own
    ],
)
def test_what_is_only_printed_accuses_nobody(line: str) -> None:
    assert list(refused_setting(world(CRASHING, logs={("shop", "gate-0", "gate"): f"{line}\n"}))) == []


def test_a_container_that_serves_is_left_alone() -> None:
    serving = CRASHING.replace("restartCount: 4", "restartCount: 0\n      ready: true").replace(
        "state: {waiting: {reason: CrashLoopBackOff}}", "state: {running: {startedAt: 2026-01-15T11:00:00Z}}"
    )
    serving = serving.replace('      lastState: {terminated: {exitCode: 1, finishedAt: "2026-01-15T11:59:00Z"}}\n', "")
    assert list(refused_setting(world(serving, logs={("shop", "gate-0", "gate"): "invalid setting UPSTREAM_URL\n"}))) == []
