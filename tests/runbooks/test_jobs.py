from __future__ import annotations

from typing import Any

from runbooks.causes import explain
from runbooks.detectors import jobs
from runbooks.finding import Certainty, Finding
from tests.runbooks.manifests import event, manifest, pod
from tests.runbooks.worlds import codes, world

GIVEN_UP = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": "2026-01-15T11:50:00Z"}
COMPLETE = {"type": "Complete", "status": "True"}


def job(name: str = "load", *, owner: str | None = None, created: str = "2026-01-15T11:00:00Z", **fields: Any) -> str:
    metadata: dict[str, Any] = {"creationTimestamp": created, **fields.pop("metadata", {})}
    if owner:
        metadata["ownerReferences"] = [{"kind": "CronJob", "name": owner, "controller": True}]
    return manifest("Job", name, metadata=metadata, **fields)


def cron(schedule: str = "*/5 * * * *", **spec: Any) -> str:
    return manifest("CronJob", "load", spec={"schedule": schedule, **spec})


def found(text: str) -> list[Finding]:
    made = world(text)
    return [finding for detector in jobs.DETECTORS for finding in detector(made)]


def test_a_job_that_its_controller_gave_up() -> None:
    findings = found(job(status={"failed": 7, "conditions": [GIVEN_UP]}))
    assert [(finding.code, finding.certainty) for finding in findings] == [("job.failed", Certainty.PROVEN)]
    assert findings[0].since is not None


def test_a_job_that_succeeded_after_failures_is_fine() -> None:
    assert found(job(status={"failed": 3, "succeeded": 1, "conditions": [COMPLETE]})) == []
    assert found(job(status={"succeeded": 1, "failed": 1, "completionTime": "2026-01-15T11:50:00Z"})) == []


def test_failures_without_a_verdict_are_less_certain() -> None:
    assert [finding.certainty for finding in found(job(status={"failed": 1}))] == [Certainty.LIKELY]
    assert [finding.certainty for finding in found(job(status={"failed": 1, "active": 1}))] == [Certainty.POSSIBLE]
    assert found(job(status={"active": 1})) == []


def test_an_old_failure_is_only_possible() -> None:
    old = {**GIVEN_UP, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    assert [finding.certainty for finding in found(job(status={"failed": 7, "conditions": [old]}))] == [Certainty.POSSIBLE]


def test_a_later_run_makes_good() -> None:
    failed = job("load-1", owner="load", status={"failed": 7, "conditions": [GIVEN_UP]})
    good = job("load-2", owner="load", created="2026-01-15T11:55:00Z", status={"succeeded": 1, "conditions": [COMPLETE]})
    assert codes(found(cron() + failed)) == {"job.failed"}
    assert found(cron() + failed + good) == []


def test_an_event_that_lost_its_object_counts_for_the_only_failing_job() -> None:
    orphan = manifest("Event", "e", reason="BackoffLimitExceeded", message="Job has reached the specified backoff limit", involvedObject={})
    assert [finding.certainty for finding in found(job(status={"failed": 1}) + orphan)] == [Certainty.PROVEN]


def test_a_training_job_is_called_one() -> None:
    trainer = {"template": {"spec": {"containers": [{"name": "main", "resources": {"limits": {"nvidia.com/gpu": 8}}}]}}}
    status = {"failed": 7, "conditions": [GIVEN_UP]}
    assert codes(found(job(spec=trainer, status=status))) == {"job.backoff-exhausted-training"}
    late = {**GIVEN_UP, "reason": "DeadlineExceeded"}
    assert codes(found(job(spec=trainer, status={"failed": 1, "conditions": [late]}))) == {"job.failed"}


def test_a_suspended_job_unless_a_queue_holds_it() -> None:
    assert codes(found(job(spec={"suspend": True}))) == {"job.suspended"}
    assert found(job(spec={"suspend": True}, metadata={"labels": {"kueue.x-k8s.io/queue-name": "ml"}})) == []


def test_a_suspended_cron_job() -> None:
    assert codes(found(cron(suspend=True))) == {"cronjob.suspended"}
    assert found(cron()) == []


def test_schedules_and_deadlines_that_cannot_work() -> None:
    assert [(finding.code, finding.certainty) for finding in found(cron("invalid"))] == [("cronjob.invalid-schedule", Certainty.PROVEN)]
    assert [finding.certainty for finding in found(cron(startingDeadlineSeconds=-60))] == [Certainty.PROVEN]
    assert [finding.certainty for finding in found(cron(startingDeadlineSeconds=5))] == [Certainty.LIKELY]
    assert found(cron(startingDeadlineSeconds=60)) == []
    zone = event("CronJob", "load", "UnknownTimeZone", 'invalid timeZone: "Mars/Base": unknown time zone Mars/Base')
    assert codes(found(cron(timeZone="Mars/Base") + zone)) == {"cronjob.invalid-schedule"}


def test_missed_runs() -> None:
    missed = event("CronJob", "load", "TooManyMissedTimes", "too many missed start times: 101. Set or decrease startingDeadlineSeconds")
    assert codes(found(cron() + missed)) == {"cronjob.missed-schedules"}
    assert codes(found(cron(suspend=True) + missed)) == {"cronjob.suspended"}


def test_a_run_that_does_not_end_blocks_the_next() -> None:
    active = job("load-1", owner="load", status={"active": 1, "startTime": "2026-01-15T09:00:00Z"})
    skipped = event("CronJob", "load", "JobAlreadyActive", "Not starting job because prior execution is running", count=12)
    findings = found(cron(concurrencyPolicy="Forbid") + active + skipped)
    assert [(finding.code, finding.subject.name) for finding in findings] == [("cronjob.blocked-by-active-run", "load-1")]
    assert found(cron(concurrencyPolicy="Allow") + active + skipped) == []


def test_a_side_container_that_keeps_a_job_from_completing() -> None:
    def run(finished: str, exit_code: int = 0) -> str:
        ended = {"name": "main", "state": {"terminated": {"exitCode": exit_code, "finishedAt": finished}}}
        status = {"phase": "Running", "containerStatuses": [ended, {"name": "proxy", "state": {"running": {}}}]}
        return pod("load-x", owner=("Job", "load"), status=status, containers=[{"name": "main"}, {"name": "proxy"}])

    assert codes(found(job(status={"active": 1}) + run("2026-01-15T11:30:00Z"))) == {"job.never-completes"}
    assert found(job(status={"active": 1}) + run("2026-01-15T11:59:30Z")) == []
    assert found(job(status={"active": 1}) + run("2026-01-15T11:30:00Z", exit_code=1)) == []


def test_what_somebody_suspended_is_advice_and_no_cause() -> None:
    for text in (job(spec={"suspend": True}), cron(suspend=True)):
        diagnosis = explain(world(text), tuple(found(text)))
        assert diagnosis.causes == ()
        assert [item.class_ for item in diagnosis.advisories] == ["config/suspended"]


def test_what_the_controller_said_of_an_earlier_schedule_is_history() -> None:
    said = """
---
kind: Event
metadata: {name: e, namespace: shop}
involvedObject: {kind: CronJob, namespace: shop, name: load}
reason: InvalidSchedule
type: Warning
message: "invalid schedule: 0 3 31 2 * : time difference between two schedules is less than 1 second"
lastTimestamp: "2026-01-15T11:59:00Z"
"""
    assert "cronjob.invalid-schedule" in {item.code for item in found(cron("0 3 31 2 *") + said)}
    assert "cronjob.invalid-schedule" not in {item.code for item in found(cron("0 3 28 2 *") + said)}
