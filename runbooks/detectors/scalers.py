"""KEDA's ScaledObjects that cannot see what they scale by, fall back to a fixed number, or are paused.

What the HorizontalPodAutoscaler behind one says is for `autoscaling`. Sources: KEDA condition_types.go and eventreason.go, its metrics.
Limits: whether the number a trigger reads is the right one to scale by is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster.facts.event import CustomObject
from cluster.facts.meta import Condition
from cluster.reading import Series
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.conditions import cite_condition
from runbooks.detectors.autoscaling import serves_models
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite
from runbooks.measurement import NAME_LABEL

_FAILED_EVENTS = ("KEDAScalerFailed", "KEDAMetricSourceFailed", "ScaledObjectCheckFailed")
_ERRORS = "keda_scaler_"


def scaler_blind(world: World) -> Iterator[Finding]:
    """ScaledObjects that are not ready or fall back because a trigger cannot be read or their target does not exist, by their conditions,
    events and errors."""
    failing = _errors(world)
    for item in world.custom("ScaledObject"):
        # One that somebody paused is meant to stand still.
        if not isinstance(item, CustomObject) or _true(item.condition("Paused")):
            continue
        bad = _bad(item)
        events = world.events(item.ref, *_FAILED_EVENTS)
        series = failing.get((item.namespace, item.name))
        if bad is None and series is None:
            continue
        evidence: list[Evidence] = [cite_condition(item.ref, bad)] if bad is not None else []
        evidence += (cite(Source.EVENT, item.ref, event.reason, event.text, event.last_seen) for event in events[-1:])
        if series is not None:
            evidence.append(cite(Source.METRIC, item.ref, series.labels.get(NAME_LABEL, ""), f"{series.samples[-1].value:.3g} a second"))
        target = _target(item)
        since = bad.last_transition_time if bad is not None else None
        if bad is not None and world.presence(*target.key) is Presence.ABSENT:
            evidence.append(cite(Source.ABSENCE, target, "metadata.name", f"no such {target.kind}"))
            text = f"ScaledObject {item.namespace}/{item.name} scales {target}, which does not exist."
            yield Finding("hpa.target-missing", item.ref, Certainty.PROVEN, tuple(evidence), text, since=since)
            continue
        why = (events[-1].text if events else "") or (f"{bad.reason}: {bad.message}" if bad is not None else "its trigger fails")
        yield Finding(
            "keda.serving-scaler-failing" if serves_models(world, target, str(item.spec)) else "keda.scaler-failing",
            item.ref,
            Certainty.PROVEN if bad is not None else Certainty.LIKELY,
            tuple(evidence),
            f"ScaledObject {item.namespace}/{item.name} cannot read what it scales {target} by, so the replicas no longer follow the load: "
            f"{why[:240]}",
            affects=(target,),
            since=since,
        )


def _bad(item: CustomObject) -> Condition | None:
    """The condition that says that a trigger cannot be read."""
    ready, fallback = item.condition("Ready"), item.condition("Fallback")
    if ready is not None and ready.status == "False":
        return ready
    return fallback if _true(fallback) else None


def _true(condition: Condition | None) -> bool:
    return condition is not None and condition.status == "True"


def _errors(world: World) -> dict[tuple[str | None, str], Series]:
    found = {}
    for series in world.telemetry.series:
        name = series.labels.get(NAME_LABEL, "")
        if name.startswith(_ERRORS) and name.endswith("errors_rate") and series.samples and series.samples[-1].value > 0:
            found[series.labels.get("namespace"), series.labels.get("scaledObject") or series.labels.get("scaledobject", "")] = series
    return found


def _target(item: CustomObject) -> ObjectRef:
    reference: Any = item.spec.get("scaleTargetRef") if isinstance(item.spec, dict) else None
    fields = reference if isinstance(reference, dict) else {}
    return ObjectRef(str(fields.get("kind") or "Deployment"), item.namespace, str(fields.get("name", "")))


DETECTORS: tuple[Detector, ...] = (scaler_blind,)
