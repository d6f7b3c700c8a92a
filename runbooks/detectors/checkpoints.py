"""What a restart of a training costs: the accelerator-hours since its last checkpoint, by what its own log says of saving.

An advisory, for nothing fails of it; it is what somebody has to know who restarts, moves or preempts the job. Only logs that were read for
another reason count, and only their own dates: differences within one log. Limits: a training that says nothing of its checkpoints is told
only where its whole log was read; whether a checkpoint can be read back is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec import Struct

from cluster.facts.pod import Pod
from cluster.reading import LogText
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.detectors.models import TRAINING, TRAINING_KINDS
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.logs import moment_in
from runbooks.scheduling import accelerators_of

# transformers "Saving model checkpoint to …", Megatron-LM "successfully saved checkpoint at iteration …", torchtitan and others.
_SAVED = re.compile(r"(?i)sav(?:ed|ing)\b.{0,40}\bcheckpoint|checkpoint.{0,60}\bsaved\b")
_FAILED = re.compile(r"(?i)error|fail|could not|unable|exception")
LONG = timedelta(hours=1)
LOST_HOURS = 24.0


class _Span(Struct, frozen=True):
    """What would be lost: the time between two lines of one log. `saved`: the first of them tells of a checkpoint."""

    begin: datetime
    end: datetime
    saved: bool
    evidence: Evidence


def work_unsaved(world: World) -> Iterator[Finding]:
    """Trainings that would lose, or have lost, LOST_HOURS accelerator-hours and more since their last checkpoint."""
    found: dict[ObjectRef, _Span] = {}
    for (container, _), reading in world.logs.items():
        pod = world.get(Pod, container.namespace, container.pod)
        if pod is None or not _trains(world, pod):
            continue
        span = _unsaved(pod, container.container, reading.value)
        job = world.top_owner(pod.ref)
        # Of many ranks one writes, or each its part: the one that saved last speaks for the job.
        if span is not None and (job not in found or (span.saved, span.begin) > (found[job].saved, found[job].begin)):
            found[job] = span
    for job, span in found.items():
        held = sum(accelerators_of(pod.spec) for pod in world.pods_of(job))
        age = span.end - span.begin
        lost = held * age.total_seconds() / 3600
        if age < LONG or lost < LOST_HOURS:
            continue
        since = "its last checkpoint" if span.saved else "its beginning, and its log tells of no checkpoint"
        yield Finding(
            "training.work-unsaved",
            job,
            Certainty.LIKELY,
            (span.evidence,),
            f"A restart of {job} loses about {lost:.0f} accelerator-hours: {held:g} accelerators worked {age.total_seconds() / 3600:.1f} h"
            f" since {since}.",
        )


def _unsaved(pod: Pod, container: str, log: LogText) -> _Span | None:
    dated = [(moment, line) for line in log.lines if (moment := moment_in(line)) is not None]
    if not dated:
        return None
    saves = [(moment, line) for moment, line in dated if _SAVED.search(line) and not _FAILED.search(line)]
    if not saves and log.cut is not None:
        return None
    begin, line = saves[-1] if saves else dated[0]
    return _Span(begin, dated[-1][0], bool(saves), cite(Source.LOG, pod.ref, f"log[{container}]", line.strip()))


def _trains(world: World, pod: Pod) -> bool:
    words = (" ".join((*(item.command or ()), *(item.args or ()))) for item in pod.spec.containers)
    return bool(accelerators_of(pod.spec)) and (world.top_owner(pod.ref).kind in TRAINING_KINDS or any(map(TRAINING.search, words)))


DETECTORS: tuple[Detector, ...] = (work_unsaved,)
