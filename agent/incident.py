"""What an investigation is about: the question, the scope, and which objects the question names.

A question is free text from a person or an alert. `focus` finds objects in it by name, never by meaning, so that a name that is also
an ordinary word counts only where the sentence says that it is a name ("the deployment app", "pod 'web'", "namespace orders").
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec import Struct

from cluster.facts.meta import Fact
from cluster.facts.network import HTTPRoute, Ingress, Service
from cluster.kinds import ALIASES, find_kind
from cluster.reference import ObjectRef, Scope
from cluster.world import World

FOCUS_LIMIT = 60
QUESTION_LIMIT = 4_000
_MINIMUM_NAME = 3

_WORD = re.compile(r"[a-z0-9](?:[-a-z0-9._]*[a-z0-9])?")
# Kinds whose objects are never what a person asks about by a bare name; they share names with what they belong to.
_UNNAMED = frozenset({"Event", "Namespace", "Lease", "Endpoints", "EndpointSlice", "ControllerRevision", "CustomResourceDefinition"})
_BARE_ONLY_WITH_KIND = frozenset(
    {"ConfigMap", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "PriorityClass"}
)
# Words of questions and of operations that people also use as object names.
_COMMON = frozenset(
    """
    about access after again alert alerts all and any api app application apps are auth available backend bad because
    been before broken but cache can caused check client cluster config connect connection connections container
    containers cpu crash crashing critical data database db debug default demo deploy deployment dev diagnose did does
    down error errors event events every fail failed failing failure failures find fix for found from frontend front
    end gateway get going has have health healthy help high how http https image ingress internal investigate into
    issue issues its job jobs just kubernetes last latency list load log logs low main memory message metrics model
    monitoring much name named namespace namespaces network new node nodes not now off old out pending please pod pods
    port post problem problems prod production proxy queue reach reason ready replica replicas report request requests
    reset response restart restarting returning root run running scan sec secret server service services shop show
    since site slow some staging start started state status still stop storage stuck system team test that the their
    them then there they this time timeout today too traffic trouble unable unhealthy unready update user users using
    volume was wait warning web website were what whats when where which while who why will with won worker working
    world wrong you your
    """.split()  # noqa: SIM905 (a list of two hundred words is read as text)
)
_FILLER = frozenset({"named", "called", "name", "the", "a", "is", "type", "of", "my", "our", "in", "for"})


class Incident(Struct, frozen=True):
    """One thing to investigate. `question` is None for a plain scan; `id` names it in the store and in every record."""

    id: str
    scope: Scope
    question: str | None = None


def focus(world: World, question: str | None) -> tuple[ObjectRef, ...]:
    """The objects of the world that a question is about, best match first, at most `FOCUS_LIMIT`; empty when it names none.

    Exact names win over names of workloads of which a word is part, and those over a namespace that alone is named. A namespace
    in the question narrows the rest to it.
    """
    text = (question or "")[:QUESTION_LIMIT].lower()
    words = _WORD.findall(text)
    if not words:
        return ()
    subject = world.scope.subject
    named = _Names(world)
    namespaces = _namespaces(named, words, text)
    exact = _exact(named, words, text)
    # A full name that exists only elsewhere is still meant: people get namespaces wrong more often than names.
    found = _narrowed(exact, namespaces) or _narrowed(_partial(world, named, words), namespaces) or exact
    if not found and namespaces and not (subject or set(namespaces) == set(world.scope.namespaces)):
        found = [fact.ref for fact in named.workloads if fact.namespace in namespaces]
    return tuple(dict.fromkeys(found))[:FOCUS_LIMIT]


class _Names:
    """The names of one world's objects, for looking up words."""

    def __init__(self, world: World) -> None:
        self.by_name: dict[str, list[Fact]] = defaultdict(list)
        self.namespaces: set[str] = {fact.name for fact in world.facts.get("Namespace", ())}
        self.workloads: list[Fact] = []
        for kind, facts in sorted(world.facts.items()):
            for fact in facts:
                if fact.namespace:
                    self.namespaces.add(fact.namespace)
                if kind in _UNNAMED:
                    continue
                self.by_name[fact.name.lower()].append(fact)
                for address in _addresses(fact):
                    self.by_name[address].append(fact)
                if kind in _WORKLOADS or (kind == "Pod" and fact.controller is None):
                    self.workloads.append(fact)


def _addresses(fact: Fact) -> Iterator[str]:
    """The host names by which users and programs know an object."""
    if isinstance(fact, Service):
        yield from (f"{fact.name}.{fact.namespace}{ending}".lower() for ending in ("", ".svc", ".svc.cluster.local"))
    elif isinstance(fact, Ingress):
        yield from (rule.host.lower() for rule in fact.spec.rules or () if rule.host)
    elif isinstance(fact, HTTPRoute):
        yield from (host.lower() for host in fact.spec.hostnames or ())


_OWN_PODS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"})
_WORKLOADS = _OWN_PODS | {"Service", "Ingress"}


def _namespaces(named: _Names, words: list[str], text: str) -> tuple[str, ...]:
    """Namespaces that the question names: by the word itself, or, where that is an ordinary word, next to "namespace"."""
    found = []
    for word in dict.fromkeys(words):
        if word not in named.namespaces:
            continue
        said = re.search(rf"(?:namespaces?|\bns|-n|\bin)[\s:='\"`]+{re.escape(word)}\b|\b{re.escape(word)}[\s'\"`]+namespace", text)
        if said or _is_name(word):
            found.append(word)
    return tuple(found)


def _exact(named: _Names, words: list[str], text: str) -> list[ObjectRef]:
    """Objects that are named: with their kind beside them, quoted, or by a word that is nothing but a name."""
    with_kind: list[ObjectRef] = []
    bare: list[ObjectRef] = []
    for position, word in enumerate(words):
        for fact in named.by_name.get(word, ()):
            kinds = _kinds_beside(words, position)
            if fact.ref.kind in kinds:
                with_kind.append(fact.ref)
            elif kinds and not _is_name(word):
                continue
            elif fact.ref.kind not in _BARE_ONLY_WITH_KIND and (_is_name(word) or _quoted(text, word)):
                bare.append(fact.ref)
    return with_kind + bare


def _partial(world: World, named: _Names, words: list[str]) -> list[ObjectRef]:
    """Workloads of which a word is a whole part of the name ("redis" of "redis-master"), or whose pod the word once named."""
    found: list[ObjectRef] = []
    for word in dict.fromkeys(words):
        if not _is_name(word):
            continue
        for fact in named.workloads:
            name = fact.name.lower()
            made_of = fact.ref.kind in _OWN_PODS and word.startswith(f"{name}-") and _looks_generated(word[len(name) + 1 :])
            if made_of or f"-{word}-" in f"-{name}-":
                found.append(fact.ref)
        if not found:
            found.extend(world.top_owner(pod.ref) for pod in world.facts.get("Pod", ()) if pod.name.lower().startswith(f"{word}-"))
    return found


def _kinds_beside(words: list[str], position: int) -> frozenset[str]:
    """Kinds that the words around a name say it is: "deployment x", "deployment named x", "x deployment"."""
    before = position - 1
    while before >= 0 and words[before] in _FILLER and position - before < 4:
        before -= 1
    beside = [words[index] for index in (before, position + 1) if 0 <= index < len(words)]
    return frozenset(kind for word in beside for kind in _meant(word))


def _meant(word: str) -> Iterable[str]:
    kind = find_kind(word)
    if kind is not None:
        yield kind.name
    if word in ("app", "application", "workload", "server"):
        yield from ("Deployment", "StatefulSet", "DaemonSet")
    if word in ("pod", "pods"):
        yield from ("Deployment", "StatefulSet", "DaemonSet", "Job")


def _is_name(word: str) -> bool:
    """Whether a word can only be a name: long enough, no ordinary word, no kind, not just a number."""
    if len(word) < _MINIMUM_NAME or word in _COMMON or word in ALIASES or find_kind(word) is not None:
        return False
    return not word.replace(".", "").isdigit()


def _quoted(text: str, word: str) -> bool:
    return re.search(rf"['\"`<]{re.escape(word)}['\"`>]", text) is not None


def _looks_generated(suffix: str) -> bool:
    """A ReplicaSet hash, pod suffix or ordinal, as controllers append them."""
    return re.fullmatch(r"(?:[a-z0-9]{5,10}-)?[a-z0-9]{5}|\d+", suffix) is not None


def _narrowed(refs: list[ObjectRef], namespaces: tuple[str, ...]) -> list[ObjectRef]:
    """Without the objects of other namespaces, where the question names a namespace that has any of them."""
    inside = [ref for ref in refs if ref.namespace in namespaces]
    return inside or refs
