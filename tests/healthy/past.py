"""Pasts that the lab cannot play: what kubelets, schedulers and autoscalers wrote of troubles that are over.

Each takes the recorded objects of one world and returns them with that past written in, in the words of the component that would have
written it. Moments are counted back from the world's clock. Nothing that is still wrong may follow from any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from random import Random

from tests.healthy import pod_pasts, work_pasts
from tests.healthy.retelling import Items

Past = Callable[[Items, Random, datetime], Items]

PASTS: dict[str, Past] = {
    past.__name__: past
    for past in (
        pod_pasts.crashed_at_start,
        pod_pasts.out_of_memory_last_week,
        pod_pasts.waited_for_a_node,
        pod_pasts.pulled_at_last,
        pod_pasts.probe_failed_while_starting,
        pod_pasts.mounted_late,
        pod_pasts.leaving_in_time,
        pod_pasts.preempted_and_placed_again,
        pod_pasts.node_pressure_passed,
        pod_pasts.node_rebooted,
        work_pasts.quota_was_full,
        work_pasts.retried_job,
        work_pasts.schedule_kept,
        work_pasts.autoscaler_at_minimum,
        work_pasts.queue_admits_and_holds,
    )
}
