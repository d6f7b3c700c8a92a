"""Where the time of a request goes: model servers that became slow, told apart by queue, prompt, transfer and answer.

Slow is slower than within the last hour, because what is slow enough to matter differs by model and is written nowhere. The part of a
request that grew most is the one to mend. Limits: what has been slow for longer looks usual; averages hide a few slow requests.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator

from msgspec import Struct

from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Evidence, Finding
from runbooks.levels import Levels, by_workload, since
from runbooks.measurement import Change

_FIRST_TOKEN = re.compile(r"time_to_first_token_seconds_p95$")
_PER_TOKEN = re.compile(r"(?:inter_token_latency|time_per_output_token|mean_time_per_token_duration)(?!.*_(?:sum|count|bucket)$)")
_HITS = re.compile(r"prefix_cache_hit_ratio$|sglang:cache_hit_rate$")
_FAILED_TRANSFERS = re.compile(
    r"(?:nixl_num_failed_transfers|nixl_num_kv_expired_reqs|mooncake_num_failed_(?:transfers|recvs)|"
    r"sglang:num_(?:transfer|bootstrap)_failed_reqs)_(?:rate|total)$"
)
# The parts before the first token: what the part is called, its code, its metrics, and what it means.
_PARTS: tuple[tuple[str, str, re.Pattern[str], str], ...] = (
    (
        "queue",
        "serving.queue-slow",
        re.compile(r"request_queue_time_seconds$|sglang:queue_time_seconds$|request_queue_duration$|queue_duration_seconds$"),
        "requests wait before they are begun",
    ),
    ("prefill", "serving.prefill-slow", re.compile(r"request_prefill_time_seconds$"), "prompts take longer to compute"),
    (
        "transfer",
        "serving.transfer-slow",
        re.compile(r"nixl_xfer_time_seconds$|kv_transfer_latency_seconds$"),
        "the KV cache is moved slowly between prefill and decode",
    ),
)
# Three times as slow as within the same hour is no noise; below a second nobody waits for a first token, below 50 ms nobody reads.
RISE = 3.0
FIRST_TOKEN_SECONDS = 1.0
TOKEN_SECONDS = 0.05
# A part counts where it makes up this much of what the first token lost.
SHARE = 0.3
# A prefix cache that served at least this share and now serves less than half of it has lost what made it hit.
HITS_BEFORE = 0.3
HITS_LOST = 0.5


class _Part(Struct, frozen=True):
    """How much one part of a request grew, over the replicas of one workload."""

    name: str
    code: str
    words: str
    change: Change
    evidence: tuple[Evidence, ...]


def first_tokens_late(world: World) -> Iterator[Finding]:
    """Workloads whose first tokens come late at most of their replicas, by the part of a request that grew most."""
    for workload, levels in by_workload(world, _FIRST_TOKEN).items():
        total = _change(levels)
        if total is None or total.now < FIRST_TOKEN_SECONDS or total.now < RISE * total.before:
            continue
        grown = total.now - total.before
        parts = [part for part in _parts(world, workload) if part.change.now - part.change.before >= SHARE * grown]
        evidence = tuple(level.evidence for level in levels.values())[:2]
        slow = f"First tokens of {workload} take {total.now:.2g} s instead of {total.before:.2g} s{since(total.since)}"
        if not parts:
            text = f"{slow}; which part of a request grew is not measured."
            lacks = "the times that requests spend in the queue, at their prompt and in transfer"
            yield Finding("serving.first-token-slow", workload, Certainty.LIKELY, evidence, text, tuple(levels), total.since, lacks=lacks)
            continue
        worst = max(parts, key=lambda part: (part.change.now - part.change.before, part.name))
        text = f"{slow}, because {worst.words} ({worst.name} {worst.change.now:.2g} s instead of {worst.change.before:.2g} s)."
        code = worst.code
        hits = _change(by_workload(world, _HITS).get(workload, {})) if worst.name == "prefill" else None
        if hits is not None and hits.before >= HITS_BEFORE and hits.now <= HITS_LOST * hits.before:
            code = "serving.prefix-misses"
            text += f" Its prefix cache hits {hits.now:.0%} instead of {hits.before:.0%}: requests no longer come to the replica that knows"
            text += " their prefix, or the prompts have changed."
            evidence += tuple(level.evidence for level in by_workload(world, _HITS)[workload].values())[:2]
        yield Finding(code, workload, Certainty.LIKELY, (*evidence, *worst.evidence), text, tuple(levels), total.since)


def answers_slow(world: World) -> Iterator[Finding]:
    """Workloads of which every replica became slow at its answers: too large batches, long prompts between, processors, links."""
    for workload, levels in by_workload(world, _PER_TOKEN).items():
        changes = [level.change for level in levels.values()]
        known = [item for item in changes if item is not None]
        slow = [item for item in known if item.now >= TOKEN_SECONDS and item.now >= RISE * item.before]
        if not slow or len(slow) != len(changes):
            continue
        now, before = (statistics.median(values) for values in ([item.now for item in slow], [item.before for item in slow]))
        began = min((item.since for item in slow if item.since is not None), default=None)
        yield Finding(
            "serving.decode-slow",
            workload,
            Certainty.LIKELY,
            tuple(level.evidence for level in levels.values())[:6],
            f"All {len(slow)} replica(s) of {workload} take {now:.2g} s a token instead of {before:.2g} s{since(began)}: it is what they "
            "share (the load, the batch size, the image), not one GPU.",
            affects=tuple(levels),
            since=began,
        )


def transfers_failing(world: World) -> Iterator[Finding]:
    """Moves of the KV cache between prefill and decode that fail or come too late, now."""
    for workload, levels in by_workload(world, _FAILED_TRANSFERS).items():
        failing = {pod: level for pod, level in levels.items() if level.value > 0}
        if failing:
            worst = max(failing, key=lambda pod: (failing[pod].value, pod.name))
            yield Finding(
                "model.kv-transfer",
                workload,
                Certainty.PROVEN,
                tuple(level.evidence for level in failing.values())[:6],
                f"{len(failing)} of {len(levels)} replica(s) of {workload} fail to move KV cache blocks to or from their peers "
                f"({failing[worst].name} {failing[worst].value:.2g} a second at {worst.name}).",
                affects=tuple(failing),
            )


def _parts(world: World, workload: ObjectRef) -> Iterator[_Part]:
    for name, code, pattern, words in _PARTS:
        levels = by_workload(world, pattern).get(workload, {})
        change = _change(levels)
        if change is not None:
            yield _Part(name, code, words, change, tuple(level.evidence for level in levels.values())[:2])


def _change(levels: Levels) -> Change | None:
    """The median over replicas of how they changed; None where none has enough samples."""
    changes = [item for level in levels.values() if (item := level.change) is not None]
    if not changes:
        return None
    began = [item.since for item in changes if item.since is not None]
    before, now = statistics.median(item.before for item in changes), statistics.median(item.now for item in changes)
    return Change(before, now, min(began, default=None))


DETECTORS: tuple[Detector, ...] = (first_tokens_late, answers_slow, transfers_failing)
