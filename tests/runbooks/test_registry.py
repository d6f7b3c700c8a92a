from __future__ import annotations

from dataclasses import fields

import pytest

from cluster.reading import LogText, Missing, Reading, Why
from cluster.reference import ContainerRef
from cluster.world import World
from runbooks.causes import explain
from runbooks.detectors.registry import detect
from tests.runbooks.specimens import document, pod, terminated, waiting
from tests.runbooks.worlds import world

CRASHING = pod(state=waiting("CrashLoopBackOff"), last=terminated(1), restarts=4)
SERVING = pod(ready=True)
SERVICE = document(
    kind="Service",
    metadata={"name": "web", "namespace": "shop"},
    spec={"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8081}]},
)
CONTAINER = ContainerRef("shop", "web-5d4f8-abcde", "app")
LOGS = (
    "KeyError: 'DATABASE_URL'",
    "dial tcp 10.0.0.9:5432: connect: connection refused",
    "Error: getaddrinfo ENOTFOUND orders",
    "Listening on port 9090",
    "OSError: [Errno 30] Read-only file system: '/data/x'",
    'pods is forbidden: User "system:serviceaccount:shop:web" cannot list resource "pods" in API group "" in the namespace "shop"',
)


def afresh(made: World) -> World:
    """The same world, knowing nothing derived."""
    return World(**{item.name: getattr(made, item.name) for item in fields(World)})


@pytest.mark.parametrize("line", LOGS)
@pytest.mark.parametrize("objects", [CRASHING, CRASHING + SERVICE, SERVING + SERVICE])
def test_a_log_that_comes_later_says_the_same_as_one_known_from_the_start(objects: str, line: str) -> None:
    made = world(objects)
    explain(made, detect(made))
    grown = made.with_log(CONTAINER, previous=False, log=Reading(LogText((line,) * 8)))
    grown = grown.with_facts("Endpoints", (), complete=True).with_facts("Ingress", (), complete=True)
    assert detect(grown) == detect(afresh(grown))
    assert explain(grown, detect(grown)) == explain(afresh(grown), detect(afresh(grown)))


def test_a_refusal_that_comes_later_counts() -> None:
    made = world(SERVICE, complete=("Pod",))
    assert detect(made)
    refused = made.with_facts("Pod", (), complete=False, missing=(Missing("pods", Why.FORBIDDEN, kind="Pod"),))
    assert detect(refused) == detect(afresh(refused))
    assert detect(refused) != detect(made)


def test_a_detector_runs_once_in_a_world() -> None:
    runs: list[World] = []

    def counting(made: World) -> tuple[()]:
        runs.append(made)
        return ()

    made = world(CRASHING)
    detect(made, (counting,))
    detect(made, (counting,))
    detect(made.with_log(CONTAINER, previous=False, log=Reading(LogText(("x",)))), (counting,))
    assert runs == [made]
