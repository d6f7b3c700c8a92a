"""How detectors of this folder walk over pods that are in trouble: which pods, which containers, since when, told by which event.

It decides nothing; a pod that runs well is never handed out, so that a large healthy cluster costs one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from msgspec import Struct

from cluster.facts.container import Container, ContainerStatus, Terminated
from cluster.facts.event import Event
from cluster.facts.pod import Pod
from cluster.facts.workload import Deployment, Job, ReplicaSet
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks.detectors.jobs import done, made_good
from runbooks.finding import Evidence, LogWant, Source, cite

# A ready container whose last death is older than this has recovered; an alert on restarts (KubePodCrashLooping) looks back as far.
RECENT = timedelta(minutes=30)


class Trouble(Struct, frozen=True):
    """One container that is not serving, and the pod around it. `init` when it is an init container."""

    pod: Pod
    status: ContainerStatus
    init: bool

    @property
    def reason(self) -> str:
        """Why it waits, in the kubelet's word; empty when it runs or has ended. `Init:` prefixes of printed tables are dropped."""
        waiting = self.status.state.waiting
        return ((waiting.reason if waiting else None) or "").removeprefix("Init:")

    @property
    def printed_init(self) -> bool:
        """Whether a printed table shows an init container's trouble as the pod's own."""
        waiting = self.status.state.waiting
        return ((waiting.reason if waiting else None) or "").startswith("Init:")

    @property
    def message(self) -> str:
        waiting = self.status.state.waiting
        return (waiting.message if waiting else None) or ""

    @property
    def last_end(self) -> Terminated | None:
        """How it last ended: now, or before the current attempt."""
        return self.status.state.terminated or self.status.last_state.terminated

    @property
    def container(self) -> Container | None:
        return self.pod.container(self.status.name)

    @property
    def ref(self) -> ContainerRef:
        return container_ref(self.pod, self.status.name)

    @property
    def path(self) -> str:
        """The field that holds its status, for evidence."""
        field = "initContainerStatuses" if self.init else "containerStatuses"
        return f"status.{field}[{self.status.name}]"


def container_ref(pod: Pod, container: str) -> ContainerRef:
    return ContainerRef(pod.namespace or "", pod.name, container)


def troubled_pods(world: World) -> tuple[Pod, ...]:
    """Pods that exist to run and do not: neither succeeded, nor being deleted, nor ready with quiet containers, nor a failed attempt at
    what a later one did."""
    return world.once(_troubled_pods)


def _troubled_pods(world: World) -> tuple[Pod, ...]:
    return tuple(pod for pod in _troubled_among(world.all(Pod)) if not _overcome(world, pod))


def _overcome(world: World, pod: Pod) -> bool:
    """Whether a pod failed for good and its Job, or a later run of its CronJob, succeeded all the same."""
    if pod.status.phase != "Failed":
        return False
    jobs = (world.get(Job, ref.namespace, ref.name) for ref in world.owner_chain(pod.ref) if ref.kind == Job.kind)
    return any(job is not None and (done(job) or made_good(world, job)) for job in jobs)


def _troubled_among(pods: Iterable[Pod]) -> Iterator[Pod]:
    for pod in pods:
        if pod.deleting or pod.status.phase == "Succeeded":
            continue
        statuses, before = pod.status.container_statuses, pod.status.init_container_statuses
        if (not pod.ready if not statuses else any(map(_troubled, statuses))) or (
            before is not None and any(_blocking(pod, status) for status in before)
        ):
            yield pod


def troubles(world: World) -> Iterator[Trouble]:
    """Every container that keeps its pod from serving, init containers first; one restarted moments ago counts."""
    for pod in troubled_pods(world):
        for status in pod.status.init_container_statuses or ():
            if _blocking(pod, status):
                yield Trouble(pod, status, True)
        for status in pod.status.container_statuses or ():
            if _troubled(status):
                yield Trouble(pod, status, False)


def _troubled(status: ContainerStatus) -> bool:
    """Not ready, or restarted; a container that ended well (`Completed` in a pod that still runs) is not in trouble by itself."""
    ended = status.state.terminated
    if ended is not None and ended.exit_code == 0 and ended.reason != "OOMKilled" and status.restart_count == 0:
        return False
    return not status.ready or status.restart_count > 0


def _blocking(pod: Pod, status: ContainerStatus) -> bool:
    container = pod.container(status.name)
    sidecar = container is not None and container.is_sidecar
    if sidecar:
        return _troubled(status)
    ended = status.state.terminated
    return not (ended is not None and ended.exit_code == 0)


def is_recent(moment: datetime | None, world: World, span: timedelta = RECENT) -> bool:
    """Whether something happened lately by the world's clock; an unknown time is not recent."""
    return moment is not None and world.now - moment <= span


def current_events(world: World, pod: Pod, *reasons: str) -> tuple[Event, ...]:
    """Events about this very pod, newest first."""
    return tuple(reversed(world.events(pod.ref, *reasons)))


def cite_event(event: Event) -> Evidence:
    times = f" (seen {event.times} times)" if event.times > 1 else ""
    return cite(Source.EVENT, event.subject, f"event {event.reason}", f"{event.text}{times}", event.last_seen)


def cite_status(trouble: Trouble, field: str, quote: object, at: datetime | None = None) -> Evidence:
    return cite(Source.FIELD, trouble.pod.ref, f"{trouble.path}.{field}", quote, at)


def short(message: str, limit: int = 160) -> str:
    """The end of a long message: runtimes wrap an error in where it passed, and say what it is last."""
    return message if len(message) <= limit else f"…{message[-limit:]}"


def wanted_logs(trouble: Trouble) -> tuple[LogWant, ...]:
    """The log of a container, and of its earlier run where it restarted."""
    current = (LogWant(trouble.ref),)
    return (*current, LogWant(trouble.ref, previous=True)) if trouble.status.restart_count > 0 else current


def onset(events: tuple[Event, ...], otherwise: datetime | None) -> datetime | None:
    """When the oldest of some events was first seen."""
    return min((event.first_seen for event in events if event.first_seen), default=otherwise)


def first_failure(world: World, trouble: Trouble) -> datetime | None:
    """When a container began to fail: its first back-off, else the end of its last run, else the creation of its pod."""
    events = world.events(trouble.pod.ref, "BackOff", "Failed", "Unhealthy")
    end = trouble.last_end
    return onset(events, (end.finished_at if end is not None else None) or trouble.pod.created)


def earlier_container(world: World, workload: ObjectRef, name: str) -> tuple[int, Container] | None:
    """The same container in the Deployment's previous revision, with that revision's number; None when no older ReplicaSet is known."""
    deployment = world.get(Deployment, workload.namespace, workload.name) if workload.kind == "Deployment" else None
    if deployment is None:
        return None
    owned = [fact for fact in world.owned_by(workload) if isinstance(fact, ReplicaSet) and fact.revision is not None]
    owned.sort(key=lambda replica_set: replica_set.revision or 0)
    if len(owned) < 2:
        return None
    earlier = owned[-2]
    container = next((item for item in earlier.template.spec.all_containers if item.name == name), None)
    return (earlier.revision or 0, container) if container else None
