"""The facts of one scope, indexed: what detectors are given. A World only grows (`with_facts`, `with_log`, …) and reads nothing itself."""

from __future__ import annotations

import enum
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from cluster.facts.event import Event
from cluster.facts.meta import Fact
from cluster.facts.network import Service
from cluster.facts.pod import Pod
from cluster.reading import LogText, Missing, Reading, Series, Why
from cluster.reference import ContainerRef, ObjectRef, Scope
from cluster.telemetry import Telemetry

F = TypeVar("F", bound=Fact)
T = TypeVar("T")
Key = tuple[str, str | None, str]


class Presence(enum.Enum):
    """Whether an object exists. UNKNOWN: its kind was not read, or not in that namespace, so its absence proves nothing."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class World:
    """`facts` by kind name; `read_kinds` are the kinds whose listing was complete in `scope`; `logs` by (container, previous)."""

    cluster: str
    now: datetime
    scope: Scope
    facts: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict)
    read_kinds: frozenset[str] = frozenset()
    logs: Mapping[tuple[ContainerRef, bool], Reading[LogText]] = field(default_factory=dict)
    metrics: Mapping[str, Reading[tuple[Series, ...]]] = field(default_factory=dict)
    telemetry: Telemetry = field(default_factory=Telemetry)
    missing: tuple[Missing, ...] = ()

    def with_facts(self, kind: str, facts: Iterable[Fact], *, complete: bool, missing: Iterable[Missing] = ()) -> World:
        """This world with the objects of a kind added (same names replaced); `complete` when absence of others is thereby proven."""
        known = {fact.ref.key: fact for fact in self.facts.get(kind, ())}
        known.update((fact.ref.key, fact) for fact in facts)
        return replace(
            self,
            facts={**self.facts, kind: tuple(known.values())},
            read_kinds=self.read_kinds | {kind} if complete else self.read_kinds,
            missing=_unique(self.missing, missing),
        )

    def with_log(self, container: ContainerRef, *, previous: bool, log: Reading[LogText]) -> World:
        made = replace(self, logs={**self.logs, (container, previous): log}, missing=_unique(self.missing, log.missing))
        return self._indexes_into(made)

    def with_metric(self, key: str, series: Reading[tuple[Series, ...]]) -> World:
        made = replace(self, metrics={**self.metrics, key: series}, missing=_unique(self.missing, series.missing))
        return self._indexes_into(made)

    def with_telemetry(self, telemetry: Reading[Telemetry]) -> World:
        """This world with what monitoring said. Having no source of it is the rule, so that alone is no gap worth naming."""
        missing = (item for item in telemetry.missing if item.why is not Why.NO_SOURCE)
        return replace(self, telemetry=telemetry.value, missing=_unique(self.missing, missing))

    def all(self, kind: type[F]) -> tuple[F, ...]:
        """Every object of a kind with a fact type of its own."""
        return self.facts.get(kind.kind, ())  # type: ignore[return-value]

    def custom(self, kind: str) -> tuple[Fact, ...]:
        """Every object of a kind by name, for kinds that share a fact type."""
        return self.facts.get(kind, ())

    def get(self, kind: type[F], namespace: str | None, name: str) -> F | None:
        return self._by_key.get((kind.kind, namespace, name))  # type: ignore[return-value]

    def find(self, ref: ObjectRef) -> Fact | None:
        """The object that a reference names, whatever its kind."""
        return self._by_key.get(ref.key)

    def presence(self, kind: str, namespace: str | None, name: str) -> Presence:
        """Whether that object exists, as far as this world can know."""
        if (kind, namespace, name) in self._by_key:
            return Presence.PRESENT
        complete = kind in self.read_kinds and self.scope.includes(namespace)
        return Presence.ABSENT if complete else Presence.UNKNOWN

    def events(self, ref: ObjectRef, *reasons: str) -> tuple[Event, ...]:
        """Events about an object, oldest first. Events of an earlier object with the same name (another uid) are left out."""
        found = self._events_by_subject.get(ref.key, ())
        return tuple(
            event
            for event in found
            if (not reasons or event.reason in reasons) and (ref.uid is None or event.subject.uid is None or event.subject.uid == ref.uid)
        )

    def pods_on(self, node: str) -> tuple[Pod, ...]:
        return self._pods_by_node.get(node, ())

    def pods_in(self, namespace: str | None) -> tuple[Pod, ...]:
        return self._pods_by_namespace.get(namespace, ())

    def pods_selected(self, namespace: str | None, labels: Mapping[str, str]) -> tuple[Pod, ...]:
        """Pods in a namespace that carry all of `labels`; an empty selector selects none, as for a Service."""
        if not labels:
            return ()
        candidates = min((self._pods_by_label.get((namespace, item), ()) for item in labels.items()), key=len)
        return tuple(pod for pod in candidates if labels.items() <= pod.labels.items())

    def services_selecting(self, pod: Pod) -> tuple[Service, ...]:
        return tuple(
            service
            for service in self._services_by_namespace.get(pod.namespace, ())
            if service.spec.selector and service.spec.selector.items() <= pod.labels.items()
        )

    def owned_by(self, ref: ObjectRef) -> tuple[Fact, ...]:
        """What an object directly owns."""
        return self._owned.get(ref.key, ())

    def pods_of(self, ref: ObjectRef) -> tuple[Pod, ...]:
        """All pods below an object in the owner chain, the pod itself included."""
        return tuple(fact for fact in self.descend(ref) if isinstance(fact, Pod))

    def descend(self, ref: ObjectRef) -> Iterator[Fact]:
        """The object, if known, and everything below it in the owner chain."""
        stack, seen = [ref.key], {ref.key}
        while stack:
            key = stack.pop()
            fact = self._by_key.get(key)
            if fact is not None:
                yield fact
            for owned in self._owned.get(key, ()):
                if owned.ref.key not in seen:
                    seen.add(owned.ref.key)
                    stack.append(owned.ref.key)

    def owner_chain(self, ref: ObjectRef) -> tuple[ObjectRef, ...]:
        """The object and its controllers, nearest first, ending at the top one. Owners that were not read still appear by name."""
        chain, seen = [ref], {ref.key}
        while True:
            fact = self._by_key.get(chain[-1].key)
            above = self._above(fact) if fact is not None else _deployment_of(chain[-1], self._by_key.get(ref.key))
            # A node owns its mirror pods; it is no workload, and the chain ends below it.
            if above is None or above.kind == "Node" or above.key in seen:
                return tuple(chain)
            seen.add(above.key)
            chain.append(above)

    def _above(self, fact: Fact) -> ObjectRef | None:
        """The controller of an object; of a pod known by its name only, as printed tables have it, the workload that it is named after."""
        owner = _owner(fact)
        if owner is not None or fact.metadata.labels or not isinstance(fact, Pod):
            return owner
        candidates = ((kind, found.group("name")) for kind, pattern in _POD_NAMES if (found := pattern.match(fact.name)) is not None)
        return next(
            (ObjectRef(kind, fact.namespace, name) for kind, name in candidates if (kind, fact.namespace, name) in self._by_key), None
        )

    def top_owner(self, ref: ObjectRef) -> ObjectRef:
        """The workload that a person would edit: the last of the owner chain."""
        top = self._tops.get(ref.key)
        if top is None:
            top = self._tops[ref.key] = self.owner_chain(ref)[-1]
        return ref if top.key == ref.key else top

    def once(self, make: Callable[[World], T]) -> T:
        """What `make` derives from this world, made on first use: for what several detectors need. `make` must be a pure function that
        lives as long as the program, such as a module's function or class."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]  # type: ignore[no-any-return]

    def _indexes_into(self, made: World) -> World:
        """Hand the indexes that were built to a world with the same facts."""
        made.__dict__.update((name, self.__dict__[name]) for name in _INDEXES if name in self.__dict__)
        return made

    @cached_property
    def _tops(self) -> dict[Key, ObjectRef]:
        return {}

    @cached_property
    def _made(self) -> dict[Callable[[World], Any], Any]:
        return {}

    @cached_property
    def _by_key(self) -> dict[Key, Fact]:
        return {fact.ref.key: fact for facts in self.facts.values() for fact in facts}

    @cached_property
    def _events_by_subject(self) -> dict[Key, tuple[Event, ...]]:
        grouped: dict[Key, list[Event]] = defaultdict(list)
        for event in self.all(Event):
            grouped[event.subject.key].append(event)
        return {key: tuple(sorted(items, key=lambda item: (item.last_seen or self.now, item.name))) for key, items in grouped.items()}

    @cached_property
    def _pods_by_node(self) -> dict[str, tuple[Pod, ...]]:
        return _grouped((pod.spec.node_name, pod) for pod in self.all(Pod) if pod.spec.node_name)

    @cached_property
    def _pods_by_namespace(self) -> dict[str | None, tuple[Pod, ...]]:
        return _grouped((pod.namespace, pod) for pod in self.all(Pod))

    @cached_property
    def _pods_by_label(self) -> dict[tuple[str | None, tuple[str, str]], tuple[Pod, ...]]:
        return _grouped(((pod.namespace, item), pod) for pod in self.all(Pod) for item in pod.labels.items())

    @cached_property
    def _services_by_namespace(self) -> dict[str | None, tuple[Service, ...]]:
        return _grouped((service.namespace, service) for service in self.all(Service))

    @cached_property
    def _owned(self) -> dict[Key, tuple[Fact, ...]]:
        return _grouped((owner, fact) for facts in self.facts.values() for fact in facts for owner in self._owners_of(fact))

    def _owners_of(self, fact: Fact) -> Iterator[Key]:
        """The keys of all that own an object; where its controller was not read, of the workload above that too."""
        references = fact.metadata.owner_references or ()
        for reference in references:
            yield (reference.kind, fact.namespace, reference.name)
        inferred = self._above(fact)
        if inferred is None:
            return
        if not references:
            yield inferred.key
        above = _deployment_of(inferred, fact) if inferred.key not in self._by_key else None
        if above is not None:
            yield above.key


TEMPLATE_HASH = "pod-template-hash"
# How controllers name their pods; the random parts leave out vowels and look-alikes (K apimachinery/pkg/util/rand).
_POD_NAMES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("Deployment", re.compile(r"(?P<name>.+)-[0-9a-z]{8,10}-[bcdfghjklmnpqrstvwxz2456789]{5}$")),
    ("StatefulSet", re.compile(r"(?P<name>.+)-\d+$")),
    ("Job", re.compile(r"(?P<name>.+)-[bcdfghjklmnpqrstvwxz2456789]{5}$")),
    ("DaemonSet", re.compile(r"(?P<name>.+)-[bcdfghjklmnpqrstvwxz2456789]{5}$")),
)


def _owner(fact: Fact) -> ObjectRef | None:
    """The controller of an object. A pod whose recording lost its owner references still tells by its labels and its name."""
    owner = fact.controller
    if owner is not None:
        return ObjectRef(owner.kind, fact.namespace, owner.name, owner.uid)
    template_hash = fact.labels.get(TEMPLATE_HASH)
    if isinstance(fact, Pod) and template_hash and f"-{template_hash}-" in fact.name:
        return ObjectRef("ReplicaSet", fact.namespace, fact.name.rpartition("-")[0])
    job = fact.labels.get("batch.kubernetes.io/job-name") or fact.labels.get("job-name")
    return ObjectRef("Job", fact.namespace, job) if isinstance(fact, Pod) and job else None


def _deployment_of(replica_set: ObjectRef, pod: Fact | None) -> ObjectRef | None:
    """The Deployment of a ReplicaSet that was not read: its controller names it DEPLOYMENT-HASH (K deployment/sync.go)."""
    template_hash = pod.labels.get(TEMPLATE_HASH) if pod is not None else None
    if replica_set.kind != "ReplicaSet" or not template_hash or not replica_set.name.endswith(f"-{template_hash}"):
        return None
    return ObjectRef("Deployment", replica_set.namespace, replica_set.name.removesuffix(f"-{template_hash}"))


# What depends on facts alone.
_INDEXES = (
    "_tops",
    "_by_key",
    "_events_by_subject",
    "_pods_by_node",
    "_pods_by_namespace",
    "_pods_by_label",
    "_services_by_namespace",
    "_owned",
)

K = TypeVar("K")
V = TypeVar("V")


def _grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, tuple[V, ...]]:
    grouped: dict[K, list[V]] = defaultdict(list)
    for key, value in pairs:
        grouped[key].append(value)
    return {key: tuple(values) for key, values in grouped.items()}


def _unique(known: tuple[Missing, ...], more: Iterable[Missing]) -> tuple[Missing, ...]:
    return tuple(dict.fromkeys((*known, *more)))
