"""Resources of model serving and training whose own status or wiring shows the fault: pools, endpoint pickers, roles, runtimes, gangs.

What a model server's log says is for `models`; what monitoring says of it, for `modelload`. Only declared roles count: a pool is one of
prefill where its labels or its arguments say so. Limits: statuses of kinds that no operator here writes are not interpreted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from cluster.facts.event import CustomObject, items_of
from cluster.facts.network import Service
from cluster.facts.pod import Pod, PodSpec
from cluster.facts.workload import Deployment, StatefulSet
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.conditions import cite_condition
from runbooks.detectors.models import TRAINING, TRAINING_KINDS
from runbooks.finding import Certainty, Detector, Finding, Source, cite
from runbooks.visibility import unreadable

# KServe v1beta1 ModelStatus: transitions that cannot end well, and who they are about (failures.md E32).
_BAD_TRANSITIONS = frozenset({"InvalidSpec", "BlockedByFailedLoad"})
# KServe v1alpha2 llmisvc: reasons that ask for another specification (failures.md E34); `Stopped` is meant, others wait for somebody.
_REFUSED_PARTS = frozenset(
    {"ConfigNotFound", "CombineBaseError", "InvalidRenderedConfig", "ScalingCRDNotFound", "GatewayPreconditionNotMet", "ValidationFailed"}
)
_ROLE_LABEL = "llm-d.ai/role"
_PREFILL = re.compile(r"kv_producer|disaggregation-mode[= ]prefill|--prefill\b")
_DECODE = re.compile(r"kv_consumer|disaggregation-mode[= ]decode|--decode\b")
_RUNTIME_MISSING = re.compile(r"TrainingRuntimeNotSupported|[Rr]untime[^\n]*not found")


def service_invalid(world: World) -> Iterator[Finding]:
    """InferenceServices whose specification or model the serving operator refuses."""
    for item in world.custom("InferenceService"):
        if not isinstance(item, CustomObject) or not isinstance(item.status, dict):
            continue
        model = _mapping(item.status.get("modelStatus"))
        failure = _mapping(model.get("lastFailureInfo"))
        transition = str(model.get("transitionStatus", ""))
        if transition not in _BAD_TRANSITIONS and not failure.get("reason"):
            continue
        why = f"{failure.get('reason') or transition}: {failure.get('message') or 'no message'}"
        still = " The model loaded before still serves." if _mapping(model.get("states")).get("activeModelState") == "Loaded" else ""
        yield Finding(
            "serving.service-invalid",
            item.ref,
            Certainty.PROVEN,
            (cite(Source.FIELD, item.ref, "status.modelStatus", f"{transition} {why}"),),
            f"InferenceService {item.namespace}/{item.name} cannot serve its model ({why[:240]}).{still}",
        )


def llm_service_invalid(world: World) -> Iterator[Finding]:
    """LLMInferenceServices whose parts the serving operator cannot make, by the condition that says so first."""
    for item in world.custom("LLMInferenceService"):
        if not isinstance(item, CustomObject):
            continue
        bad = next((told for told in item.conditions if told.status == "False" and told.reason in _REFUSED_PARTS), None)
        if bad is not None:
            yield Finding(
                "serving.service-invalid",
                item.ref,
                Certainty.PROVEN,
                (cite_condition(item.ref, bad),),
                f"LLMInferenceService {item.namespace}/{item.name} cannot be served ({bad.type}, {bad.reason}): "
                f"{(bad.message or '')[:240]}",
                since=bad.last_transition_time,
            )


def pool_selects_nothing(world: World) -> Iterator[Finding]:
    """InferencePools whose selector fits no pod."""
    for item in world.custom("InferencePool"):
        if not isinstance(item, CustomObject) or not isinstance(item.spec, dict) or unreadable(world, Pod.kind):
            continue
        selector = _mapping(item.spec.get("selector"))
        labels = {str(key): str(value) for key, value in (_mapping(selector.get("matchLabels")) or selector).items()}
        if not labels or world.pods_selected(item.namespace, labels) or not world.all(Pod):
            continue
        shown = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
        yield Finding(
            "serving.pool-selects-nothing",
            item.ref,
            Certainty.PROVEN if Pod.kind in world.read_kinds else Certainty.LIKELY,
            (cite(Source.FIELD, item.ref, "spec.selector", shown), cite(Source.ABSENCE, item.ref, "pods", f"no pod carries {shown}")),
            f"InferencePool {item.namespace}/{item.name} selects {shown}, which no pod carries: requests find no model server.",
        )


def pool_not_accepted(world: World) -> Iterator[Finding]:
    """InferencePools that their gateway does not take, or whose endpoint picker it cannot resolve, by the pool's own status."""
    for item in world.custom("InferencePool"):
        if not isinstance(item, CustomObject) or not isinstance(item.status, dict):
            continue
        for parent in items_of(item.status.get("parents") or item.status.get("parent")):
            for told in items_of(parent.get("conditions")):
                if told.get("status") != "False" or told.get("type") not in ("Accepted", "ResolvedRefs"):
                    continue
                why = f"{told.get('reason', '')}: {told.get('message', '')}".strip(": ")
                gateway = _mapping(parent.get("parentRef") or parent.get("gatewayRef")).get("name", "its gateway")
                yield Finding(
                    "serving.pool-not-accepted",
                    item.ref,
                    Certainty.PROVEN,
                    (cite(Source.FIELD, item.ref, f"status.parents[{gateway}].conditions[{told['type']}]", f"False {why}"),),
                    f"InferencePool {item.namespace}/{item.name} is not served by Gateway {gateway}: {why[:240]}",
                )


def picker_down(world: World) -> Iterator[Finding]:
    """Endpoint pickers that InferencePools need and that do not run."""
    for item in world.custom("InferencePool"):
        if not isinstance(item, CustomObject) or not isinstance(item.spec, dict):
            continue
        reference = _mapping(item.spec.get("endpointPickerRef") or item.spec.get("extensionRef"))
        name = str(reference.get("name", ""))
        service = world.get(Service, item.namespace, name)
        if service is None:
            if name and world.presence(Service.kind, item.namespace, name) is Presence.ABSENT:
                yield _picker(item, ObjectRef(Service.kind, item.namespace, name), f"its endpoint picker's Service {name} does not exist")
            continue
        pods = world.pods_selected(item.namespace, service.spec.selector or {}) if service.spec.selector else ()
        if pods and not any(pod.ready for pod in pods):
            yield _picker(item, world.top_owner(pods[0].ref), f"no pod of its endpoint picker {name} is ready")


def _picker(pool: CustomObject, subject: ObjectRef, why: str) -> Finding:
    return Finding(
        "serving.picker-down",
        subject,
        Certainty.PROVEN,
        (cite(Source.FIELD, pool.ref, "spec.endpointPickerRef", why),),
        f"InferencePool {pool.namespace}/{pool.name} cannot route requests: {why}.",
        affects=(pool.ref,),
    )


def prefill_down(world: World) -> Iterator[Finding]:
    """Prefill workloads without a ready pod, while the decode side that needs them serves."""
    sides = world.once(_sides)
    for (namespace, role), items in sides.items():
        decoding = [item for item in sides.get((namespace, "decode"), ()) if item.status.ready_replicas]
        if role != "prefill" or not decoding or any(item.status.ready_replicas for item in items):
            continue
        for item in items:
            yield Finding(
                "serving.prefill-down",
                item.ref,
                Certainty.LIKELY,
                (
                    cite(Source.FIELD, item.ref, "status.readyReplicas", f"0 of {item.spec.replicas}"),
                    cite(Source.FIELD, decoding[0].ref, "status.readyReplicas", decoding[0].status.ready_replicas),
                ),
                f"{item.ref} does the prefill for {decoding[0].ref} and has no ready pod ({item.spec.replicas} wanted): the decode side "
                "computes prompts itself, and first tokens take longer.",
                affects=tuple(pod.ref for pod in world.pods_of(item.ref)),
            )


def _sides(world: World) -> dict[tuple[str | None, str], list[Deployment | StatefulSet]]:
    """Workloads by namespace and role, of those that have one."""
    sides: dict[tuple[str | None, str], list[Deployment | StatefulSet]] = defaultdict(list)
    workloads: tuple[Deployment | StatefulSet, ...] = (*world.all(Deployment), *world.all(StatefulSet))
    for item in workloads:
        role = (item.template.metadata.labels or {}).get(_ROLE_LABEL) or _role(item.template.spec)
        if role in ("prefill", "decode"):
            sides[(item.namespace, role)].append(item)
    return sides


def prefill_side(world: World, namespace: str | None) -> ObjectRef | None:
    """The one workload of a namespace that does the prefill; None where there is none, or several."""
    found = world.once(_sides).get((namespace, "prefill"), [])
    return found[0].ref if len(found) == 1 else None


def role_of_pod(pod: Pod) -> str:
    """`prefill`, `decode`, or "" where a pod's labels and arguments say neither."""
    labelled = pod.labels.get(_ROLE_LABEL, "")
    return labelled if labelled in ("prefill", "decode") else _role(pod.spec)


def _role(spec: PodSpec) -> str:
    words = " ".join(part for item in spec.containers for part in (*(item.command or ()), *(item.args or ())))
    return "prefill" if _PREFILL.search(words) else "decode" if _DECODE.search(words) else ""


def runtime_missing(world: World) -> Iterator[Finding]:
    """TrainJobs that name a training runtime which does not exist."""
    for item in world.custom("TrainJob"):
        failed = item.condition("Failed") if isinstance(item, CustomObject) else None
        if not isinstance(item, CustomObject) or failed is None or failed.status != "True":
            continue
        if not _RUNTIME_MISSING.search(f"{failed.reason} {failed.message}"):
            continue
        reference = _mapping(_mapping(item.spec).get("runtimeRef"))
        yield Finding(
            "training.runtime-missing",
            item.ref,
            Certainty.PROVEN,
            (cite(Source.FIELD, item.ref, "status.conditions[Failed]", f"{failed.reason}: {failed.message}"),),
            f"TrainJob {item.namespace}/{item.name} cannot start: its runtime {reference.get('kind', 'TrainingRuntime')} "
            f"{reference.get('name', '?')} is not there or not supported ({failed.message or failed.reason}).",
        )


def gang_partial(world: World) -> Iterator[Finding]:
    """Trainings of several pods of which some hold their devices and wait for others that find no node."""
    owners = (world.top_owner(pod.ref) for pod in world.unready_pods() if _unschedulable(pod))
    partial = {owner.key: owner for owner in owners}
    if not partial:
        return
    groups: dict[ObjectRef, list[Pod]] = {}
    for owner, members in world.workloads():
        if owner.key in partial:
            living = (pod for pod in members if not pod.finished and not pod.deleting)
            groups[partial[owner.key]] = [pod for pod in living if owner.kind in TRAINING_KINDS or _trains(pod)]
    for owner, pods in groups.items():
        waiting = [pod for pod in pods if _unschedulable(pod)]
        holding = [pod for pod in pods if pod.status.phase == "Running"]
        if not waiting or not holding:
            continue
        message = waiting[0].condition("PodScheduled")
        yield Finding(
            "training.gang-partial",
            owner,
            Certainty.LIKELY,
            (
                cite(
                    Source.FIELD, waiting[0].ref, "status.conditions[PodScheduled]", (message.message if message else "") or "Unschedulable"
                ),
                cite(Source.FIELD, holding[0].ref, "status.phase", "Running"),
            ),
            f"{owner} runs {len(holding)} of {len(pods)} workers and the other {len(waiting)} find no node: those that run hold their "
            "devices and wait.",
            affects=tuple(pod.ref for pod in pods),
            since=min((pod.created for pod in waiting if pod.created), default=None),
        )


def _unschedulable(pod: Pod) -> bool:
    scheduled = pod.condition("PodScheduled")
    return scheduled is not None and scheduled.reason == "Unschedulable"


def _trains(pod: Pod) -> bool:
    return any(TRAINING.search(" ".join((*(item.command or ()), *(item.args or ())))) for item in pod.spec.containers)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


DETECTORS: tuple[Detector, ...] = (
    service_invalid,
    llm_service_invalid,
    pool_selects_nothing,
    pool_not_accepted,
    picker_down,
    prefill_down,
    runtime_missing,
    gang_partial,
)
