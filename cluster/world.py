"""The facts of one scope, indexed: what detectors are given. A World only grows (`with_facts`, `with_log`, …) and reads nothing itself.

A world that grew by logs, metrics or telemetry alone keeps its indexes, and of what was derived `once` all that did not read those:
that is why reading those fields is noted. Facts are not noted; a world that grew by objects starts anew, one that learned that there
are none of a kind does not. It is longer than other modules because what it keeps and what it drops as it grows is told in one place.
"""

from __future__ import annotations

import enum
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, TypeVar, overload

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


def _listing_of(kind: str) -> str:
    """The note that the completeness of one kind was asked for; `read_kinds` notes that of all."""
    return f"listing of {kind}"


class _Nothing(Mapping[Any, Any]):
    """The empty mapping, immutable and hashable, which a dataclass wants of a default."""

    def __getitem__(self, key: Any) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __hash__(self) -> int:
        return 0


_NOTHING = _Nothing()


class Presence(enum.Enum):
    """Whether an object exists. UNKNOWN: its kind was not read, or not in that namespace, so its absence proves nothing."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class _Noted(Generic[T]):
    """A field of World: whoever derives something `once` is noted to rest on it when it is read."""

    def __init__(self, default: T) -> None:
        self._default = default
        self._name = ""

    def __set_name__(self, owner: type[World], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, world: None, owner: type[World]) -> T: ...
    @overload
    def __get__(self, world: World, owner: type[World]) -> T: ...
    def __get__(self, world: World | None, owner: type[World]) -> T:
        if world is None:
            return self._default
        world._read[-1].add(self._name)
        return world.__dict__[self._name]  # type: ignore[no-any-return]

    def __set__(self, world: World, value: T) -> None:
        world.__dict__[self._name] = value


@dataclass(frozen=True)
class _Made:
    """What was derived `once`, and the noted fields that it rests on."""

    value: Any
    rests_on: frozenset[str]


@dataclass(frozen=True)
class World:
    """`facts` by kind name; `read_kinds` are the kinds whose listing was complete in `scope`; `logs` by (container, previous)."""

    cluster: str
    now: datetime
    scope: Scope
    facts: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict)
    read_kinds: _Noted[frozenset[str]] = _Noted(frozenset())
    logs: _Noted[Mapping[tuple[ContainerRef, bool], Reading[LogText]]] = _Noted(_NOTHING)
    metrics: _Noted[Mapping[str, Reading[tuple[Series, ...]]]] = _Noted(_NOTHING)
    telemetry: _Noted[Telemetry] = _Noted(Telemetry())
    missing: _Noted[tuple[Missing, ...]] = _Noted(())

    def with_facts(self, kind: str, facts: Iterable[Fact], *, complete: bool, missing: Iterable[Missing] = ()) -> World:
        """This world with the objects of a kind added (same names replaced); `complete` when absence of others is thereby proven."""
        read_kinds = self.read_kinds | {kind} if complete else self.read_kinds
        missing = _unique(self.missing, missing)
        added = {fact.key: fact for fact in facts}
        if not added:
            return self._grown(_listing_of(kind), read_kinds=read_kinds, missing=missing)
        known = {fact.key: fact for fact in self.facts.get(kind, ())}
        return replace(self, facts={**self.facts, kind: tuple((known | added).values())}, read_kinds=read_kinds, missing=missing)

    def with_log(self, container: ContainerRef, *, previous: bool, log: Reading[LogText]) -> World:
        """This world with a log. One that a container does not have, because it waits or never ran before, is no gap worth naming."""
        missing = (gap for gap in log.missing if gap.why is not Why.NOT_FOUND or (previous and self._restarted(container)))
        return self._grown(logs={**self.logs, (container, previous): log}, missing=_unique(self.missing, missing))

    def _restarted(self, container: ContainerRef) -> bool:
        pod = self.get(Pod, container.namespace, container.pod)
        status = pod.container_status(container.container) if pod is not None else None
        return status is not None and status.restart_count > 0

    def with_metric(self, key: str, series: Reading[tuple[Series, ...]]) -> World:
        return self._grown(metrics={**self.metrics, key: series}, missing=_unique(self.missing, series.missing))

    def with_telemetry(self, telemetry: Reading[Telemetry]) -> World:
        """This world with what monitoring said. Having no source of it is the rule, so that alone is no gap worth naming."""
        missing = (item for item in telemetry.missing if item.why is not Why.NO_SOURCE)
        return self._grown(telemetry=telemetry.value, missing=_unique(self.missing, missing))

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
        self._read[-1].add(_listing_of(kind))
        complete = kind in self.__dict__["read_kinds"] and self.scope.includes(namespace)
        return Presence.ABSENT if complete else Presence.UNKNOWN

    def events(self, ref: ObjectRef, *reasons: str) -> tuple[Event, ...]:
        """Events about an object, oldest first. Events of an earlier object with the same name (another uid) are left out."""
        found = self._events_by_subject.get(ref.key, ())
        if not found:
            return ()
        return tuple(
            event
            for event in found
            if (not reasons or event.reason in reasons) and (ref.uid is None or event.subject.uid is None or event.subject.uid == ref.uid)
        )

    def pods_on(self, node: str) -> tuple[Pod, ...]:
        return self._pods_by_node.get(node, ())

    def unready_pods(self) -> tuple[Pod, ...]:
        """The pods that are neither ready nor finished: the few among the many at which most detectors look."""
        return self._unready_pods

    def pods_not_ready(self) -> tuple[Pod, ...]:
        """The pods that are not ready, finished ones included."""
        return self._pods_not_ready

    def workloads(self) -> tuple[tuple[ObjectRef, tuple[Pod, ...]], ...]:
        """The top owner of every pod, each with all its pods. Of owners of one name that came one after the other it is the first pod's, so
        compare it by its key."""
        return self._workloads

    def pods_in(self, namespace: str | None) -> tuple[Pod, ...]:
        return self._pods_by_namespace.get(namespace, ())

    def pods_selected(self, namespace: str | None, labels: Mapping[str, str]) -> tuple[Pod, ...]:
        """Pods in a namespace that carry all of `labels`; an empty selector selects none, as for a Service."""
        if not labels:
            return ()
        candidates = min((self._pods_by_label.get((namespace, item), ()) for item in labels.items()), key=len)
        return candidates if len(labels) == 1 else tuple(pod for pod in candidates if labels.items() <= pod.labels.items())

    def services_selecting(self, pod: Pod) -> tuple[Service, ...]:
        labels = pod.labels.items()
        return tuple(service for selector, service in self._selectors_by_namespace.get(pod.namespace, ()) if selector.items() <= labels)

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
        key = ref.key
        if key in self._tops:
            top = self._tops[key]
        else:
            found = self._top(ref, key)
            top = self._tops[key] = None if found.key == key else found
        return ref if top is None else top

    def _top(self, ref: ObjectRef, key: Key) -> ObjectRef:
        fact = self._by_key.get(key)
        if isinstance(fact, Pod):
            owner = fact.controller
            # Pods share their owner, so its way up is walked once.
            known = self._tops.get((owner.kind, fact.namespace, owner.name)) if owner is not None else None
            if known is not None:
                return known
            above = self._above(fact)
            if above is not None and above.kind not in ("Node", Pod.kind) and above.key in self._by_key:
                return self.top_owner(above)
        return self.owner_chain(ref)[-1]

    def once(self, make: Callable[[World], T]) -> T:
        """What `make` derives from this world, made on first use: for what several detectors need. `make` must be a pure function that
        lives as long as the program, such as a module's function or class. What it makes may go on reading facts of the world later,
        never another field: a grown world is given it when its making read none that grew."""
        made = self._made.get(make)
        if made is None:
            self._read.append(set())
            try:
                value = make(self)
            finally:
                read = self._read.pop()
            made = self._made[make] = _Made(value, frozenset(read))
        self._read[-1].update(made.rests_on)
        return made.value  # type: ignore[no-any-return]

    def dismiss(self) -> None:
        """Let go of all that was derived `once`. Some of it refers to its world in turn, and what is held in a cycle is freed by the
        garbage collector: at a moment of its choice, and nothing else runs in the process until it is done. Using the world afterwards is
        no error: it derives anew."""
        self._made.clear()

    def _grown(self, listing: str = "", **fields: Any) -> World:
        """This world with noted fields changed: the same facts, hence the same indexes, and whatever rests on no changed field."""
        changed = {name for name, value in fields.items() if value != self.__dict__[name]} | {listing}
        made = replace(self, **fields)
        # The notes too: what was made over this world and is handed on goes on reading through this one.
        kept = ("_read", *_INDEXES)
        made.__dict__.update((name, self.__dict__[name]) for name in kept if name in self.__dict__)
        made._made.update((make, known) for make, known in self._made.items() if not known.rests_on & changed)
        return made

    @cached_property
    def _tops(self) -> dict[Key, ObjectRef | None]:
        """By key, the top owner as far as it was asked for; None of an object that is its own."""
        return {}

    @cached_property
    def _made(self) -> dict[Callable[[World], Any], _Made]:
        return {}

    @cached_property
    def _read(self) -> list[set[str]]:
        """The noted fields read so far, one set for each derivation under way; the first is nobody's."""
        return [set()]

    @cached_property
    def _by_key(self) -> dict[Key, Fact]:
        return {fact.key: fact for facts in self.facts.values() for fact in facts}

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
    def _pods_not_ready(self) -> tuple[Pod, ...]:
        # What a kubelet or the pod garbage collector ended may keep the conditions of its last moment.
        return tuple(pod for pod in self.all(Pod) if not pod.ready or pod.finished)

    @cached_property
    def _unready_pods(self) -> tuple[Pod, ...]:
        return tuple(pod for pod in self._pods_not_ready if not pod.finished)

    @cached_property
    def _workloads(self) -> tuple[tuple[ObjectRef, tuple[Pod, ...]], ...]:
        # Pods share their owner, so its way up is walked once.
        tops: dict[Key, tuple[ObjectRef, list[Pod]]] = {}
        for pods in siblings(self.all(Pod)):
            top = self.top_owner(pods[0].ref)
            tops.setdefault(top.key, (top, []))[1].extend(pods)
        return tuple((top, tuple(pods)) for top, pods in tops.values())

    @cached_property
    def _pods_by_namespace(self) -> dict[str | None, tuple[Pod, ...]]:
        return _grouped((pod.namespace, pod) for pod in self.all(Pod))

    @cached_property
    def _pods_by_label(self) -> dict[tuple[str | None, tuple[str, str]], tuple[Pod, ...]]:
        return _grouped(((pod.namespace, item), pod) for pod in self.all(Pod) for item in pod.labels.items())

    @cached_property
    def _selectors_by_namespace(self) -> dict[str | None, tuple[tuple[dict[str, str], Service], ...]]:
        services = ((service.spec.selector, service) for service in self.all(Service))
        return _grouped((service.namespace, (selector, service)) for selector, service in services if selector)

    @cached_property
    def _owned(self) -> dict[Key, tuple[Fact, ...]]:
        owned: dict[Key, list[Fact]] = defaultdict(list)
        for facts in self.facts.values():
            for fact in facts:
                references = fact.metadata.owner_references
                if references is not None and len(references) == 1:
                    # Nearly every object, hence without the detour.
                    owner = (references[0].kind, fact.metadata.namespace, references[0].name)
                    if owner in self._by_key:
                        owned[owner].append(fact)
                        continue
                for owner in self._owners_of(fact) if references or isinstance(fact, Pod) else ():
                    owned[owner].append(fact)
        return {owner: tuple(found) for owner, found in owned.items()}

    def _owners_of(self, fact: Fact) -> Iterator[Key]:
        """The keys of all that own an object; where its controller was not read, of the workload above that too."""
        references = fact.metadata.owner_references or ()
        for reference in references:
            yield (reference.kind, fact.namespace, reference.name)
        controller = fact.controller
        if controller is not None and (controller.kind, fact.namespace, controller.name) in self._by_key:
            return
        inferred = self._above(fact)
        if inferred is None:
            return
        if not references:
            yield inferred.key
        above = _deployment_of(inferred, fact) if inferred.key not in self._by_key else None
        if above is not None:
            yield above.key


def siblings(pods: Iterable[Pod]) -> Iterable[list[Pod]]:
    """The pods by the controller that they share, each group in the order of the pods; one without any is alone."""
    groups: dict[tuple[str | None, ...], list[Pod]] = defaultdict(list)
    for pod in pods:
        owner = pod.controller
        # A node owns its mirror pods, which have nothing else in common.
        shared = owner if owner is not None and owner.kind != "Node" else None
        groups[pod.key if shared is None else (shared.kind, pod.metadata.namespace, shared.name, shared.uid)].append(pod)
    return groups.values()


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
    "_pods_not_ready",
    "_unready_pods",
    "_workloads",
    "_pods_by_namespace",
    "_pods_by_label",
    "_selectors_by_namespace",
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
