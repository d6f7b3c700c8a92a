"""What would have been enough: the policy asked again with one fact changed and, where no single one is enough, with two.

It asks about this moment and this bundle, changes facts that nobody can change (an object has the GPUs that it has), and proposes
nothing. How many questions it asks is bounded by the square of the number of facts. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, islice

from msgspec import Struct, structs

from guardrails.facts import UNKNOWN, Circumstances, Facts
from guardrails.policy import Effect, Policy, Verdict, decide

PAIRS_MAX = 10
RANK: dict[Effect, int] = {"deny": 0, "approve": 1, "auto": 2}
ELSEWHERE = "another-namespace"
ENVIRONMENTS = ("prod", "staging")
_TIMES = ("failed_minutes", "denied_minutes", "checkpoint_minutes", "evidence_minutes")
_ONLY_ALONE = ("weekday", "minute_of_day")


class NearMiss(Struct, frozen=True):
    """Facts that, were they different, would change the effect: (fact, value) of one, or of two that each alone would not be enough."""

    changes: tuple[tuple[str, str], ...]
    effect: Effect
    rules: tuple[str, ...]

    def __str__(self) -> str:
        changed = " and ".join(f"{fact} were {value}" for fact, value in self.changes)
        return f"if {changed}: {self.effect} by {', '.join(self.rules) or 'no rule'}"


class Explanation(Struct, frozen=True):
    """What the policy says of these facts, and what else it would have said of others."""

    facts: Facts
    verdict: Verdict
    near: tuple[NearMiss, ...]


class _Change(Struct, frozen=True):
    """One fact with another value. `number`: (value there, value put in its place), between which a nearer one may be enough."""

    fact: str
    value: str
    apply: Callable[[Facts], Facts]
    number: tuple[int, int] | None = None
    pairs: bool = True


def explain(policy: Policy, facts: Facts) -> Explanation:
    """The verdict over these facts with the facts whose change would change it."""
    return Explanation(facts, decide(policy, facts), near_misses(policy, facts))


def near_misses(policy: Policy, facts: Facts) -> tuple[NearMiss, ...]:
    """The single facts whose change would change the effect, at most one value of each, the nearest where it is a number.

    When none of them would allow more than now, the pairs that would come after them, at most PAIRS_MAX.
    """
    base = decide(policy, facts).effect
    changes = list(_changes(facts))
    found: dict[str, NearMiss] = {}
    for change in changes:
        if change.fact not in found and decide(policy, change.apply(facts)).effect != base:
            nearest = _nearest(policy, facts, change, base)
            verdict = decide(policy, nearest.apply(facts))
            found[change.fact] = NearMiss(((nearest.fact, nearest.value),), verdict.effect, verdict.rules)
    singles = tuple(found.values())
    if any(allows_more(miss, base) for miss in singles):
        return singles
    return (*singles, *islice(_pairs(policy, facts, base, [change for change in changes if change.pairs]), PAIRS_MAX))


def allows_more(miss: NearMiss, than: Effect) -> bool:
    """Whether it would have led to more than that effect."""
    return RANK[miss.effect] > RANK[than]


def _pairs(policy: Policy, facts: Facts, base: Effect, changes: list[_Change]) -> Iterator[NearMiss]:
    if base == "auto":
        return
    for one, other in combinations(changes, 2):
        if one.fact == other.fact:
            continue
        verdict = decide(policy, other.apply(one.apply(facts)))
        miss = NearMiss(((one.fact, one.value), (other.fact, other.value)), verdict.effect, verdict.rules)
        if allows_more(miss, base):
            yield miss


def _nearest(policy: Policy, facts: Facts, change: _Change, base: Effect) -> _Change:
    """Of a number the value next to the one that is there at which the effect turns, where it turns once."""
    if change.number is None:
        return change
    there, enough = change.number
    while abs(there - enough) > 1:
        middle = (there + enough) // 2
        if decide(policy, _numbered(change.fact, facts, middle).apply(facts)).effect != base:
            enough = middle
        else:
            there = middle
    return _numbered(change.fact, facts, enough)


def _changes(facts: Facts) -> Iterator[_Change]:
    """Other values, one fact after the other; of a fact the one to be tried first comes first."""
    for field in structs.fields(Circumstances):
        name, value = field.name, getattr(facts.circumstances, field.name)
        if isinstance(value, bool):
            yield _circumstance(name, not value)
        elif name == "weekday":
            yield from (_circumstance(name, (value + ahead - 1) % 7 + 1) for ahead in range(1, 7))
        elif name == "minute_of_day":
            yield from (_circumstance(name, (value // 60 + ahead) % 24 * 60) for ahead in range(1, 24))
        elif name in _TIMES:
            yield _circumstance(name, 0 if value == UNKNOWN else UNKNOWN)
        elif isinstance(value, int) and value not in (0, UNKNOWN):
            yield _numbered(f"context.{field.encode_name}", facts, 0)
        elif isinstance(value, int):
            yield _circumstance(name, 1)
    if facts.circumstances.replicas is not None:
        yield _numbered("context.replicas.to", facts, facts.circumstances.replicas.before)
    yield from _resources(facts)
    if facts.resource.tenant not in facts.tenants:
        tenants = (*facts.tenants, facts.resource.tenant)
        yield _Change("principal.tenants", ", ".join(sorted(tenants)), lambda facts: structs.replace(facts, tenants=tenants))


def _resources(facts: Facts) -> Iterator[_Change]:
    for field in structs.fields(facts.resource):
        value = getattr(facts.resource, field.name)
        if isinstance(value, bool):
            yield _resource(field.name, field.encode_name, not value)
        elif field.name == "env":
            yield from (_resource("env", "env", environment) for environment in ENVIRONMENTS if environment != value)
        elif field.name == "ns":
            yield _resource("ns", "ns", ELSEWHERE)


def _circumstance(name: str, value: bool | int) -> _Change:
    encoded = {field.name: field.encode_name for field in structs.fields(Circumstances)}[name]

    def apply(facts: Facts) -> Facts:
        return structs.replace(facts, circumstances=structs.replace(facts.circumstances, **{name: value}))

    return _Change(f"context.{encoded}", str(value).lower(), apply, pairs=name not in _ONLY_ALONE)


def _numbered(fact: str, facts: Facts, value: int) -> _Change:
    """A number of the circumstances with another value, by the name that the policy knows it by."""
    if fact == "context.replicas.to":
        replicas = facts.circumstances.replicas
        assert replicas is not None
        wanted = structs.replace(replicas, after=value)

        def apply(facts: Facts) -> Facts:
            return structs.replace(facts, circumstances=structs.replace(facts.circumstances, replicas=wanted))

        return _Change(fact, str(value), apply, (replicas.after, value))
    name = {f"context.{field.encode_name}": field.name for field in structs.fields(Circumstances)}[fact]
    change = _circumstance(name, value)
    return structs.replace(change, number=(getattr(facts.circumstances, name), value))


def _resource(name: str, encoded: str, value: bool | str) -> _Change:
    def apply(facts: Facts) -> Facts:
        return structs.replace(facts, resource=structs.replace(facts.resource, **{name: value}))

    return _Change(f"resource.{encoded}", str(value).lower() if isinstance(value, bool) else value, apply)
