"""Jobs and CronJobs: failed, suspended, never ending, or scheduled by a schedule that cannot work.

A Job that succeeded is left alone whatever its pods went through before, and so is a failed run that a later run of the same CronJob
made good.
Limits: runs that were cleaned up are not counted, and why a run's pods failed is told by the detectors of pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cluster.facts.event import Event
from cluster.facts.pod import Pod
from cluster.facts.workload import CronJob, Job
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from guardrails.accelerator import vendor_of
from runbooks.cron import fault_of
from runbooks.finding import Certainty, Detector, Evidence, Finding, LogWant, Source, cite

STALE = timedelta(days=1)
SIDECAR_PATIENCE = timedelta(minutes=2)
# The controller looks at schedules every ten seconds: a smaller deadline can miss every run
# (https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#starting-deadline).
SHORTEST_DEADLINE_SECONDS = 10
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_BACKOFF_MESSAGE = "reached the specified backoff limit"
_TRAINING_OWNERS = frozenset(
    {"JobSet", "TrainJob", "PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob", "RayJob", "LeaderWorkerSet"}
)
_TRAINING_LABELS = ("training.kubeflow.org/", "trainer.kubeflow.org/", "jobset.sigs.k8s.io/", "ray.io/")


def job_failed(world: World) -> Iterator[Finding]:
    """A Job that its controller gave up, or whose pods failed with none left to retry."""
    for job in world.all(Job):
        if done(job) or job.deleting:
            continue
        failed = job.condition("Failed") or job.condition("FailureTarget")
        given_up = failed is not None and failed.status == "True"
        event = _backoff_event(world, job)
        if not given_up and not job.status.failed:
            continue
        if made_good(world, job):
            continue
        limit = job.spec.backoff_limit
        reason = (failed.reason if failed else None) or (event.reason if event else None) or "its pods failed"
        since = (failed.last_transition_time if failed else None) or (event.first_seen if event else None)
        certainty = Certainty.POSSIBLE if job.status.active else Certainty.LIKELY
        if given_up or event is not None:
            certainty = Certainty.PROVEN
        if since is not None and world.now - since > STALE:
            certainty = Certainty.POSSIBLE
        exhausted = reason == "BackoffLimitExceeded" or (event is not None and _BACKOFF_MESSAGE in event.text)
        pods = _failed_pods(world, job)
        yield Finding(
            "job.backoff-exhausted-training" if exhausted and is_training(job) else "job.failed",
            world.top_owner(job.ref),
            certainty,
            (
                cite(
                    Source.FIELD,
                    job.ref,
                    "status.failed",
                    f"{job.status.failed} failed, {job.status.succeeded} succeeded, backoffLimit {limit}",
                ),
                *(
                    (cite(Source.FIELD, job.ref, "status.conditions[Failed]", f"{reason}: {failed.message or ''}", since),)
                    if failed
                    else ()
                ),
                *((cite(Source.EVENT, event.subject, event.reason, event.text, event.last_seen),) if event else ()),
                *(_exit_evidence(pod) for pod in pods[:3]),
            ),
            f"Job {job.namespace}/{job.name} failed: {reason}{f' ({failed.message})' if failed and failed.message else ''}; "
            f"{job.status.failed} pod(s) failed, backoff limit {limit}.",
            affects=tuple(pod.ref for pod in pods[:20]),
            since=since,
            wants=tuple(
                LogWant(ContainerRef(pod.namespace or "", pod.name, pod.spec.containers[0].name))
                for pod in pods[-1:]
                if pod.spec.containers
            ),
            lacks="why its pods failed",
        )


def done(job: Job) -> bool:
    """Whether the Job succeeded."""
    complete = job.condition("Complete") or job.condition("SuccessCriteriaMet")
    return job.status.completion_time is not None or (complete is not None and complete.status == "True")


def is_training(job: Job) -> bool:
    """Whether a Job trains a model, as far as its accelerators, owner and labels tell."""
    if job.controller is not None and job.controller.kind in _TRAINING_OWNERS:
        return True
    if any(key.startswith(_TRAINING_LABELS) for key in (*job.labels, *(job.template.metadata.labels or {}))):
        return True
    return any(
        vendor_of(resource) is not None
        for container in job.template.spec.containers
        for resource in (*(container.resources.limits or {}), *(container.resources.requests or {}))
    )


def _backoff_event(world: World, job: Job) -> Event | None:
    about = world.events(
        job.ref, "BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy", "FailedIndexes", "MaxFailedIndexesExceeded"
    )
    if about:
        return about[-1]
    # A recording may have lost what an event is about; with one failing Job in the namespace there is no doubt.
    orphans = [item for item in world.events(ObjectRef("", None, "")) if item.namespace == job.namespace and _BACKOFF_MESSAGE in item.text]
    failing = [item for item in world.all(Job) if item.namespace == job.namespace and item.status.failed]
    return orphans[-1] if orphans and failing == [job] else None


def made_good(world: World, job: Job) -> bool:
    """Whether a later run of the same CronJob succeeded."""
    owner = job.controller
    if owner is None or owner.kind != CronJob.kind or job.created is None:
        return False
    runs = world.owned_by(ObjectRef(CronJob.kind, job.namespace, owner.name))
    return any(isinstance(run, Job) and done(run) and run.created is not None and run.created > job.created for run in runs)


def _failed_pods(world: World, job: Job) -> tuple[Pod, ...]:
    pods = [pod for pod in world.pods_of(job.ref) if pod.status.phase != "Succeeded" and not pod.ready]
    return tuple(sorted(pods, key=lambda pod: (pod.created.timestamp() if pod.created else 0.0, pod.name)))


def _exit_evidence(pod: Pod) -> Evidence:
    for status in pod.all_statuses:
        ended = status.state.terminated or status.last_state.terminated
        if ended is not None and ended.exit_code:
            quote = f"exit code {ended.exit_code} {ended.reason or ''}".strip()
            return cite(Source.FIELD, pod.ref, f"status.containerStatuses[{status.name}].state.terminated", quote, ended.finished_at)
    return cite(Source.FIELD, pod.ref, "status.phase", f"{pod.status.phase} {pod.status.reason or ''}".strip())


def job_suspended(world: World) -> Iterator[Finding]:
    """A Job that somebody suspended; a Job that waits in a queue is the queue's matter."""
    for job in world.all(Job):
        if job.spec.suspend and not done(job) and not job.deleting and QUEUE_LABEL not in job.labels:
            suspended = job.condition("Suspended")
            yield Finding(
                "job.suspended",
                world.top_owner(job.ref),
                Certainty.PROVEN,
                (cite(Source.FIELD, job.ref, "spec.suspend", "true"),),
                f"Job {job.namespace}/{job.name} is suspended: it creates no pods until spec.suspend is false again.",
                since=suspended.last_transition_time if suspended else None,
            )


def cron_job_suspended(world: World) -> Iterator[Finding]:
    """A CronJob that somebody suspended."""
    for cron in world.all(CronJob):
        if cron.spec.suspend and not cron.deleting:
            last = cron.status.last_schedule_time
            yield Finding(
                "cronjob.suspended",
                cron.ref,
                Certainty.PROVEN,
                (
                    cite(Source.FIELD, cron.ref, "spec.suspend", "true"),
                    cite(Source.FIELD, cron.ref, "status.lastScheduleTime", last or "never"),
                ),
                f"CronJob {cron.namespace}/{cron.name} ({cron.spec.schedule}) is suspended; its last run was {_when(last)}.",
            )


def _when(at: datetime | None) -> str:
    return f"at {at:%Y-%m-%d %H:%M}" if at is not None else "never"


def invalid_schedule(world: World) -> Iterator[Finding]:
    """A CronJob whose schedule, time zone or starting deadline the controller cannot use."""
    for cron in world.all(CronJob):
        faults: list[str] = []
        evidence: list[Evidence] = []
        fault = fault_of(cron.spec.schedule)
        if fault is not None:
            faults.append(f"its schedule {cron.spec.schedule!r} is invalid: {fault}")
            evidence.append(cite(Source.FIELD, cron.ref, "spec.schedule", cron.spec.schedule))
        deadline = cron.spec.starting_deadline_seconds
        if deadline is not None and deadline < SHORTEST_DEADLINE_SECONDS:
            state = "negative" if deadline < 0 else f"shorter than the {SHORTEST_DEADLINE_SECONDS} s between two looks of the controller"
            faults.append(f"its startingDeadlineSeconds {deadline} is {state}")
            evidence.append(cite(Source.FIELD, cron.ref, "spec.startingDeadlineSeconds", deadline))
        events = world.events(cron.ref, "UnparseableSchedule", "InvalidSchedule", "UnknownTimeZone", "UnparsableSchedule")
        # The controller names the schedule that it could not use; what it said of an earlier one is history.
        events = tuple(event for event in events if event.reason == "UnknownTimeZone" or cron.spec.schedule in event.text)
        if events and not faults:
            faults.append(events[-1].text)
        evidence += [cite(Source.EVENT, cron.ref, event.reason, event.text, event.last_seen) for event in events[-1:]]
        if faults:
            proven = fault is not None or bool(events) or (deadline is not None and deadline < 0)
            yield Finding(
                "cronjob.invalid-schedule",
                cron.ref,
                Certainty.PROVEN if proven else Certainty.LIKELY,
                tuple(evidence),
                f"CronJob {cron.namespace}/{cron.name} cannot run as scheduled: {'; '.join(faults)}.",
                since=events[0].first_seen if events else None,
            )


def missed_schedules(world: World) -> Iterator[Finding]:
    """A CronJob whose controller reports missed start times."""
    for cron in world.all(CronJob):
        events = world.events(cron.ref, "TooManyMissedTimes", "FailedNeedsStart", "MissSchedule")
        if events and not cron.spec.suspend:
            last = events[-1]
            yield Finding(
                "cronjob.missed-schedules",
                cron.ref,
                Certainty.LIKELY,
                (
                    cite(Source.EVENT, cron.ref, last.reason, last.text, last.last_seen),
                    cite(Source.FIELD, cron.ref, "spec.startingDeadlineSeconds", cron.spec.starting_deadline_seconds or "(not set)"),
                ),
                f"CronJob {cron.namespace}/{cron.name} misses its runs: {last.text}",
                since=events[0].first_seen,
            )


def blocked_by_active_run(world: World) -> Iterator[Finding]:
    """A CronJob that forbids concurrent runs while an earlier run does not end."""
    for cron in world.all(CronJob):
        events = world.events(cron.ref, "JobAlreadyActive")
        running = [run for run in world.owned_by(cron.ref) if isinstance(run, Job) and run.status.active and not done(run)]
        if cron.spec.concurrency_policy != "Forbid" or not running or sum(event.times for event in events) < 2:
            continue
        oldest = min(running, key=lambda run: (run.created.timestamp() if run.created else 0.0, run.name))
        yield Finding(
            "cronjob.blocked-by-active-run",
            oldest.ref,
            Certainty.LIKELY,
            (
                cite(Source.EVENT, cron.ref, events[-1].reason, events[-1].text, events[-1].last_seen),
                cite(Source.FIELD, oldest.ref, "status.startTime", oldest.status.start_time or "unknown"),
            ),
            f"Job {oldest.namespace}/{oldest.name} still runs, and CronJob {cron.name} forbids concurrent runs: "
            f"{sum(event.times for event in events)} run(s) were skipped.",
            affects=(cron.ref,),
            since=oldest.status.start_time,
        )


def sidecar_blocks_completion(world: World) -> Iterator[Finding]:
    """A Job's pod whose work is done while another container keeps running, so that the Job never completes."""
    for pod in world.unready_pods():
        # One container of it has ended, so it is not ready.
        if pod.controller is None or pod.controller.kind != Job.kind or len(pod.spec.containers) < 2:
            continue
        statuses = pod.status.container_statuses or ()
        ended = [status for status in statuses if status.state.terminated is not None and status.state.terminated.exit_code == 0]
        running = [status for status in statuses if status.state.running is not None]
        if not ended or not running or len(ended) + len(running) != len(statuses):
            continue
        finished_at = max(
            (item.state.terminated.finished_at for item in ended if item.state.terminated and item.state.terminated.finished_at),
            default=None,
        )
        if finished_at is None or world.now - finished_at < SIDECAR_PATIENCE:
            continue
        minutes = int((world.now - finished_at).total_seconds() // 60)
        names = ", ".join(status.name for status in running)
        yield Finding(
            "job.never-completes",
            world.top_owner(pod.ref),
            Certainty.LIKELY,
            (
                *(
                    cite(Source.FIELD, pod.ref, f"status.containerStatuses[{item.name}].state.terminated.exitCode", 0, finished_at)
                    for item in ended
                ),
                *(cite(Source.FIELD, pod.ref, f"status.containerStatuses[{item.name}].state.running", "running") for item in running),
            ),
            f"Pod {pod.namespace}/{pod.name} did its work {minutes} minutes ago ({', '.join(item.name for item in ended)} ended with 0), "
            f"but container {names} keeps running, so its Job never completes.",
            affects=(pod.ref,),
            since=finished_at,
        )


DETECTORS: tuple[Detector, ...] = (
    job_failed,
    job_suspended,
    cron_job_suspended,
    invalid_schedule,
    missed_schedules,
    blocked_by_active_run,
    sidecar_blocks_completion,
)
