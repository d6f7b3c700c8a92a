"""Workers are numbered as their job's controller numbers them, and the first that failed comes first."""

from __future__ import annotations

import pytest

from cluster.reference import ObjectRef
from runbooks.ranks import ranks
from tests.runbooks.worlds import world


def worker(name: str, *, labels: str = "{}", status: str, limits: str = "{nvidia.com/gpu: 8}") -> str:
    return f"""
---
kind: Pod
metadata: {{name: {name}, namespace: ml, labels: {labels}, ownerReferences: [{{kind: Job, name: j, uid: u, controller: true}}]}}
spec: {{nodeName: g, containers: [{{name: c, resources: {{limits: {limits}}}}}]}}
status: {status}
"""


def ended(at: str, code: int) -> str:
    state = f'{{terminated: {{exitCode: {code}, finishedAt: "{at}"}}}}'
    return f"{{phase: Failed, containerStatuses: [{{name: c, restartCount: 2, state: {state}}}]}}"


READY = '{phase: Running, conditions: [{type: Ready, status: "True"}]}'
JOB = "kind: Job\nmetadata: {name: j, namespace: ml, uid: u}\n"


def test_the_first_to_fail_comes_first_and_the_ready_last() -> None:
    text = (
        JOB
        + worker("j-0", status=READY)
        + worker("j-1", status=ended("2026-01-15T11:02:00Z", 1))
        + worker("j-2", status=ended("2026-01-15T11:01:00Z", 139))
        + worker("j-3", status="{phase: Pending}")
    )
    found = ranks(world(text), ObjectRef("Job", "ml", "j"))
    assert [(rank.number, rank.exit_code, rank.failed, rank.ready) for rank in found] == [
        (2, 139, True, False),
        (1, 1, True, False),
        (3, None, False, False),
        (0, None, False, True),
    ]
    assert (found[0].restarts, found[0].node, found[0].accelerators) == (2, "g", (("nvidia.com/gpu", 8.0),))


@pytest.mark.parametrize(
    ("name", "labels", "number", "role"),
    [
        ("x-abcde", "{batch.kubernetes.io/job-completion-index: '7'}", 7, ""),
        ("j-worker-3", "{training.kubeflow.org/replica-index: '3', training.kubeflow.org/replica-type: worker}", 3, "worker"),
        ("j-workers-0-4-x9x9x", "{jobset.sigs.k8s.io/job-global-index: '4'}", 4, ""),
        ("lws-0-2", "{}", 2, ""),
        ("j-5-ab1cd", "{}", 5, ""),
        ("launcher", "{ray.io/node-type: head}", None, "head"),
        ("j-1", "{batch.kubernetes.io/job-completion-index: many}", 1, ""),
    ],
)
def test_numbers_and_roles_are_the_controllers(name: str, labels: str, number: int | None, role: str) -> None:
    [rank] = ranks(world(JOB + worker(name, labels=labels, status=READY)), ObjectRef("Job", "ml", "j"))
    assert (rank.number, rank.role) == (number, role)
