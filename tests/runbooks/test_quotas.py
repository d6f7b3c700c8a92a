"""Quota as queues publish it: by flavor and resource, with what is borrowed, and who waits."""

from __future__ import annotations

import pytest

from runbooks.quotas import queues, waiting
from tests.runbooks.worlds import world

QUEUES = """
kind: ClusterQueue
apiVersion: kueue.x-k8s.io/v1beta2
metadata: {name: research}
spec:
  cohortName: all
  resourceGroups:
  - flavors:
    - {name: h100, resources: [{name: nvidia.com/gpu, nominalQuota: 8, borrowingLimit: 4}, {name: memory, nominalQuota: 1Ti}]}
    - {name: spot, resources: [{name: nvidia.com/gpu, nominalQuota: "16"}]}
status:
  pendingWorkloads: 2
  admittedWorkloads: 1
  flavorsReservation: [{name: h100, resources: [{name: nvidia.com/gpu, total: 10, borrowed: 2}]}]
  conditions: [{type: Active, status: "True", reason: Ready}]
---
kind: ClusterQueue
apiVersion: kueue.x-k8s.io/v1beta1
metadata: {name: stopped}
spec: {cohort: all}
status: {conditions: [{type: Active, status: "False", reason: Stopped, message: is stopped}]}
---
kind: LocalQueue
apiVersion: kueue.x-k8s.io/v1beta2
metadata: {name: team, namespace: ml}
spec: {clusterQueue: research}
---
kind: Job
apiVersion: batch/v1
metadata: {name: tune, namespace: ml, uid: j}
---
kind: Workload
apiVersion: kueue.x-k8s.io/v1beta2
metadata: {name: job-tune-1, namespace: ml, ownerReferences: [{kind: Job, name: tune, uid: j, controller: true}]}
spec:
  queueName: team
  podSets: [{name: main, count: 4, template: {spec: {containers: [{name: c, resources: {requests: {nvidia.com/gpu: 2}}}]}}}]
status: {conditions: [{type: QuotaReserved, status: "False", reason: Pending, message: insufficient unused quota}]}
---
kind: Workload
apiVersion: kueue.x-k8s.io/v1beta2
metadata: {name: inside, namespace: ml}
spec: {queueName: team}
status: {conditions: [{type: QuotaReserved, status: "True"}, {type: Admitted, status: "True"}]}
---
kind: Workload
apiVersion: kueue.x-k8s.io/v1beta2
metadata: {name: over, namespace: ml}
spec: {queueName: team}
status: {conditions: [{type: Finished, status: "True"}]}
---
kind: Workload
apiVersion: kueue.x-k8s.io/v1beta2
metadata: {name: evicted, namespace: ml}
spec: {queueName: team}
status: {conditions: [{type: Evicted, status: "True", reason: Preempted, message: by a higher priority}]}
"""


def test_a_queue_says_what_it_has_uses_and_borrows_by_flavor() -> None:
    stopped, research = queues(world(QUEUES))
    assert (stopped.ref.name, stopped.inactive, stopped.cohort) == ("stopped", "Stopped: is stopped", "all")
    assert (research.cohort, research.pending, research.admitted, research.inactive) == ("all", 2, 1, "")
    assert [ref.name for ref in research.feeders] == ["team"]
    gpu, memory, spot = research.quotas
    assert (gpu.flavor, gpu.nominal, gpu.used, gpu.borrowed, gpu.borrowing_limit, gpu.full) == ("h100", 8.0, 10.0, 2.0, 4.0, True)
    assert (memory.nominal, memory.used) == (2.0**40, None)
    assert (spot.flavor, spot.nominal, spot.used, spot.full) == ("spot", 16.0, None, False)


def test_who_waits_says_why_and_for_what() -> None:
    evicted, tune, inside = waiting(world(QUEUES))
    assert (evicted.workload.name, evicted.says) == ("evicted", "Preempted: by a higher priority")
    assert (tune.owner.kind, tune.owner.name, tune.queue, tune.cluster_queue) == ("Job", "tune", "team", "research")
    assert tune.wants == (("nvidia.com/gpu", 8.0),)
    assert tune.says == "Pending: insufficient unused quota"
    assert (inside.workload.name, inside.admitted, inside.says) == ("inside", True, "")


@pytest.mark.parametrize("spec", ["{resourceGroups: wrong}", "{resourceGroups: [{flavors: [{resources: [{nominalQuota: [1]}]}]}]}", "[]"])
def test_what_has_another_shape_is_left_out(spec: str) -> None:
    [queue] = queues(world(f"kind: ClusterQueue\nmetadata: {{name: q}}\nspec: {spec}\nstatus: {{pendingWorkloads: true}}"))
    assert queue.pending == 0
    assert all(quota.nominal == 0.0 for quota in queue.quotas)


def test_queues_of_volcano_and_kai_are_rows_too() -> None:
    text = """
kind: Queue
apiVersion: scheduling.volcano.sh/v1beta1
metadata: {name: closed}
spec: {capability: {nvidia.com/gpu: 16, cpu: "64"}}
status: {state: Closed, pending: 3, running: 1, allocated: {nvidia.com/gpu: "4"}}
---
kind: Queue
apiVersion: scheduling.run.ai/v2
metadata: {name: team}
spec:
  parentQueue: all
  resources: {gpu: {quota: 8, limit: -1}, cpu: {quota: 4000}, memory: {quota: -1}}
status: {allocated: {nvidia.com/gpu: "9"}}
"""
    closed, team = queues(world(text))
    assert (closed.ref.name, closed.inactive, closed.pending, closed.admitted) == ("closed", "Closed", 3, 1)
    assert [(quota.resource, quota.nominal, quota.used) for quota in closed.quotas] == [("nvidia.com/gpu", 16.0, 4.0), ("cpu", 64.0, None)]
    assert (team.cohort, team.inactive) == ("all", "")
    assert {quota.resource: (quota.nominal, quota.used, quota.full) for quota in team.quotas} == {
        "cpu": (4.0, None, False),
        "nvidia.com/gpu": (8.0, 9.0, True),
    }
