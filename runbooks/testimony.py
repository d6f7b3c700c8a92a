"""What each log that was read says about its container, and how much that counts.

A failing container's last words count. Of one that runs well only what goes on counts: an error that an application got over long before
its last line accuses nobody. This module weighs; what a sign means is for the detectors.
"""

from __future__ import annotations

import enum
import re
from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from cluster.facts.container import Container, ContainerStatus
from cluster.facts.pod import Pod
from cluster.reference import ContainerRef, ObjectRef
from cluster.world import World
from runbooks import logs
from runbooks.dependencies import Dependencies, Stands
from runbooks.finding import Certainty, Evidence, Source, cite
from runbooks.logs import Report, Sign

# Of a container that runs: seen this often and again within the last lines, an error is going on.
GOING_ON_TIMES = 3
GOING_ON_LINES = 20
# What a program got over so long before its last line is history, however few lines it wrote since.
OVER_SECONDS = 1_800
# Seen this often but over by the end, it is worth a mention and no more.
PASSED_TIMES = 5
# A container that restarted this often does it again.
DIED_OFTEN = 5
# Success, and the signals by which the kernel and the kubelet end a container (SIGKILL, SIGTERM): its words are none about that.
ENDED_FROM_OUTSIDE = frozenset({0, 137, 143})
# Last words: lines this near the end of a failing container's log may tell why it failed.
LAST_WORDS = 50
_WORD = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")


class State(enum.Enum):
    """How the container is doing: FAILING has ended or ends again and again, UNREADY runs without serving, STARTING is an init container
    that has not finished, RUNNING serves."""

    FAILING = "failing"
    UNREADY = "unready"
    STARTING = "starting"
    RUNNING = "running"


class Testimony(Struct, frozen=True):
    """One container's log. `signs` are those that count, the most telling first; `certainty` is the most that they can carry."""

    pod: Pod
    workload: ObjectRef
    container: str
    state: State
    report: Report
    signs: tuple[Sign, ...]
    certainty: Certainty
    previous: bool

    @property
    def spec(self) -> Container | None:
        return self.pod.container(self.container)

    @property
    def sign(self) -> Sign | None:
        return self.signs[0] if self.signs else None

    def quote(self, sign: Sign) -> Evidence:
        """The line as evidence, with how often it was seen."""
        times = f" (seen {sign.times} times)" if sign.times > 1 else ""
        return cite(Source.LOG, self.pod.ref, self.where, f"{sign.text.strip()}{times}")

    @property
    def where(self) -> str:
        return f"{'previous log' if self.previous else 'log'} of {self.container}"


def testimonies(world: World) -> tuple[Testimony, ...]:
    """The testimony of every container whose log was read and holds anything; of two runs the one that says more about the failure."""
    by_container: dict[ContainerRef, dict[bool, Report]] = defaultdict(dict)
    for (container, previous), reading in world.logs.items():
        if reading.value.lines:
            by_container[container][previous] = logs.read(reading.value)
    return tuple(testimony for container, reports in by_container.items() for testimony in _testimony(world, container, reports))


def _testimony(world: World, reference: ContainerRef, reports: dict[bool, Report]) -> Iterator[Testimony]:
    pod = world.get(Pod, reference.namespace, reference.pod)
    if pod is None or pod.deleting:
        return
    state = _state(pod, reference.container)
    candidates = []
    for previous, report in reports.items():
        # The run before the present one says why that one ended; when the present one serves, its end is history, unless it will end so.
        ended = previous and (state is not State.RUNNING or _keeps_dying(world, pod, reference.container))
        counting = tuple(_counting(report, State.FAILING if ended else state))
        candidates.append((not counting and report.trace is None, previous is (state is not State.FAILING), previous, report, counting))
    _, _, previous, report, counting = min(candidates, key=lambda item: item[:2])
    yield Testimony(
        pod,
        world.top_owner(pod.ref),
        reference.container,
        state,
        report,
        counting,
        _certainty(state, report, counting),
        previous,
    )


def _state(pod: Pod, name: str) -> State:
    status = pod.container_status(name)
    if status is None:
        return State.FAILING if pod.status.phase == "Failed" else (State.RUNNING if pod.ready else State.UNREADY)
    if any(item.name == name for item in pod.status.init_container_statuses or ()):
        waits = status.state.running is not None and not status.ready
        return State.STARTING if waits else (State.RUNNING if _ended_well(status) or status.ready else State.FAILING)
    if status.ready:
        return State.RUNNING
    ended = status.state.terminated or status.last_state.terminated
    return State.FAILING if status.state.running is None or (ended is not None and ended.exit_code != 0) else State.UNREADY


def _keeps_dying(world: World, pod: Pod, name: str) -> bool:
    """Whether a container died often and lately: that it serves at this moment is chance."""
    status = pod.container_status(name)
    end = status.last_state.terminated if status is not None else None
    if status is None or end is None or end.finished_at is None or status.restart_count < DIED_OFTEN:
        return False
    return end.exit_code not in ENDED_FROM_OUTSIDE and (world.now - end.finished_at).total_seconds() < OVER_SECONDS


def _ended_well(status: ContainerStatus) -> bool:
    ended = status.state.terminated
    return ended is not None and ended.exit_code == 0


def _counting(report: Report, state: State) -> Iterator[Sign]:
    """The signs that count in a state, those near the end first."""
    if state is State.RUNNING:
        tail = max(GOING_ON_LINES, report.lines // 10)
        mostly = _mostly_trouble(report)
        going_on = [
            sign for sign in report.signs if not is_over(sign) and ((sign.times >= GOING_ON_TIMES and sign.from_end < tail) or mostly)
        ]
        yield from going_on
        yield from (sign for sign in report.signs if sign not in going_on and sign.times >= PASSED_TIMES)
        return
    near = [sign for sign in report.signs if sign.from_end < LAST_WORDS]
    yield from near
    yield from (sign for sign in report.signs if sign not in near and sign.times >= PASSED_TIMES)


def is_over(sign: Sign) -> bool:
    """Whether a log went on for long after the newest line of a sign, by its own clock."""
    return sign.over_seconds is not None and sign.over_seconds > OVER_SECONDS


def _mostly_trouble(report: Report) -> bool:
    """Whether half of all lines speak of trouble, or more."""
    return 2 * sum(sign.times for sign in (*report.signs, *report.errors)) >= report.lines


def _certainty(state: State, report: Report, signs: tuple[Sign, ...]) -> Certainty:
    if state is State.FAILING:
        return Certainty.PROVEN
    if state is not State.RUNNING:
        return Certainty.LIKELY
    tail = max(GOING_ON_LINES, report.lines // 10)
    current = signs and not is_over(signs[0]) and (signs[0].from_end < tail or _mostly_trouble(report))
    return Certainty.LIKELY if current else Certainty.POSSIBLE


def peer_named(world: World, testimony: Testimony, text: str) -> tuple[str | None, str] | None:
    """(namespace, name) of the one Service that a workload is configured to call and that an error line names; None when it names none
    or several."""
    dependencies = world.once(Dependencies)
    words = set(_WORD.findall(text.lower()))
    named = set()
    for item in dependencies.of(testimony.workload):
        found = dependencies.resolve(testimony.pod.namespace, item.address.host)
        if found.stands in (Stands.SERVICE, Stands.ABSENT) and (found.name in words or item.address.host in words):
            named.add((found.namespace, found.name))
    return named.pop() if len(named) == 1 else None


def observed_calls(world: World) -> dict[tuple[str | None, str], tuple[ObjectRef, ...]]:
    """Who was heard to fail at which Service: (namespace, name) of the Service to the workloads whose logs name it in an error."""
    dependencies = world.once(Dependencies)
    callers: dict[tuple[str | None, str], dict[ObjectRef, None]] = defaultdict(dict)
    for testimony in world.once(testimonies):
        for sign in testimony.signs:
            if sign.host is not None:
                found = dependencies.resolve(testimony.pod.namespace, sign.host)
                if found.stands in (Stands.SERVICE, Stands.ABSENT):
                    callers[(found.namespace, found.name)].setdefault(testimony.workload)
        for error in testimony.report.errors:
            peer = peer_named(world, testimony, error.text) if error.times >= GOING_ON_TIMES else None
            if peer is not None:
                callers[peer].setdefault(testimony.workload)
    return {service: tuple(workloads) for service, workloads in callers.items()}
