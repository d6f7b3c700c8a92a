"""Probes that fail, and whether the probe or the program is wrong (failures.md A14–A16, E11).

A probe is called wrong only when it asks for what the container does not offer: a port that nothing in the pod declares, a path that
answers 404, a command that does not exist, a protocol that the server does not speak, or a deadline of seconds.
Limits: everything else is a program that does not answer, and its log may say why. The kubelet probes from the node, so a NetworkPolicy
is never the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from msgspec import Struct

from cluster.facts.container import Container, Probe
from cluster.facts.event import Event
from cluster.facts.meta import condition
from cluster.facts.network import Service
from cluster.facts.pod import Pod
from cluster.facts.workload import Deployment
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.detectors.pods import Trouble, cite_event, cite_status, is_recent, troubles, wanted_logs
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite

KINDS = ("liveness", "readiness", "startup")
MESSAGE = re.compile(r"^(?:Container \S+ failed )?(?P<kind>liveness|readiness|startup) probe", re.I)
# A container killed within this of its start had no time to come up; the defaults of the API (3 failures, 10 s apart) give 30 s.
SHORT_BUDGET_SECONDS = 10
# A container that is not ready without any event is given this beyond what its own probes allow.
GRACE = timedelta(minutes=2)

MODEL_SERVER = re.compile(r"vllm|sglang|text-generation-inference|tritonserver|tensorrt|trtllm|llama|ollama|\btgi\b|kserve|lmdeploy", re.I)

PATH_ABSENT = re.compile(r"statuscode: (?:404|405|410)\b|HTTP probe failed with statuscode: 404")
NEEDS_LOGIN = re.compile(r"statuscode: (?:401|403|407)\b")
COMMAND_ABSENT = re.compile(r"executable file not found|no such file or directory|: not found|command not found|permission denied", re.I)
WRONG_PROTOCOL = re.compile(
    r"malformed HTTP|HTTP response to HTTPS client|first record does not look like a TLS handshake|wrong version number|"
    r"statuscode: 400\b|does not implement the grpc health protocol|unknown service grpc\.health|http2: frame too large|"
    r"error reading server preface",
    re.I,
)
PORT_ABSENT = re.compile(r"couldn't find port|could not find port|named port|invalid port", re.I)
NOT_LISTENING = re.compile(r"connection refused|failed to connect service|no route to host|connect: no such", re.I)
TOO_LATE = re.compile(r"deadline exceeded|timed? ?out|Client\.Timeout|i/o timeout", re.I)


class Failure(Struct, frozen=True):
    """A failing probe: its kind (liveness, readiness, startup), its definition where known, the newest event of it."""

    kind: str
    trouble: Trouble
    probe: Probe | None
    event: Event

    @property
    def text(self) -> str:
        return self.event.text

    @property
    def budget_seconds(self) -> int | None:
        """How long after its start a container may stay unresponsive before it is killed."""
        probe = self.probe
        return probe.initial_delay_seconds + probe.period_seconds * probe.failure_threshold if probe else None


def kills(world: World) -> Iterator[Finding]:
    """Containers that the kubelet kills because a liveness or startup probe fails."""
    for failure in _failures(world, ("liveness", "startup")):
        trouble = failure.trouble
        if trouble.status.restart_count == 0 or (trouble.status.ready and not is_recent(failure.event.last_seen, world)):
            continue
        if not _kills(world, failure):
            continue
        owner = world.top_owner(trouble.pod.ref)
        wrong = _what_is_wrong(world, failure)
        code, certainty, says = _kill_verdict(failure, wrong, proven_elsewhere=_answers_elsewhere(world, failure))
        yield Finding(
            code=code,
            subject=owner,
            certainty=certainty,
            evidence=_evidence(world, failure, owner),
            explanation=f"Container {trouble.status.name} of {owner} was restarted {trouble.status.restart_count} times because its"
            f" {failure.kind} probe fails: {says}.",
            affects=(trouble.pod.ref,),
            since=failure.event.first_seen,
            wants=() if certainty is Certainty.PROVEN else wanted_logs(trouble),
        )


def _answers_elsewhere(world: World, failure: Failure) -> bool:
    """Whether a ready pod of the same workload passes a probe of the same container on the same port: then the port is right."""
    port = failure.probe.port if failure.probe is not None else None
    own, name = failure.trouble.pod, failure.trouble.status.name
    if port is None or not NOT_LISTENING.search(failure.text):
        return False
    for pod in world.pods_of(world.top_owner(own.ref)):
        container = pod.container(name) if pod.ready and pod.ref.key != own.ref.key else None
        if container is not None and any(probe is not None and probe.port == port for probe in (_probe(container, kind) for kind in KINDS)):
            return True
    return False


def _kill_verdict(failure: Failure, wrong: str, *, proven_elsewhere: bool) -> tuple[str, Certainty, str]:
    asks = _asks(failure.probe)
    budget = failure.budget_seconds
    if wrong:
        return "probe.liveness-misconfigured", Certainty.PROVEN, f"{asks}, but {wrong}"
    late = f"it allows {budget} s after the start" if budget is not None else "it allows too little time"
    if _serves_model(failure.trouble.container):
        return "probe.kills-model-load", Certainty.LIKELY, f"{asks}; {late}, and the model server is still loading then"
    if budget is not None and budget <= SHORT_BUDGET_SECONDS:
        return "probe.liveness-too-aggressive", Certainty.LIKELY, f"{asks}; {late}"
    if failure.probe is not None and failure.probe.timeout_seconds <= 1 and TOO_LATE.search(failure.text):
        return "probe.liveness-too-aggressive", Certainty.LIKELY, f"{asks}, and no answer comes within {failure.probe.timeout_seconds} s"
    if proven_elsewhere:
        return (
            "probe.liveness-too-aggressive",
            Certainty.LIKELY,
            f"{asks}, where other pods of it do answer; {late}, and it is not up by then",
        )
    return "probe.liveness-failing", Certainty.LIKELY, f"{asks}, and gets: {_detail(failure.text)}"


def unready(world: World) -> Iterator[Finding]:
    """Containers that run but whose readiness probe fails, so that they get no traffic."""
    for failure in _failures(world, ("readiness",)):
        trouble = failure.trouble
        if trouble.status.ready or trouble.status.state.terminated is not None or trouble.reason:
            continue
        if _coming_up(world, trouble, failure.probe):
            continue
        owner = world.top_owner(trouble.pod.ref)
        wrong = _what_is_wrong(world, failure)
        yield Finding(
            code="probe.readiness-misconfigured" if wrong else "probe.readiness-failing",
            subject=owner,
            certainty=Certainty.PROVEN,
            evidence=_evidence(world, failure, owner),
            explanation=f"Container {trouble.status.name} of {owner} runs but is not ready: its readiness probe ({_asks(failure.probe)})"
            f" fails, {wrong or 'with: ' + _detail(failure.text)}.",
            affects=(trouble.pod.ref,),
            since=failure.event.first_seen,
            wants=() if wrong else wanted_logs(trouble),
        )


def silently_unready(world: World) -> Iterator[Finding]:
    """Containers that run and are not ready, while no event tells why."""
    for trouble in troubles(world):
        running = trouble.status.state.running
        if trouble.init or running is None or trouble.status.ready or trouble.pod.status.phase not in ("Running", "Unknown"):
            continue
        if world.events(trouble.pod.ref, "Unhealthy"):
            continue
        probe = trouble.container.readiness_probe if trouble.container else None
        started = running.started_at or trouble.pod.status.start_time or trouble.pod.created
        if started is None or _coming_up(world, trouble, probe):
            continue
        owner = world.top_owner(trouble.pod.ref)
        absent = _undeclared(trouble.pod, probe)
        if absent:
            yield _silent(trouble, owner, "readiness", probe, absent)
            continue
        yield Finding(
            code="pod.not-ready",
            subject=owner,
            certainty=Certainty.LIKELY,
            evidence=(cite_status(trouble, "ready", "false, state running", started),),
            explanation=f"Container {trouble.status.name} of {owner} runs but is not ready, and no event says why.",
            affects=(trouble.pod.ref,),
            since=started,
            wants=wanted_logs(trouble),
            lacks="the probe's failure in the events of the pod",
        )


def silently_killed(world: World) -> Iterator[Finding]:
    """Containers that end by a signal again and again while their liveness or startup probe asks for a port that nothing declares, and no
    event tells: events are kept for an hour, restarts go on."""
    for trouble in troubles(world):
        end = trouble.last_end
        if end is None or trouble.status.restart_count < 2 or end.exit_code not in (137, 143) or end.reason == "OOMKilled":
            continue
        if world.events(trouble.pod.ref, "Unhealthy", "Killing"):
            continue
        for kind in ("liveness", "startup"):
            probe = _probe(trouble.container, kind)
            absent = _undeclared(trouble.pod, probe)
            if absent:
                yield _silent(trouble, world.top_owner(trouble.pod.ref), kind, probe, absent)
                break


def _silent(trouble: Trouble, owner: ObjectRef, kind: str, probe: Probe | None, absent: str) -> Finding:
    """A probe that is wrong by its definition alone."""
    what = "is not ready" if kind == "readiness" else f"was ended {trouble.status.restart_count} times"
    return Finding(
        code="probe.readiness-misconfigured" if kind == "readiness" else "probe.liveness-misconfigured",
        subject=owner,
        certainty=Certainty.LIKELY,
        evidence=(cite(Source.FIELD, owner, f"containers[{trouble.status.name}].{kind}Probe", f"{_asks(probe)}; {absent}"),),
        explanation=f"Container {trouble.status.name} of {owner} {what}, and its {kind} probe ({_asks(probe)}) cannot succeed: {absent}.",
        affects=(trouble.pod.ref,),
        since=trouble.pod.created,
        wants=wanted_logs(trouble),
        lacks="the probe's failure in the events of the pod",
    )


def _undeclared(pod: Pod, probe: Probe | None) -> str:
    """Why a probe's port cannot be right, by what the pod declares; empty where it may be."""
    port = probe.port if probe is not None else None
    declared = {item.container_port for container in pod.spec.all_containers for item in container.ports or ()}
    if port is None or not declared:
        return ""
    if isinstance(port, str):
        names = {item.name for container in pod.spec.all_containers for item in container.ports or ()}
        return "" if port in names else f"no container port is called {port}"
    return "" if port in declared else f"the pod declares {', '.join(str(item) for item in sorted(declared))} and not {port}"


def _coming_up(world: World, trouble: Trouble, probe: Probe | None) -> bool:
    """Whether a container started so recently that not being ready is normal. One that has restarted has had its chance, and so has one
    whose rollout is over its deadline."""
    running = trouble.status.state.running
    started = (running.started_at if running else None) or trouble.pod.status.start_time or trouble.pod.created
    if started is None or trouble.status.restart_count or _overdue(world, trouble.pod):
        return False
    patience = probe.initial_delay_seconds + probe.period_seconds * probe.failure_threshold if probe else 0
    return world.now - started < GRACE + timedelta(seconds=patience)


def _overdue(world: World, pod: Pod) -> bool:
    """Whether the rollout that made the pod has exceeded its progress deadline, as the Deployment controller says."""
    owner = world.find(world.top_owner(pod.ref))
    progressing = condition(owner.status.conditions, "Progressing") if isinstance(owner, Deployment) else None
    return progressing is not None and progressing.status == "False" and progressing.reason == "ProgressDeadlineExceeded"


def _failures(world: World, kinds: tuple[str, ...]) -> Iterator[Failure]:
    """The newest failing event of each probe of each troubled container."""
    for trouble in troubles(world):
        if trouble.init and not (trouble.container and trouble.container.is_sidecar):
            continue
        events = world.events(trouble.pod.ref, "Unhealthy", "ProbeError")
        for kind in kinds:
            matching = [event for event in events if _kind(event) == kind and _about(event, trouble)]
            if matching:
                yield Failure(kind, trouble, _probe(trouble.container, kind), matching[-1])


def _kind(event: Event) -> str:
    found = MESSAGE.match(event.text)
    return found["kind"].lower() if found else ""


def _about(event: Event, trouble: Trouble) -> bool:
    """Whether the event is about this container: by its field path, else by being the only candidate with such a probe."""
    subject = event.involved_object or event.regarding
    path = subject.field_path if subject else None
    if path:
        return f"{{{trouble.status.name}}}" in path
    holders = [item.name for item in trouble.pod.spec.containers if _probe(item, _kind(event)) is not None]
    return not holders or trouble.status.name in holders


def _probe(container: Container | None, kind: str) -> Probe | None:
    if container is None:
        return None
    return {"liveness": container.liveness_probe, "readiness": container.readiness_probe, "startup": container.startup_probe}.get(kind)


def _kills(world: World, failure: Failure) -> bool:
    """Whether the probe really kills: the kubelet says so, or the container ends by a signal while the probe fails."""
    pod, name = failure.trouble.pod, failure.trouble.status.name
    if any(f"ontainer {name} failed" in event.text and "probe" in event.text for event in world.events(pod.ref, "Killing", "Unhealthy")):
        return True
    end = failure.trouble.last_end
    return end is not None and end.reason != "OOMKilled" and end.exit_code in (137, 143)


def _what_is_wrong(world: World, failure: Failure) -> str:
    """What the probe asks for in vain, in words; empty when the probe looks right."""
    text, probe, pod = failure.text, failure.probe, failure.trouble.pod
    if PATH_ABSENT.search(text):
        return f"the server has no such path ({_detail(text)})"
    if NEEDS_LOGIN.search(text):
        return f"the path asks for credentials that a probe does not have ({_detail(text)})"
    if PORT_ABSENT.search(text):
        return f"the container has no such port ({_detail(text)})"
    if probe is not None and probe.exec is not None:
        return f"its command does not exist in the container ({_detail(text)})" if COMMAND_ABSENT.search(text) else ""
    if WRONG_PROTOCOL.search(text):
        return f"the server speaks another protocol ({_detail(text)})"
    port = probe.port if probe is not None else None
    if port is None or not (NOT_LISTENING.search(text) or TOO_LATE.search(text)):
        return ""
    offered = _offered(world, pod)
    if isinstance(port, str):
        names = {item.name for container in pod.spec.all_containers for item in container.ports or ()}
        return "" if port in names else f"no container port is called {port}"
    if offered and port not in offered:
        return f"nothing in the pod listens on port {port}; it offers {', '.join(str(item) for item in sorted(offered))}"
    return ""


def _offered(world: World, pod: Pod) -> set[int]:
    """Port numbers that the pod declares or that its Services send traffic to; a container may listen on more than it declares."""
    declared = {item.container_port for container in pod.spec.all_containers for item in container.ports or ()}
    return declared or {port for service in world.services_selecting(pod) for port in _targets(service)}


def _targets(service: Service) -> Iterator[int]:
    for port in service.spec.ports or ():
        target = port.target_port if port.target_port is not None else port.port
        if isinstance(target, int):
            yield target


def _serves_model(container: Container | None) -> bool:
    if container is None:
        return False
    words = " ".join((container.image, *(container.command or ()), *(container.args or ())))
    return bool(MODEL_SERVER.search(words))


def _asks(probe: Probe | None) -> str:
    """What a probe asks, in words."""
    if probe is None:
        return "its definition was not read"
    if probe.http_get is not None:
        return f"GET {probe.http_get.path} on port {probe.http_get.port}"
    if probe.tcp_socket is not None:
        return f"a connection to port {probe.tcp_socket.port}"
    if probe.grpc is not None:
        return f"a gRPC health check on port {probe.grpc.port}"
    return f"the command {' '.join(probe.exec.command)!r}" if probe.exec is not None else "nothing"


def _detail(text: str) -> str:
    """What came back, without the kubelet's introduction."""
    detail = text.partition(":")[2].strip() or text.strip()
    return detail[:200] or "no answer"


def _evidence(world: World, failure: Failure, owner: ObjectRef) -> tuple[Evidence, ...]:
    trouble = failure.trouble
    found = [cite_event(failure.event)]
    if failure.probe is not None:
        probe = failure.probe
        quote = (
            f"{_asks(probe)}, initialDelaySeconds {probe.initial_delay_seconds}, periodSeconds {probe.period_seconds},"
            f" timeoutSeconds {probe.timeout_seconds}, failureThreshold {probe.failure_threshold}"
        )
        found.append(cite(Source.FIELD, owner, f"containers[{trouble.status.name}].{failure.kind}Probe", quote))
    ports = sorted(_offered(world, trouble.pod))
    if ports:
        found.append(cite(Source.FIELD, owner, f"containers[{trouble.status.name}].ports", ", ".join(str(port) for port in ports)))
    found += [cite_event(event) for event in world.events(trouble.pod.ref, "Killing")[-1:]]
    return tuple(found)


DETECTORS: tuple[Detector, ...] = (kills, unready, silently_unready, silently_killed)
