"""Containers that run the program of another workload: one image holds many programs, and the pod template names the wrong one.

Told by convention: where several workloads share an image and each names the program that is called like itself, the one that names a
sibling's program stands out. Its log may prove it by listening on the sibling's port.
Limits: programs that are not called like their workload cannot be told apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from cluster.facts.container import Container
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks import logs
from runbooks.dependencies import Dependencies
from runbooks.detectors.pods import container_ref
from runbooks.finding import Certainty, Detector, Evidence, Finding, LogWant, Source, cite

# So many siblings must keep the convention before one that breaks it is suspicious.
CONVENTION = 2


class _Use(Struct, frozen=True):
    """One workload's use of a shared image."""

    workload: ObjectRef
    pod: Pod
    container: Container
    program: str


def borrowed_programs(world: World) -> Iterator[Finding]:
    """Workloads that run the program named after a sibling."""
    groups: dict[tuple[str | None, str], list[_Use]] = defaultdict(list)
    for workload, pod in world.once(Dependencies).specimens.values():
        for container in pod.spec.containers:
            program = _program(container)
            if program:
                groups[(workload.namespace, container.image)].append(_Use(workload, pod, container, program))
    for uses in groups.values():
        keeping = [use for use in uses if use.program == use.workload.name]
        owners = {use.program: use for use in keeping}
        for use in uses:
            owner = owners.get(use.program)
            if len(keeping) < CONVENTION or owner is None or use.program == use.workload.name or use.program in use.container.name:
                continue
            yield _finding(world, use, owner, len(keeping))


def _program(container: Container) -> str:
    """The base name of the program that the spec names; empty when the image decides or a shell runs it."""
    words = (*(container.command or ()), *(container.args or ()))
    name = words[0].rpartition("/")[2] if words else ""
    return "" if name in ("sh", "bash", "ash", "python", "python3", "node", "java", "env", "tini") else name


def _finding(world: World, use: _Use, owner: _Use, keeping: int) -> Finding:
    reference = container_ref(use.pod, use.container.name)
    proof = _proof(world, use, owner)
    return Finding(
        code="config.wrong-binary",
        subject=use.workload,
        certainty=Certainty.PROVEN if proof else Certainty.LIKELY,
        evidence=(
            cite(Source.FIELD, use.workload, f"containers[{use.container.name}].command", use.program),
            cite(Source.FIELD, owner.workload, f"containers[{owner.container.name}].command", owner.program),
            *proof,
        ),
        explanation=f"{use.workload} runs the program {use.program!r} of {owner.workload.name}, while {keeping} workloads with the same"
        " image each run the program of their own name.",
        affects=(use.pod.ref,),
        since=use.pod.created,
        wants=() if proof else (LogWant(reference),),
    )


def _proof(world: World, use: _Use, owner: _Use) -> tuple[Evidence, ...]:
    """The log line by which the program listens on its sibling's port instead of its own."""
    own = {port.container_port for port in use.container.ports or ()}
    others = {port.container_port for port in owner.container.ports or ()}
    reading = world.logs.get((container_ref(use.pod, use.container.name), False))
    if reading is None:
        return ()
    report = logs.read(reading.value)
    borrowed = [port for port in report.listening if port in others and port not in own]
    return (cite(Source.LOG, use.pod.ref, f"log of {use.container.name}", f"listens on port {borrowed[0]}"),) if borrowed else ()


DETECTORS: tuple[Detector, ...] = (borrowed_programs,)
