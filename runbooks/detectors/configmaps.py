"""ConfigMaps that nobody uses, and configuration that changed while the pods that took it at start still run.

Limits: values are not compared here: a recording holds one version of a ConfigMap, so only the times of its change and of the pods can
be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from cluster.facts.config import ConfigMap
from cluster.facts.pod import Pod, PodSpec
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.finding import Certainty, Detector, Finding, Source, cite
from runbooks.traffic import Traffic, is_system

CONFIG_GRACE = timedelta(minutes=2)
# ConfigMaps that the cluster itself writes for others to read through the API.
_CLUSTER_CONFIG = frozenset(
    {"kube-root-ca.crt", "openshift-service-ca.crt", "istio-ca-root-cert", "extension-apiserver-authentication", "cluster-info"}
)
# Tools that find ConfigMaps by label instead of by name.
_READERS = ("grafana.com", "argoproj.io", "helm.sh")


def configuration_unused(world: World) -> Iterator[Finding]:
    """A ConfigMap that no pod and no pod template refers to."""
    if Pod.kind not in world.read_kinds:
        return
    used: dict[str | None, set[str]] = defaultdict(set)
    traffic = world.once(Traffic)
    namespaces = {item.namespace for item in world.all(ConfigMap)}
    for namespace in namespaces:
        for workload in traffic.workloads(namespace):
            used[namespace].update(_config_names(workload.spec))
        for pod in world.pods_in(namespace):
            used[namespace].update(_config_names(pod.spec))
    for config in world.all(ConfigMap):
        if config.name in used[config.namespace] or config.name in _CLUSTER_CONFIG or is_system(config.namespace) or _managed(config):
            continue
        if _mentioned(traffic, config):
            continue
        yield Finding(
            "configuration.unused",
            config.ref,
            Certainty.LIKELY,
            (
                cite(Source.ABSENCE, config.ref, "references", f"no pod or pod template in namespace {config.namespace} names it"),
                cite(Source.FIELD, config.ref, "data", f"{len(config.keys)} key(s)"),
            ),
            f"ConfigMap {config.namespace}/{config.name} is used by no pod and no pod template of its namespace.",
            lacks="whether something reads it through the API",
        )


def _config_names(spec: PodSpec) -> Iterator[str]:
    for volume in spec.volumes or ():
        if volume.config_map is not None:
            yield volume.config_map.name
        for source in (volume.projected.sources if volume.projected else None) or ():
            if source.config_map is not None:
                yield source.config_map.name
    for container in spec.all_containers:
        for env in container.env or ():
            if env.value_from is not None and env.value_from.config_map_key_ref is not None:
                yield env.value_from.config_map_key_ref.name
        for source_ in container.env_from or ():
            if source_.config_map_ref is not None:
                yield source_.config_map_ref.name


def _managed(config: ConfigMap) -> bool:
    """ConfigMaps that a controller owns, watches by label or uses as a lock are read through the API."""
    if config.metadata.owner_references or "control-plane.alpha.kubernetes.io/leader" in config.annotations:
        return True
    return any(key.partition("/")[0].endswith(_READERS) or key.startswith(("grafana_", "owner")) for key in config.labels)


def _mentioned(traffic: Traffic, config: ConfigMap) -> bool:
    """Whether some container is told the ConfigMap's name in plain text."""
    for workload in traffic.workloads(config.namespace):
        for container in workload.spec.all_containers:
            texts = (*(container.command or ()), *(container.args or ()), *(env.value or "" for env in container.env or ()))
            if any(config.name in text for text in texts):
                return True
    return False


def configuration_not_reloaded(world: World) -> Iterator[Finding]:
    """A ConfigMap written after the pods that take their environment from it have started: they run with old values."""
    by_config: dict[tuple[str | None, str], list[Pod]] = defaultdict(list)
    changed = {config.ref.key: at for config in world.all(ConfigMap) if (at := _written(config)) is not None}
    if not changed:
        return
    for pod in world.all(Pod):
        if pod.finished:
            continue
        for name in set(_env_configs(pod.spec)):
            at = changed.get((ConfigMap.kind, pod.namespace, name))
            if at is not None and pod.status.start_time is not None and at > pod.status.start_time + CONFIG_GRACE:
                by_config[(pod.namespace, name)].append(pod)
    for (namespace, name), pods in by_config.items():
        config = ObjectRef(ConfigMap.kind, namespace, name)
        at = changed[config.key]
        owners = tuple(dict.fromkeys(world.top_owner(pod.ref) for pod in pods))
        yield Finding(
            "configuration.not-reloaded",
            owners[0],
            Certainty.POSSIBLE,
            (
                cite(Source.FIELD, config, "metadata.managedFields[*].time", at.isoformat(), at),
                *(cite(Source.FIELD, pod.ref, "status.startTime", pod.status.start_time) for pod in pods[:3]),
            ),
            f"ConfigMap {namespace}/{name} was written at {at:%H:%M:%S} after {len(pods)} pod(s) of {owners[0].name} had started; "
            "environment variables taken from it keep the old values until a restart.",
            affects=tuple(pod.ref for pod in pods[:50]),
            since=at,
            lacks="whether the values that changed matter to the pods",
        )


def _env_configs(spec: PodSpec) -> Iterator[str]:
    for container in spec.all_containers:
        for env in container.env or ():
            if env.value_from is not None and env.value_from.config_map_key_ref is not None:
                yield env.value_from.config_map_key_ref.name
        for source in container.env_from or ():
            if source.config_map_ref is not None:
                yield source.config_map_ref.name


def _written(config: ConfigMap) -> datetime | None:
    """When it was changed after its creation; None when it never was, or that is not known."""
    times = [item.time for item in config.metadata.managed_fields or () if item.time is not None]
    latest = max(times, default=None)
    return latest if latest is not None and config.created is not None and latest > config.created else None


DETECTORS: tuple[Detector, ...] = (configuration_unused, configuration_not_reloaded)
