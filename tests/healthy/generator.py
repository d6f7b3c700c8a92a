"""A seed becomes a healthy namespace: which parts it has, how old it is, and what it lived through. Pure; nothing here is random twice.

Every part is the leading one of some seed in each round of `len(ALL_PARTS)` seeds, so that a range of seeds covers them all; further
parts are drawn. Every fourth seed also gets a past that the lab cannot play (see `past`), because it happened before the world began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.healthy import service_parts, workload_parts
from tests.healthy.ai_parts import AI_PARTS
from tests.healthy.draw import Draw, Part
from tests.healthy.manifests import Object, thing
from tests.healthy.past import PASTS
from tests.healthy.workload_parts import idle, many

# In an order that is kept: the seed of a kept world counts in it.
ALL_PARTS: tuple[Callable[[Draw], Part], ...] = (
    service_parts.web_tier,
    workload_parts.jobs_done,
    workload_parts.jobs_suspended,
    workload_parts.cron_jobs,
    workload_parts.rollout_under_way,
    workload_parts.rollout_done,
    workload_parts.rollout_paused,
    workload_parts.scaled_to_zero,
    workload_parts.restarts_long_ago,
    workload_parts.resolved_warnings,
    service_parts.budget_tight,
    service_parts.optional_configuration,
    service_parts.claims_unused,
    service_parts.plain_services,
    workload_parts.node_agents,
    service_parts.quota_full,
    service_parts.fenced,
    workload_parts.helpers,
    workload_parts.many,
    workload_parts.single_pods,
    workload_parts.idle,
    *AI_PARTS,
)
PAST_EVERY = 4


@dataclass(frozen=True)
class Plan:
    """How to make one world. `age_hours` is how long ago everything was created; `pasts` name functions of `tests.healthy.past`.

    `cordoned` adds a node that takes no pods, `moving` and the rest are as in `Part`.
    """

    seed: int
    namespace: str
    parts: tuple[str, ...]
    manifests: tuple[Object, ...]
    changes: tuple[Object, ...]
    moving: frozenset[str]
    cluster: tuple[Object, ...]
    age_hours: float
    cordoned: bool
    pasts: tuple[str, ...]


def plan(seed: int) -> Plan:
    """The world of a seed, always the same."""
    random = Random(seed)
    namespace = f"team-{seed}"
    draw = Draw(random, namespace)
    makers = [ALL_PARTS[seed % len(ALL_PARTS)]]
    if makers[0] is not idle:
        others = [maker for maker in ALL_PARTS if maker not in (makers[0], idle, many)]
        makers += random.sample(others, random.choice((0, 1, 2, 3)))
    made = [maker(draw) for maker in makers]
    pasts: tuple[str, ...] = ()
    if seed % PAST_EVERY == PAST_EVERY - 1:
        names = sorted(PASTS)
        first = names[(seed // PAST_EVERY) % len(names)]
        pasts = (first, *random.sample([name for name in names if name != first], random.choice((0, 1))))
        # A past needs somebody to have had it.
        made.append(Part(tuple(draw.web(draw.name("-old"), 3))))
    moving = frozenset(name for part in made for name in part.moving)
    return Plan(
        seed=seed,
        namespace=namespace,
        parts=tuple(maker.__name__ for maker in makers),
        manifests=(thing("Namespace", "v1", namespace, None), *(one for part in made for one in part.manifests)),
        changes=tuple(one for part in made for one in part.changes),
        moving=moving,
        cluster=tuple(one for part in made for one in part.cluster),
        # What is still on its way has just begun.
        age_hours=0.0 if moving else random.choice((0.0, 0.1, 3.0, 50.0, 900.0)),
        cordoned=random.random() < 0.3,
        pasts=pasts,
    )
