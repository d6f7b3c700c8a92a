"""Environment variables that are set twice, referred to but never set, dropped by the last revision, or read before they changed.

Limits: no Kubernetes component reports any of these: they are told by the pod template alone, so that all but the first count only
against a container that fails.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from cluster.facts.config import ConfigMap
from cluster.facts.container import Container
from cluster.facts.pod import Pod
from cluster.facts.workload import ReplicaSet
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.dependencies import Dependencies
from runbooks.detectors.pods import cite_status, earlier_container, first_failure, troubles, wanted_logs
from runbooks.finding import Certainty, Detector, Finding, Source, cite

UNDEFINED = re.compile(r"\$\(([A-Z][A-Z0-9_]{2,})\)")


def duplicate_variables(world: World) -> Iterator[Finding]:
    """Variables that a container sets twice with different values; the last one wins, silently."""
    for owner, pod in world.once(Dependencies).specimens.values():
        for container in pod.spec.all_containers:
            for name, values in _duplicates(container):
                yield Finding(
                    code="config.duplicate-env",
                    subject=owner,
                    certainty=Certainty.LIKELY,
                    evidence=tuple(
                        cite(Source.FIELD, owner, f"containers[{container.name}].env[{position}]", f"{name}={value}")
                        for position, value in values
                    ),
                    explanation=f"Container {container.name} of {owner} sets {name} {len(values)} times; the last value"
                    f" {values[-1][1]!r} hides {values[0][1]!r}.",
                    affects=(pod.ref,),
                    since=pod.created,
                )


def _duplicates(container: Container) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    if len({item.name for item in container.env or ()}) == len(container.env or ()):
        return
    places: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for position, item in enumerate(container.env or ()):
        places[item.name].append((position, item.value if item.value is not None else "(taken from elsewhere)"))
    for name, values in places.items():
        if len({value for _, value in values}) > 1:
            yield name, values


def undefined_variables(world: World) -> Iterator[Finding]:
    """`$(NAME)` in a value or argument of a failing container whose NAME is set nowhere: the kubelet passes it on as it stands."""
    for trouble in troubles(world):
        container = trouble.container
        if container is None or container.env_from or trouble.status.ready:
            continue
        defined = {item.name for item in container.env or ()}
        texts = [(f"env[{item.name}]", item.value or "") for item in container.env or ()]
        shell = any("sh" in word.rpartition("/")[2][-2:] for word in (container.command or ())[:1])
        texts += [] if shell else [("args", word) for word in (*(container.command or ()), *(container.args or ()))]
        owner = world.top_owner(trouble.pod.ref)
        for path, text in texts:
            for name in UNDEFINED.findall(text):
                # Service links define these at run time (K kubelet envvars.go).
                if name in defined or name.endswith(("_SERVICE_HOST", "_SERVICE_PORT")) or "_PORT_" in name:
                    continue
                yield Finding(
                    code="config.missing-env",
                    subject=owner,
                    certainty=Certainty.LIKELY,
                    evidence=(cite(Source.FIELD, owner, f"containers[{container.name}].{path}", text),),
                    explanation=f"Container {container.name} of {owner} uses $({name}), which is set nowhere: it sees the literal text.",
                    affects=(trouble.pod.ref,),
                    since=first_failure(world, trouble),
                    wants=wanted_logs(trouble),
                )


def removed_variables(world: World) -> Iterator[Finding]:
    """Variables that the previous revision set and the failing one does not."""
    for trouble in troubles(world):
        container = trouble.container
        if container is None or container.env_from or trouble.status.ready:
            continue
        owner = world.top_owner(trouble.pod.ref)
        earlier = earlier_container(world, owner, container.name)
        if earlier is None or not _is_newest(world, trouble.pod, owner):
            continue
        revision, before = earlier
        removed = sorted({item.name for item in before.env or ()} - {item.name for item in container.env or ()})
        if removed:
            yield Finding(
                code="config.removed-env",
                subject=owner,
                certainty=Certainty.LIKELY,
                evidence=(cite(Source.FIELD, owner, f"revision {revision} containers[{container.name}].env", ", ".join(removed)),),
                explanation=f"Container {container.name} of {owner} fails since its last revision no longer sets {', '.join(removed)}.",
                affects=(trouble.pod.ref,),
                since=trouble.pod.created,
                wants=wanted_logs(trouble),
            )


def _is_newest(world: World, pod: Pod, owner: ObjectRef) -> bool:
    """Whether the pod belongs to the newest ReplicaSet of its Deployment."""
    owned = [fact for fact in world.owned_by(owner) if isinstance(fact, ReplicaSet) and fact.revision is not None]
    newest = max(owned, key=lambda replica_set: replica_set.revision or 0, default=None)
    return newest is not None and pod.controller is not None and pod.controller.name == newest.name


def stale_configmaps(world: World) -> Iterator[Finding]:
    """ConfigMaps written after a failing container read them as variables or subpaths, which are never refreshed."""
    for trouble in troubles(world):
        container = trouble.container
        running = trouble.status.state.running
        if container is None or running is None or running.started_at is None or trouble.status.ready:
            continue
        for name in sorted(_frozen_configmaps(trouble.pod, container)):
            known = world.get(ConfigMap, trouble.pod.namespace, name)
            written = max((item.time for item in (known.metadata.managed_fields if known else None) or () if item.time), default=None)
            if known is None or written is None or written <= running.started_at:
                continue
            owner = world.top_owner(trouble.pod.ref)
            yield Finding(
                code="config.stale-configmap",
                subject=owner,
                certainty=Certainty.LIKELY,
                evidence=(
                    cite(Source.FIELD, known.ref, "metadata.managedFields.time", written.isoformat(), written),
                    cite_status(trouble, "state.running.startedAt", running.started_at.isoformat(), running.started_at),
                ),
                explanation=f"Container {container.name} of {owner} still runs with the values that ConfigMap {name} had before"
                f" {written:%H:%M}: variables are read only at the start.",
                affects=(trouble.pod.ref,),
                since=written,
            )


def _frozen_configmaps(pod: Pod, container: Container) -> set[str]:
    names = {source.config_map_ref.name for source in container.env_from or () if source.config_map_ref}
    for item in container.env or ():
        if item.value_from and item.value_from.config_map_key_ref:
            names.add(item.value_from.config_map_key_ref.name)
    volumes = {volume.name: volume.config_map.name for volume in pod.spec.volumes or () if volume.config_map}
    names.update(volumes[mount.name] for mount in container.volume_mounts or () if mount.sub_path and mount.name in volumes)
    return names


DETECTORS: tuple[Detector, ...] = (duplicate_variables, undefined_variables, removed_variables, stale_configmaps)
