from __future__ import annotations

import pytest

from cluster.world import World
from runbooks.detectors.commands import borrowed_programs
from runbooks.finding import Certainty
from tests.runbooks.specimens import pod
from tests.runbooks.worlds import LogKey, codes, world

PORTS = {"geo": 8083, "rate": 8084, "profile": 8081}


def part(name: str, program: str, image: str = "registry.example/hotel:1") -> str:
    container = {"image": image, "command": [program], "ports": [{"containerPort": PORTS[name]}]}
    return pod(f"{name}-77777-abcde", ready=True, container=container)


def hotel(program: str, log: str = "") -> World:
    logs: dict[LogKey, str] | None = {("shop", "profile-77777-abcde", "app"): log} if log else None
    return world(part("geo", "geo") + part("rate", "rate") + part("profile", program), logs=logs)


@pytest.mark.parametrize(("program", "found"), [("geo", {"config.wrong-binary"}), ("profile", set()), ("sh", set()), ("server", set())])
def test_the_program_of_a_sibling(program: str, found: set[str]) -> None:
    assert codes(borrowed_programs(hotel(program))) == found


def test_listening_on_the_sibling_s_port_is_proof() -> None:
    (finding,) = borrowed_programs(hotel("geo", "Geo server listening on :8083"))
    assert finding.certainty is Certainty.PROVEN
    assert not finding.wants


def test_one_sibling_makes_no_convention() -> None:
    assert not list(borrowed_programs(world(part("geo", "geo") + part("profile", "geo"))))
