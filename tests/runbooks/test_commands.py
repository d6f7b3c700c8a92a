from __future__ import annotations

import pytest

from cluster.world import World
from runbooks.detectors.commands import borrowed_programs
from runbooks.finding import Certainty
from tests.runbooks.specimens import pod
from tests.runbooks.worlds import LogKey, codes, world

PORTS = {"tax": 8083, "rent": 8084, "payroll": 8081}


def part(name: str, program: str, image: str = "registry.example/office:1") -> str:
    container = {"image": image, "command": [program], "ports": [{"containerPort": PORTS[name]}]}
    return pod(f"{name}-77777-abcde", ready=True, container=container)


def office(program: str, log: str = "") -> World:
    logs: dict[LogKey, str] | None = {("shop", "payroll-77777-abcde", "app"): log} if log else None
    return world(part("tax", "tax") + part("rent", "rent") + part("payroll", program), logs=logs)


@pytest.mark.parametrize(("program", "found"), [("tax", {"config.wrong-binary"}), ("payroll", set()), ("sh", set()), ("server", set())])
def test_the_program_of_a_sibling(program: str, found: set[str]) -> None:
    assert codes(borrowed_programs(office(program))) == found


def test_listening_on_the_sibling_s_port_is_proof() -> None:
    (finding,) = borrowed_programs(office("tax", "Tax server listening on :8083"))
    assert finding.certainty is Certainty.PROVEN
    assert not finding.wants


def test_one_sibling_makes_no_convention() -> None:
    assert not list(borrowed_programs(world(part("tax", "tax") + part("payroll", "tax"))))
