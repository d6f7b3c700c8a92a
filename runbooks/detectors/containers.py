"""Containers that do not start or do not stay up, as their statuses and the kubelet's events tell it (failures.md A01–A08, A23, A24).

What the process itself wrote is read by `applications`; here the exit code, the signal and the runtime's message speak.
Limits: a crash whose reason only the log can tell is reported with low weight and wants that log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from cluster.facts.container import Container, Terminated
from cluster.facts.event import Event
from cluster.facts.pod import Pod
from cluster.facts.workload import Job
from cluster.world import World
from runbooks.detectors.pods import (
    Trouble,
    cite_event,
    cite_status,
    current_events,
    first_failure,
    is_recent,
    onset,
    short,
    troubled_pods,
    troubles,
    wanted_logs,
)
from runbooks.finding import Certainty, Detector, Finding, Source, cite

START_REASONS = frozenset({"RunContainerError", "StartError", "ContainerCannotRun", "CreateContainerError"})
# Waits of a pod that another kind of detector explains: images, configuration, volumes.
STARTING_REASONS = frozenset({"ContainerCreating", "PodInitializing"})
# An init container that downloads or migrates may take a while; most finish within this.
INIT_PATIENCE = timedelta(minutes=5)
MANY_RESTARTS = 5
# Restarts that come further apart than this are no pattern.
HISTORY = timedelta(hours=6)

# Exit codes that say more than "error": shells (126, 127), signals (128 + n), sysexits.
EXIT_WORDS = {
    1: "a general error",
    2: "wrong use of the command line, or a panic",
    126: "the command is not executable",
    127: "the command was not found",
    132: "an illegal instruction (SIGILL)",
    134: "an abort (SIGABRT)",
    135: "a bus error (SIGBUS), often too little shared memory",
    136: "an arithmetic fault (SIGFPE)",
    137: "a kill (SIGKILL) without an out-of-memory record",
    139: "a segmentation fault (SIGSEGV)",
    143: "a termination request (SIGTERM)",
}
FATAL_SIGNALS = frozenset({132, 134, 135, 136, 139})

NOT_FOUND = re.compile(
    r'exec: "?(?P<name>[^":]+)"?: (?:executable file not found|stat .*no such file|no such file)|'
    r"executable file `?(?P<crun>[^`\s]+)`? not found|exec (?P<path>/\S+): no such file or directory|"
    r"starting container process caused: exec: \"(?P<old>[^\"]+)\"",
    re.I,
)
NOT_EXECUTABLE = re.compile(
    r'exec:? "?(?P<name>[^":]+)"?:? permission denied|is a directory: unknown|open executable: Permission denied', re.I
)
WRONG_ARCHITECTURE = re.compile(r"exec format error|exec user process caused.*exec format", re.I)
MOUNT_COLLISION = re.compile(
    r"duplicate mount point|not a directory: (?:unknown|Are you trying to mount)|Are you trying to mount a directory onto a file", re.I
)
NO_COMMAND = re.compile(r"no command specified|no entrypoint", re.I)
STARVED = re.compile(r"OOM-killed \(memory limit too low|memory limit too low|container init was OOM-killed", re.I)


def memory_kills(world: World) -> Iterator[Finding]:
    """Containers that the kernel killed at their memory limit; one that has run well for long since is left alone."""
    for trouble in troubles(world):
        end = trouble.last_end
        if trouble.reason == "OOMKilled":
            # Printed tables show the end of the last run as the present reason.
            end = end or Terminated(exit_code=137, reason="OOMKilled")
        if end is None or not _killed_for_memory(end, trouble):
            continue
        recovered = trouble.status.ready and trouble.status.state.running is not None
        if recovered and not is_recent(end.finished_at, world):
            continue
        owner = world.top_owner(trouble.pod.ref)
        limit = (trouble.container.resources.limits or {}).get("memory") if trouble.container else None
        bound = f"its memory limit of {limit}" if limit is not None else "the memory of its node or pod (it has no limit)"
        evidence = [cite_status(trouble, "lastState.terminated", f"{end.reason}, exit code {end.exit_code}", end.finished_at)]
        if limit is not None:
            evidence.append(cite(Source.FIELD, owner, f"containers[{trouble.status.name}].resources.limits.memory", limit))
        evidence += [cite_event(event) for event in current_events(world, trouble.pod, "BackOff")[:1]]
        yield Finding(
            code="container.oom-killed-recently" if recovered else "container.oom-killed",
            subject=owner,
            certainty=Certainty.PROVEN,
            evidence=tuple(evidence),
            explanation=f"Container {trouble.status.name} of {owner} was killed because it reached {bound};"
            f" it has restarted {trouble.status.restart_count} times.",
            affects=(trouble.pod.ref,),
            since=first_failure(world, trouble),
            wants=wanted_logs(trouble),
        )


def _killed_for_memory(end: Terminated, trouble: Trouble) -> bool:
    return end.reason == "OOMKilled" or bool(STARVED.search(f"{end.message or ''} {trouble.message}"))


def start_failures(world: World) -> Iterator[Finding]:
    """What the container runtime refuses to start or create, coded by its message."""
    for trouble in troubles(world):
        end = trouble.last_end
        started_badly = end is not None and end.reason in START_REASONS and not trouble.status.ready
        if trouble.reason not in START_REASONS and not started_badly:
            continue
        events = tuple(event for event in current_events(world, trouble.pod, "Failed", "FailedStart") if not _about_image(event))
        message = next(
            (text for text in ((end.message if end else None) or "", trouble.message, *(event.text for event in events)) if _telling(text)),
            (end.message if end else None) or trouble.message or (events[0].text if events else ""),
        )
        code, said = _start_code(message, trouble)
        owner = world.top_owner(trouble.pod.ref)
        evidence = [cite_status(trouble, "lastState.terminated" if started_badly else "state.waiting", message or trouble.reason)]
        evidence += [cite_event(event) for event in events[:1]]
        command = _command(trouble.container)
        if command:
            evidence.append(cite(Source.FIELD, owner, f"containers[{trouble.status.name}].command", command))
        yield Finding(
            code=code,
            subject=owner,
            certainty=Certainty.LIKELY if code in ("container.start-failed", "container.create-failed") else Certainty.PROVEN,
            evidence=tuple(evidence),
            explanation=f"Container {trouble.status.name} of {owner} cannot start: {said}.",
            affects=(trouble.pod.ref,),
            since=first_failure(world, trouble),
        )


def _about_image(event: Event) -> bool:
    return "pull image" in event.text.lower() or "ImagePull" in event.text


def _telling(text: str) -> bool:
    return any(pattern.search(text) for pattern in (NOT_FOUND, NOT_EXECUTABLE, WRONG_ARCHITECTURE, MOUNT_COLLISION, NO_COMMAND, STARVED))


def _start_code(message: str, trouble: Trouble) -> tuple[str, str]:
    if WRONG_ARCHITECTURE.search(message):
        return "container.wrong-architecture", "its program was built for another processor architecture (exec format error)"
    if STARVED.search(message):
        return "container.oom-killed", "its memory limit is too low even to start it"
    if MOUNT_COLLISION.search(message):
        return "container.mount-conflict", f"its mounts collide ({short(message)})"
    if NO_COMMAND.search(message):
        return "container.command-not-found", "neither its image nor its spec names a command"
    if NOT_EXECUTABLE.search(message):
        return "container.command-not-executable", f"its command may not be executed ({short(message)})"
    found = NOT_FOUND.search(message)
    if found:
        name = next((item for item in found.groups() if item), _command(trouble.container))
        return "container.command-not-found", f"its command {name!r} does not exist in the image"
    if trouble.reason == "CreateContainerError":
        return "container.create-failed", f"the runtime reports {short(message) or 'no reason'}"
    return "container.start-failed", f"the runtime reports {short(message) or 'no reason'}"


def _command(container: Container | None) -> str:
    return " ".join((*(container.command or ()), *(container.args or ()))) if container else ""


def crashes(world: World) -> Iterator[Finding]:
    """Containers that end again and again with an error, or end at once with success; the log will tell more."""
    for trouble in troubles(world):
        if not _crashing(trouble, world):
            continue
        end = trouble.last_end
        exit_code = end.exit_code if end is not None else None
        if exit_code == 0 and trouble.pod.spec.restart_policy != "Always":
            continue
        code, says = _crash_code(trouble, exit_code)
        owner = world.top_owner(trouble.pod.ref)
        evidence = [
            cite_status(
                trouble,
                "state",
                f"{trouble.reason or 'ended'}, {trouble.status.restart_count} restarts"
                + (f", last exit code {exit_code} ({end.reason})" if end is not None else ""),
                end.finished_at if end is not None else None,
            )
        ]
        if end is not None and end.message:
            evidence.append(cite_status(trouble, "lastState.terminated.message", end.message, end.finished_at))
        evidence += [cite_event(event) for event in current_events(world, trouble.pod, "BackOff")[:1]]
        yield Finding(
            code=code,
            subject=owner,
            certainty=Certainty.LIKELY,
            evidence=tuple(evidence),
            explanation=f"Container {trouble.status.name} of {owner} {says}; it has restarted {trouble.status.restart_count} times.",
            affects=(trouble.pod.ref,),
            since=first_failure(world, trouble),
            wants=wanted_logs(trouble),
            lacks="what the process wrote before it ended",
        )


def _crashing(trouble: Trouble, world: World) -> bool:
    end = trouble.last_end
    if trouble.reason in START_REASONS or (end is not None and end.reason in ("OOMKilled", *START_REASONS)):
        return False
    if trouble.status.ready or killed_by_probe(world, trouble) or _job_is_done(world, trouble.pod):
        return False
    if trouble.reason in ("CrashLoopBackOff", "Error"):
        return True
    if trouble.pod.status.phase == "Failed":
        return end is not None and end.exit_code != 0 and trouble.pod.status.reason is None
    return end is not None and end.exit_code != 0 and (trouble.status.state.terminated is not None or is_recent(end.finished_at, world))


def _job_is_done(world: World, pod: Pod) -> bool:
    """Whether the pod was one attempt of a Job that completed since."""
    for ref in world.owner_chain(pod.ref):
        job = world.get(Job, ref.namespace, ref.name) if ref.kind == "Job" else None
        complete = job.condition("Complete") if job is not None else None
        if complete is not None and complete.status == "True":
            return True
    return False


def killed_by_probe(world: World, trouble: Trouble) -> bool:
    """Whether the kubelet said that it killed this container for a failed liveness or startup probe."""
    return any(
        "probe, will be restarted" in event.text and f"ontainer {trouble.status.name} " in event.text
        for event in world.events(trouble.pod.ref, "Killing", "Unhealthy")
    )


def _crash_code(trouble: Trouble, exit_code: int | None) -> tuple[str, str]:
    if exit_code == 0:
        return "container.exits-at-once", "ends by itself with success although it should keep running"
    ended = "crashes" if exit_code is None else f"ends with exit code {exit_code}"
    word = EXIT_WORDS.get(exit_code or 0)
    says = f"{ended}, {word}" if word else ended
    if exit_code in (126, 127):
        return ("container.command-not-found" if exit_code == 127 else "container.command-not-executable"), says
    if exit_code in FATAL_SIGNALS:
        return "container.killed-by-signal", says
    return ("init.crash-loop" if trouble.init or trouble.printed_init else "container.crash-loop"), says


def restarts(world: World) -> Iterator[Finding]:
    """Ready containers that died many times and still do: the last time lately, or not longer ago than twice their usual interval."""
    for trouble in troubles(world):
        end = trouble.status.last_state.terminated
        if not trouble.status.ready or trouble.status.restart_count < MANY_RESTARTS or end is None or end.reason == "OOMKilled":
            continue
        if not _goes_on(world, trouble, end) or killed_by_probe(world, trouble):
            continue
        owner = world.top_owner(trouble.pod.ref)
        yield Finding(
            code="container.high-restarts",
            subject=owner,
            certainty=Certainty.LIKELY,
            evidence=(cite_status(trouble, "lastState.terminated", f"{end.reason}, exit code {end.exit_code}", end.finished_at),),
            explanation=f"Container {trouble.status.name} of {owner} is ready now but has restarted {trouble.status.restart_count} times,"
            f" the last time with exit code {end.exit_code}.",
            affects=(trouble.pod.ref,),
            since=end.finished_at,
            wants=wanted_logs(trouble),
        )


def _goes_on(world: World, trouble: Trouble, end: Terminated) -> bool:
    if is_recent(end.finished_at, world):
        return True
    if end.finished_at is None or trouble.pod.created is None:
        return False
    interval = (end.finished_at - trouble.pod.created) / trouble.status.restart_count
    return world.now - end.finished_at < 2 * interval and interval < HISTORY


def blocked_inits(world: World) -> Iterator[Finding]:
    """Init containers that run on and on, so that the pod never starts."""
    for trouble in troubles(world):
        running = trouble.status.state.running
        if not trouble.init or running is None or trouble.status.ready or (trouble.container and trouble.container.is_sidecar):
            continue
        started = running.started_at or trouble.pod.status.start_time or trouble.pod.created
        if started is None or world.now - started < INIT_PATIENCE:
            continue
        owner = world.top_owner(trouble.pod.ref)
        minutes = int((world.now - started).total_seconds() // 60)
        command = _command(trouble.container)
        evidence = [cite_status(trouble, "state.running.startedAt", started.isoformat(), started)]
        if command:
            evidence.append(cite(Source.FIELD, owner, f"initContainers[{trouble.status.name}].command", command))
        yield Finding(
            code="init.blocked",
            subject=owner,
            certainty=Certainty.LIKELY,
            evidence=tuple(evidence),
            explanation=f"{owner} cannot start: its init container {trouble.status.name} has run for {minutes} minutes and does not"
            + (f" finish ({short(command)})." if command else " finish."),
            affects=(trouble.pod.ref,),
            since=started,
            wants=wanted_logs(trouble),
        )


def failed_hooks(world: World) -> Iterator[Finding]:
    """postStart hooks that fail, which the kubelet answers by killing the container."""
    for pod in troubled_pods(world):
        events = current_events(world, pod, "FailedPostStartHook")
        if not events or not is_recent(events[0].last_seen, world):
            continue
        owner = world.top_owner(pod.ref)
        yield Finding(
            code="hook.failed",
            subject=owner,
            certainty=Certainty.PROVEN,
            evidence=(cite_event(events[0]),),
            explanation=f"The postStart hook of {owner} fails and its container is killed each time: {short(events[0].text)}",
            affects=(pod.ref,),
            since=onset(events, None),
        )


def port_conflicts(world: World) -> Iterator[Finding]:
    """Two containers of one pod that declare the same port while one of them cannot stay up: they share one network namespace."""
    for trouble in troubles(world):
        container = trouble.container
        if container is None or trouble.init or not _crashing(trouble, world):
            continue
        mine = {(port.container_port, port.protocol) for port in container.ports or ()}
        for other in trouble.pod.spec.containers:
            shared = mine & {(port.container_port, port.protocol) for port in other.ports or ()}
            if other.name == container.name or not shared:
                continue
            owner = world.top_owner(trouble.pod.ref)
            port, protocol = min(shared)
            yield Finding(
                code="container.port-conflict",
                subject=owner,
                certainty=Certainty.LIKELY,
                evidence=(
                    cite(Source.FIELD, owner, f"containers[{container.name}].ports", f"{port}/{protocol}"),
                    cite(Source.FIELD, owner, f"containers[{other.name}].ports", f"{port}/{protocol}"),
                    cite_status(trouble, "restartCount", trouble.status.restart_count),
                ),
                explanation=f"Containers {container.name} and {other.name} of {owner} both want port {port}/{protocol} of the same pod,"
                f" and {container.name} cannot stay up.",
                affects=(trouble.pod.ref,),
                since=trouble.pod.created,
                wants=wanted_logs(trouble),
            )


DETECTORS: tuple[Detector, ...] = (
    memory_kills,
    start_failures,
    crashes,
    restarts,
    blocked_inits,
    failed_hooks,
    port_conflicts,
)
