"""Configuration that containers cannot get: missing ConfigMaps, Secrets and keys, volumes and images that replicas do not share.

The kubelet's own message is proof, whatever we may read.
Limits: Secrets are never read: that one is missing is only ever told by a message. An absent ConfigMap without a message counts only for
a pod that waits for its containers, and only when ConfigMaps were read completely.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from cluster.facts.config import ConfigMap
from cluster.facts.container import Container
from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolumeClaim
from cluster.facts.workload import Deployment
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.detectors.pods import (
    cite_event,
    cite_status,
    current_events,
    first_failure,
    onset,
    troubled_pods,
    troubles,
)
from runbooks.finding import Certainty, Detector, Evidence, Finding, Source, cite

WAITING_REASONS = frozenset({"ContainerCreating", "PodInitializing", "CreateContainerConfigError", ""})

ABSENT = re.compile(r"\b(?P<kind>configmaps?|secrets?) \"(?P<name>[^\"]+)\" not found", re.I)
ABSENT_KEY = re.compile(
    r"couldn't find key (?P<key>\S+) in (?P<kind>ConfigMap|Secret) (?P<namespace>[^/\s]+)/(?P<name>\S+)|"
    r"couldn't find key \"?(?P<key2>[^\"\s]+)\"? in (?P<kind2>configmap|secret) \"?(?P<name2>[^\"\s]+)",
    re.I,
)
ABSENT_ITEM = re.compile(r"volume \"(?P<volume>[^\"]+)\" : .*references non-existent (?P<kind>config|secret) key: (?P<key>\S+)", re.I)
ROOT_FORBIDDEN = re.compile(r"runAsNonRoot and image|will run as root|cannot verify user is non-root|breaks? non-root policy", re.I)
SUBPATH = re.compile(r"failed to prepare subPath|unable to provision SubPath|subpath", re.I)


class _Lack(Struct, frozen=True):
    """Something that a pod needs and does not get."""

    code: str
    ref: ObjectRef
    key: str
    evidence: tuple[Evidence, ...]
    certainty: Certainty


def missing_references(world: World) -> Iterator[Finding]:
    """ConfigMaps, Secrets and keys without which a pod cannot start."""
    for pod in troubled_pods(world):
        if not _waits(pod):
            continue
        lacks = list(_told(world, pod)) or list(_seen(world, pod))
        for lack in lacks:
            owner = world.top_owner(pod.ref)
            what = f"{lack.ref.kind} {pod.namespace}/{lack.ref.name}"
            says = f"has no key {lack.key!r}" if lack.key else "does not exist"
            yield Finding(
                code=lack.code,
                subject=lack.ref,
                certainty=lack.certainty,
                evidence=lack.evidence,
                explanation=f"{what}, which {owner} needs to start, {says}.{_near(world, lack)}",
                affects=(pod.ref,),
                since=onset(world.events(pod.ref, "FailedMount", "Failed"), pod.created),
                lacks="" if lack.certainty is Certainty.PROVEN else "the kubelet's message",
            )


def _waits(pod: Pod) -> bool:
    """Whether the node has the pod and some container has never started."""
    if pod.status.phase not in ("Pending", "Running", "Unknown", "") or not (pod.spec.node_name or pod.all_statuses):
        return False
    return not pod.all_statuses or any(
        status.state.running is None and status.state.terminated is None and _reason(status.state.waiting) in WAITING_REASONS
        for status in pod.all_statuses
    )


def _reason(waiting: object) -> str:
    return getattr(waiting, "reason", None) or ""


def _told(world: World, pod: Pod) -> Iterator[_Lack]:
    """What the kubelet says that the pod lacks, each once."""
    seen: set[tuple[str, str, str]] = set()
    for text, evidence in _messages(world, pod):
        for code, kind, name, key in _parsed(text, pod):
            if (kind, name, key) not in seen:
                seen.add((kind, name, key))
                yield _Lack(
                    code, ObjectRef(kind, pod.namespace, name), key, (evidence, *_used_at(world, pod, kind, name)), Certainty.PROVEN
                )


def _messages(world: World, pod: Pod) -> Iterator[tuple[str, Evidence]]:
    for status in pod.all_statuses:
        waiting = status.state.waiting
        if waiting is not None and waiting.message:
            yield (
                waiting.message,
                cite(
                    Source.FIELD,
                    pod.ref,
                    f"status.containerStatuses[{status.name}].state.waiting",
                    _worded(waiting.reason, waiting.message),
                ),
            )
    for event in current_events(world, pod, "FailedMount", "Failed", "FailedMountVolume"):
        yield event.text, cite_event(event)


def _worded(reason: str | None, message: str) -> str:
    return f"{reason}: {message}" if reason else message


def _parsed(text: str, pod: Pod) -> Iterator[tuple[str, str, str, str]]:
    """(code, kind, name, key) of everything that a message calls missing."""
    for found in ABSENT.finditer(text):
        kind = "ConfigMap" if found["kind"].lower().startswith("configmap") else "Secret"
        yield f"config.missing-{kind.lower()}", kind, found["name"], ""
    for found in ABSENT_KEY.finditer(text):
        kind = "Secret" if (found["kind"] or found["kind2"]).lower() == "secret" else "ConfigMap"
        yield "config.missing-key", kind, found["name"] or found["name2"], found["key"] or found["key2"]
    for found in ABSENT_ITEM.finditer(text):
        volume = next((item for item in pod.spec.volumes or () if item.name == found["volume"]), None)
        if volume is not None and volume.config_map is not None and found["kind"].lower() == "config":
            yield "config.missing-key", "ConfigMap", volume.config_map.name, found["key"]
        if volume is not None and volume.secret is not None and found["kind"].lower() == "secret":
            yield "config.missing-key", "Secret", volume.secret.secret_name, found["key"]


def _seen(world: World, pod: Pod) -> Iterator[_Lack]:
    """What the spec needs and the namespace provably lacks; only ConfigMaps can be checked."""
    yield from _only_secret(world, pod)
    for name, key, path in _configmap_uses(pod):
        presence = world.presence("ConfigMap", pod.namespace, name)
        ref = ObjectRef("ConfigMap", pod.namespace, name)
        evidence = (cite(Source.FIELD, world.top_owner(pod.ref), path, f"{name}{f', key {key}' if key else ''}"),)
        known = world.get(ConfigMap, pod.namespace, name)
        if presence is Presence.ABSENT:
            absent = cite(Source.ABSENCE, ref, "configmaps", f"no ConfigMap {name} in namespace {pod.namespace}")
            yield _Lack("config.missing-configmap", ref, "", (*evidence, absent), Certainty.LIKELY)
        elif known is not None and key and key not in known.keys:
            keys = cite(Source.FIELD, known.ref, "data", f"keys: {', '.join(sorted(known.keys)) or 'none'}")
            yield _Lack("config.missing-key", known.ref, key, (*evidence, keys), Certainty.LIKELY)


def _only_secret(world: World, pod: Pod) -> Iterator[_Lack]:
    """The one Secret that a pod reads its variables from, when its configuration is refused without a word and no ConfigMap lacks."""
    if not any(_reason(status.state.waiting) == "CreateContainerConfigError" for status in pod.all_statuses):
        return
    names = {name for container in pod.spec.all_containers for name in _secrets_of(container)}
    present = all(world.presence("ConfigMap", pod.namespace, name) is Presence.PRESENT for name, _, _ in _configmap_uses(pod))
    if len(names) == 1 and present:
        name = names.pop()
        evidence = _used_at(world, pod, "Secret", name)
        yield _Lack("config.missing-secret", ObjectRef("Secret", pod.namespace, name), "", evidence, Certainty.LIKELY)


def _secrets_of(container: Container) -> Iterator[str]:
    for source in container.env_from or ():
        if source.secret_ref and not source.secret_ref.optional:
            yield source.secret_ref.name
    for item in container.env or ():
        if item.value_from and item.value_from.secret_key_ref and not item.value_from.secret_key_ref.optional:
            yield item.value_from.secret_key_ref.name


def _configmap_uses(pod: Pod) -> Iterator[tuple[str, str, str]]:
    """(name, key or "", path) of every ConfigMap that the pod must have."""
    for volume in pod.spec.volumes or ():
        if volume.config_map and not volume.config_map.optional:
            path = f"volumes[{volume.name}].configMap"
            yield volume.config_map.name, "", path
            for entry in volume.config_map.items or ():
                yield volume.config_map.name, entry.key, f"{path}.items"
    for container in pod.spec.all_containers:
        for source in container.env_from or ():
            if source.config_map_ref and not source.config_map_ref.optional:
                yield source.config_map_ref.name, "", f"containers[{container.name}].envFrom"
        for item in container.env or ():
            reference = item.value_from.config_map_key_ref if item.value_from else None
            if reference and not reference.optional:
                yield reference.name, reference.key, f"containers[{container.name}].env[{item.name}]"


def _used_at(world: World, pod: Pod, kind: str, name: str) -> tuple[Evidence, ...]:
    """Where the pod template names the missing object."""
    owner = world.top_owner(pod.ref)
    if kind == "ConfigMap":
        path = next((path for used, _, path in _configmap_uses(pod) if used == name), None)
        return (cite(Source.FIELD, owner, path, name),) if path else ()
    for volume in pod.spec.volumes or ():
        if volume.secret and volume.secret.secret_name == name:
            return (cite(Source.FIELD, owner, f"volumes[{volume.name}].secret", name),)
    for container in pod.spec.all_containers:
        for item in container.env or ():
            if item.value_from and item.value_from.secret_key_ref and item.value_from.secret_key_ref.name == name:
                return (cite(Source.FIELD, owner, f"containers[{container.name}].env[{item.name}]", name),)
    return ()


def _near(world: World, lack: _Lack) -> str:
    """Objects, or keys, with nearly the missing name: most often a slip of the pen."""
    if lack.key:
        known = world.get(ConfigMap, lack.ref.namespace, lack.ref.name) if lack.ref.kind == "ConfigMap" else None
        keys = difflib.get_close_matches(lack.key, sorted(known.keys) if known else [], n=2, cutoff=0.6)
        return f" It has {' and '.join(keys)}." if keys else ""
    names = [fact.name for fact in world.custom(lack.ref.kind) if fact.namespace == lack.ref.namespace]
    near = difflib.get_close_matches(lack.ref.name, names, n=2, cutoff=0.6)
    return f" There is {' and '.join(near)}." if near else ""


def refused_configurations(world: World) -> Iterator[Finding]:
    """Container configurations that the kubelet refuses for another reason than a missing object."""
    for trouble in troubles(world):
        if trouble.reason != "CreateContainerConfigError" or any(_parsed(trouble.message, trouble.pod)):
            continue
        text = trouble.message
        code = "config.refused"
        if ROOT_FORBIDDEN.search(text):
            code = "container.must-not-run-as-root"
        elif SUBPATH.search(text):
            code = "config.subpath-failed"
        events = current_events(world, trouble.pod, "Failed")
        if not text and (any(any(_parsed(event.text, trouble.pod)) for event in events) or any(_seen(world, trouble.pod))):
            continue
        owner = world.top_owner(trouble.pod.ref)
        yield Finding(
            code=code,
            subject=owner,
            certainty=Certainty.LIKELY if code == "config.refused" else Certainty.PROVEN,
            evidence=(cite_status(trouble, "state.waiting", text or trouble.reason), *(cite_event(event) for event in events[:1])),
            explanation=f"Container {trouble.status.name} of {owner} cannot be configured: {text or 'the kubelet gives no reason'}.",
            affects=(trouble.pod.ref,),
            since=first_failure(world, trouble),
        )


def shared_volumes(world: World) -> Iterator[Finding]:
    """Replicas of one workload that share a ReadWriteOnce claim while some cannot start: one node holds the volume."""
    users: dict[tuple[str | None, str], list[Pod]] = defaultdict(list)
    for pod in world.all(Pod):
        for volume in pod.spec.volumes or ():
            if volume.persistent_volume_claim and not pod.finished and not pod.deleting:
                users[(pod.namespace, volume.persistent_volume_claim.claim_name)].append(pod)
    for (namespace, name), pods in users.items():
        claim = world.get(PersistentVolumeClaim, namespace, name) if len(pods) > 1 else None
        if claim is None or not set(claim.spec.access_modes or ()) <= {"ReadWriteOnce", "ReadWriteOncePod"}:
            continue
        nodes = {pod.spec.node_name for pod in pods if pod.status.phase == "Running"}
        stuck = [pod for pod in pods if pod.status.phase == "Pending" and pod.spec.node_name not in nodes]
        if not nodes or not stuck:
            continue
        owner = world.top_owner(stuck[0].ref)
        running = next(pod for pod in pods if pod.status.phase == "Running")
        workload = world.find(owner)
        if isinstance(workload, Deployment) and workload.spec.replicas <= 1 and world.top_owner(running.ref).same(owner):
            # Old and new pod of one replica meet during a rollout: the strategy is at fault, and the attach controller says so.
            continue
        yield Finding(
            code="config.duplicate-mount",
            subject=owner,
            certainty=Certainty.LIKELY,
            evidence=(
                cite(Source.FIELD, claim.ref, "spec.accessModes", ", ".join(claim.spec.access_modes or ())),
                cite(Source.FIELD, owner, "volumes.persistentVolumeClaim.claimName", name),
                cite(Source.FIELD, running.ref, "spec.nodeName", running.spec.node_name),
            ),
            explanation=f"{len(pods)} pods mount claim {name}, which is {', '.join(claim.spec.access_modes or ())};"
            f" {running.name} holds it on node {running.spec.node_name}, so {stuck[0].name} of {owner} cannot start elsewhere.",
            affects=tuple(pod.ref for pod in stuck),
            since=stuck[0].created,
        )


def mixed_images(world: World) -> Iterator[Finding]:
    """Pods of one ReplicaSet that run different builds under one tag, while some of them fail."""
    builds: dict[tuple[str | None, str, str], dict[str, list[Pod]]] = defaultdict(lambda: defaultdict(list))
    failing = {pod.ref.key for pod in troubled_pods(world)}
    for key in failing:
        pod = world.get(Pod, key[1], key[2])
        if pod is None or pod.controller is None or pod.controller.kind != "ReplicaSet":
            continue
        siblings = world.owned_by(ObjectRef("ReplicaSet", pod.namespace, pod.controller.name))
        for sibling in siblings:
            for status in sibling.status.container_statuses or () if isinstance(sibling, Pod) else ():
                if "@sha256:" in status.image_id and isinstance(sibling, Pod):
                    group = builds[(pod.namespace, pod.controller.name, status.name)]
                    if sibling not in group[status.image_id]:
                        group[status.image_id].append(sibling)
    for (namespace, replica_set, name), images in builds.items():
        bad = [digest for digest, pods in images.items() if all(pod.ref.key in failing for pod in pods)]
        good = [digest for digest, pods in images.items() if not any(pod.ref.key in failing for pod in pods)]
        if len(images) < 2 or len(bad) != 1 or not good:
            continue
        owner = world.top_owner(ObjectRef("ReplicaSet", namespace, replica_set))
        yield Finding(
            code="config.mixed-images",
            subject=owner,
            certainty=Certainty.LIKELY,
            evidence=tuple(
                cite(Source.FIELD, pods[0].ref, f"status.containerStatuses[{name}].imageID", digest) for digest, pods in images.items()
            ),
            explanation=f"Pods of {owner} run {len(images)} builds of the same tag, and exactly those with {bad[0][-19:]} fail.",
            affects=tuple(pod.ref for pod in images[bad[0]]),
        )


DETECTORS: tuple[Detector, ...] = (missing_references, refused_configurations, shared_volumes, mixed_images)
