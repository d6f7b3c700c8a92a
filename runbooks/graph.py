"""Who breaks when an object breaks: the declared and selected dependencies of one world, walked downstream.

Only edges along which failure travels are here. That a pod runs on a node is not one: a detector that blames a node names the
pods it affects.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property

from cluster.facts.network import HTTPRoute, Ingress, Service
from cluster.facts.pod import Pod
from cluster.facts.storage import PersistentVolume, PersistentVolumeClaim
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.testimony import observed_calls
from runbooks.traffic import Traffic

Key = tuple[str, str | None, str]


class Graph:
    """The downstream walk over one world; indexes are built on first use. Get it by `world.once(Graph)`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._callers = world.once(observed_calls)
        self._reaches: dict[Key, frozenset[Key]] = {}

    def reach(self, starts: Iterable[ObjectRef]) -> frozenset[Key]:
        """Keys of everything that may break because of `starts`, themselves included. Pods of one workload reach the same."""
        reaches = dict.fromkeys(self._reach(ref) for ref in starts)
        return next(iter(reaches)) if len(reaches) == 1 else frozenset().union(*reaches)

    def _reach(self, start: ObjectRef) -> frozenset[Key]:
        known = self._reaches.get(start.key)
        if known is None:
            known = self._reaches[start.key] = self._reach_of_owner(start) or self._walk(start.key)
        return known

    def _reach_of_owner(self, start: ObjectRef) -> frozenset[Key] | None:
        """What the workload of a pod reaches, where each of the two reaches the other."""
        if start.kind != Pod.kind or self._world.find(start) is None:
            return None
        owner = self._world.owner_chain(start)[-1]
        reach = self._reach(owner) if not owner.same(start) else frozenset()
        return reach if start.key in reach else None

    def _walk(self, start: Key) -> frozenset[Key]:
        stack = [start]
        seen = {start}
        while stack:
            for key in self._below(stack.pop()):
                if key not in seen:
                    seen.add(key)
                    stack.append(key)
        return frozenset(seen)

    def _below(self, key: Key) -> Iterator[Key]:
        kind, namespace, name = key
        ref = ObjectRef(kind, namespace, name)
        for owned in self._world.owned_by(ref):
            yield owned.ref.key
        fact = self._world.find(ref)
        if isinstance(fact, Pod):
            for owner in self._world.owner_chain(ref)[1:]:
                yield owner.key
            for service in self._world.services_selecting(fact):
                yield service.ref.key
        elif kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"):
            # A workload that could create no pod leaves its Services empty all the same.
            for reference in self._world.once(Traffic).services_of(ref):
                yield reference.key
        elif kind == "Service":
            yield from self._routes_to_service.get((namespace, name), ())
            # Who was heard to fail at it; that somebody is only configured to call it is not enough to break him.
            for caller in self._callers.get((namespace, name), ()):
                yield caller.key
        elif kind in ("ConfigMap", "Secret", "PersistentVolumeClaim", "ServiceAccount"):
            yield from self._world.once(_Users).of(kind, namespace, name)
        elif isinstance(fact, PersistentVolume) and fact.spec.claim_ref is not None:
            yield ("PersistentVolumeClaim", fact.spec.claim_ref.namespace, fact.spec.claim_ref.name)
        elif kind == "StorageClass":
            for claim in self._world.all(PersistentVolumeClaim):
                if claim.spec.storage_class_name == name and claim.status.phase != "Bound":
                    yield claim.ref.key

    @cached_property
    def _routes_to_service(self) -> dict[tuple[str | None, str], list[Key]]:
        routes: dict[tuple[str | None, str], list[Key]] = defaultdict(list)
        for ingress in self._world.all(Ingress):
            for rule in ingress.spec.rules or ():
                for path in (rule.http.paths if rule.http else None) or ():
                    if path.backend.service is not None:
                        routes[(ingress.namespace, path.backend.service.name)].append(ingress.ref.key)
        for route in self._world.all(HTTPRoute):
            for http_rule in route.spec.rules or ():
                for backend in http_rule.backend_refs or ():
                    if backend.kind == Service.kind:
                        routes[(backend.namespace or route.namespace, backend.name)].append(route.ref.key)
        return routes


class _Users:
    """Pods by the ConfigMap, Secret, claim or ServiceAccount that they need, of one namespace after the other as they are asked for.
    Apart from the graph, which rests on logs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[str | None, dict[tuple[str, str], list[Key]]] = {}

    def of(self, kind: str, namespace: str | None, name: str) -> list[Key]:
        users = self._known.get(namespace)
        if users is None:
            users = self._known[namespace] = defaultdict(list)
            for pod in self._world.pods_in(namespace):
                for need in needs(pod):
                    users[need].append(pod.key)
        return users.get((kind, name), [])


def needs(pod: Pod) -> Iterator[tuple[str, str]]:
    """(kind, name) of every object in its namespace without which the pod cannot start."""
    for volume in pod.spec.volumes or ():
        if volume.config_map and not volume.config_map.optional:
            yield ("ConfigMap", volume.config_map.name)
        if volume.secret and not volume.secret.optional:
            yield ("Secret", volume.secret.secret_name)
        if volume.persistent_volume_claim:
            yield ("PersistentVolumeClaim", volume.persistent_volume_claim.claim_name)
        for source in (volume.projected.sources if volume.projected else None) or ():
            if source.config_map and not source.config_map.optional:
                yield ("ConfigMap", source.config_map.name)
            if source.secret and not source.secret.optional:
                yield ("Secret", source.secret.name)
    for container in pod.spec.all_containers:
        for env in container.env or ():
            if env.value_from and env.value_from.config_map_key_ref and not env.value_from.config_map_key_ref.optional:
                yield ("ConfigMap", env.value_from.config_map_key_ref.name)
            if env.value_from and env.value_from.secret_key_ref and not env.value_from.secret_key_ref.optional:
                yield ("Secret", env.value_from.secret_key_ref.name)
        for env_from in container.env_from or ():
            if env_from.config_map_ref and not env_from.config_map_ref.optional:
                yield ("ConfigMap", env_from.config_map_ref.name)
            if env_from.secret_ref and not env_from.secret_ref.optional:
                yield ("Secret", env_from.secret_ref.name)
    if pod.spec.service_account_name:
        yield ("ServiceAccount", pod.spec.service_account_name)
