"""Whether a node's devices satisfy claims together: the scheduler's own exhaustive search, bounded, and with single rules left out.

Ported from `Allocate` (k8s.io/dynamic-resource-allocation/structured/internal/incubating, 1.37) with one shortcut: of devices that are
alike, one is tried. Leaving a rule out is how `device_request` finds which rule decides. It says whether, never why.
Longer than most modules: it is one algorithm, to be read beside its original.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

from msgspec import Struct

from cluster.facts.dra import (
    CapacityPolicy,
    CapacityRequirements,
    Device,
    DeviceAttribute,
    DeviceConstraint,
    DeviceTaint,
    DeviceToleration,
    ExactRequest,
)
from runbooks.device_pools import Counters, Devices, Offer, Pool, View, consumption, likeness, number
from runbooks.device_selector import Answer, Selection

# resourceapi.AllocationResultsMaxSize.
CLAIM_LIMIT = 32
# Devices looked at or tried in one search. The scheduler itself gives up after ten seconds (DRASchedulerFilterTimeout).
WORK_LIMIT = 50_000


class Rule(enum.Enum):
    """What can keep a device from a request, in the order in which the search asks."""

    POOL = "pool"
    ERROR = "selector error"
    SELECTOR = "selector"
    IN_USE = "in use"
    CAPACITY = "capacity"
    COUNTERS = "counters"
    TAINT = "taint"
    CONSTRAINT = "constraint"
    COUNT = "count"
    NODE = "node"


class Waiver(Struct, frozen=True):
    """A rule left out: for all requests, or for one request, or one of its selectors or claim's constraints by position."""

    rule: Rule
    request: str | None = None
    position: int | None = None
    count: int = 0


class Ask(Struct, frozen=True):
    """One request, or one alternative of one. `name` is unique among the claims of a pod: `CLAIM/REQUEST[/SUBREQUEST]`."""

    name: str
    request: ExactRequest
    expressions: tuple[str, ...]
    # How many of the expressions, the first ones, are the class's.
    of_class: int
    # As constraints name it: the request, and the request with the alternative.
    known_as: tuple[str, ...]

    @property
    def all_devices(self) -> bool:
        return self.request.allocation_mode == "All"


class Wanted(Struct, frozen=True):
    """One claim: its requests, each a list of alternatives, best first."""

    name: str
    requests: tuple[tuple[Ask, ...], ...]
    constraints: tuple[DeviceConstraint, ...] = ()


class Outcome(enum.Enum):
    """ABORTS: the scheduler gives the whole attempt up with an error. UNDECIDED: the search was too long."""

    FITS = "fits"
    FAILS = "fails"
    ABORTS = "aborts"
    UNDECIDED = "undecided"


class _AbortError(Exception):
    """The allocator returns an error."""


class _UndecidedError(Exception):
    """More work than is spent on one search."""


class _TooManyError(Exception):
    """A claim would hold more devices than a result can name."""


class Allocation(Struct, frozen=True):
    """What a search found: the devices by ask, when they fit. `work` is how often a device was looked at or tried."""

    outcome: Outcome
    given: tuple[tuple[str, Offer], ...] = ()
    work: int = 0


def allocate(
    view: View,
    claims: tuple[Wanted, ...],
    devices: Devices,
    selection: Selection,
    waived: frozenset[Waiver] = frozenset(),
    *,
    unknown: Answer = Answer.YES,
    names: frozenset[str] | None = None,
    limit: int = WORK_LIMIT,
) -> Allocation:
    """Whether one node's devices satisfy all claims. A selector that cannot be evaluated counts as answering `unknown`.

    `names` are the attributes that the claims name, None for any; `limit` is the most work to do.
    """
    search = _Search(view, claims, devices, selection, waived, unknown, names, limit)
    try:
        outcome = Outcome.FITS if search.run() else Outcome.FAILS
    except _AbortError:
        outcome = Outcome.ABORTS
    except _UndecidedError:
        outcome = Outcome.UNDECIDED
    except _TooManyError:
        outcome = Outcome.FAILS
    return Allocation(outcome, tuple(search.given) if outcome is Outcome.FITS else (), search.work)


class _Search:
    def __init__(
        self,
        view: View,
        claims: tuple[Wanted, ...],
        devices: Devices,
        selection: Selection,
        waived: frozenset[Waiver],
        unknown: Answer,
        names: frozenset[str] | None,
        limit: int,
    ) -> None:
        self.names, self.limit = names, limit
        self.claims, self.devices, self.selection, self.unknown = claims, devices, selection, unknown
        self.rules = {item.rule for item in waived if item.request is None and item.position is None}
        self.waived = waived
        self.lowered = {item.request: item.count for item in waived if item.rule is Rule.COUNT}
        self.pools = view.pools
        usable = (pool for pool in view.pools if pool.usable or Rule.POOL in self.rules)
        self.listed = tuple((pool, offer) for pool in usable for offer in pool.offers)
        self.work = 0
        self.given: list[tuple[str, Offer]] = []
        self.taken: dict[tuple[str, str, str], set[int]] = defaultdict(set)
        self.shares: dict[tuple[str, str, str], list[Mapping[str, float]]] = defaultdict(list)
        self.consumed: dict[tuple[str, str], dict[tuple[str, str], float]] = defaultdict(lambda: defaultdict(float))
        # By (claim, constraint): the attribute values of the devices given so far.
        self.values: dict[tuple[int, int], list[object]] = defaultdict(list)
        self.held = [0] * len(claims)
        self._selected: dict[tuple[str, tuple[str, str, str]], Answer] = {}
        self.everything: dict[str, tuple[tuple[Pool, Offer], ...]] = {}
        self._alike: dict[tuple[str, str, str], Hashable] = {}

    def run(self) -> bool:
        for claim in self.claims:
            least = 0
            for alternatives in claim.requests:
                counts = []
                for ask in alternatives:
                    if self._wants_all(ask):
                        self.everything[ask.name] = tuple(self._all(ask))
                        counts.append(len(self.everything[ask.name]))
                    else:
                        counts.append(self._count(ask))
                least += min(counts, default=0)
            if least > CLAIM_LIMIT:
                raise _AbortError
        return self._claim(0)

    def _claim(self, claim: int) -> bool:
        try:
            return claim >= len(self.claims) or self._request(claim, 0)
        except _TooManyError:
            return False

    def _request(self, claim: int, request: int) -> bool:
        if request >= len(self.claims[claim].requests):
            return self._claim(claim + 1)
        too_many = True
        for ask in self.claims[claim].requests[request]:
            try:
                if self._devices(claim, request, ask, 0, 0):
                    return True
            except _TooManyError:
                continue
            too_many = False
        if too_many:
            raise _TooManyError
        return False

    def _count(self, ask: Ask) -> int:
        if self._wants_all(ask):
            return len(self.everything[ask.name])
        return self.lowered.get(ask.name, ask.request.count)

    def _wants_all(self, ask: Ask) -> bool:
        return ask.all_devices and ask.name not in self.lowered

    def _devices(self, claim: int, request: int, ask: Ask, index: int, start: int) -> bool:
        """Gives the devices of one ask from the `index`th on, then those of all that follows."""
        wanted = self._count(ask)
        if self._wants_all(ask) and not wanted:
            return False
        if index >= wanted:
            return self._request(claim, request + 1)
        if wanted - index > CLAIM_LIMIT - self.held[claim]:
            raise _TooManyError
        if self._wants_all(ask):
            pool, offer = self.everything[ask.name][index]
            return self._try(claim, request, ask, index, 0, pool, offer, must=True)
        tried: set[Hashable] = set()
        for place in range(start, len(self.listed)):
            pool, offer = self.listed[place]
            self._spend()
            if self._busy(ask, claim, offer):
                continue
            alike = (pool.key, self._likeness(offer))
            if alike in tried and not offer.device.allow_multiple_allocations:
                continue
            tried.add(alike)
            if self._selects(ask, offer) and self._roomy(ask, offer) and self._try(claim, request, ask, index, place, pool, offer):
                return True
        return False

    def _likeness(self, offer: Offer) -> Hashable:
        if offer.key not in self._alike:
            self._alike[offer.key] = likeness(offer.device, self.names)
        return self._alike[offer.key]

    def _spend(self) -> None:
        self.work += 1
        if self.work > self.limit:
            raise _UndecidedError

    def _all(self, ask: Ask) -> Iterable[tuple[Pool, Offer]]:
        """The devices of a request for all, which an unfinished pool makes impossible."""
        for pool in self.pools:
            if not pool.usable and Rule.POOL not in self.rules:
                raise _AbortError
            for offer in pool.offers:
                self._spend()
                if self._selects(ask, offer) and self._fits(ask, offer, {}):
                    yield pool, offer

    def _busy(self, ask: Ask, claim: int, offer: Offer) -> bool:
        if ask.request.admin_access:
            return claim in self.taken[offer.key]
        held = offer.key in self.devices.holders and Rule.IN_USE not in self.rules
        return held or bool(self.taken[offer.key])

    def _selects(self, ask: Ask, offer: Offer) -> bool:
        known = self._selected.get((ask.name, offer.key))
        if known is None:
            known = self._selected[(ask.name, offer.key)] = self._answer(ask, offer)
        if known.aborts:
            raise _AbortError
        return known is Answer.YES

    def _answer(self, ask: Ask, offer: Offer) -> Answer:
        for position, expression in enumerate(ask.expressions):
            if Waiver(Rule.SELECTOR, ask.name, position) in self.waived:
                continue
            answer = self.selection.answer(expression, offer.device, offer.driver)
            if answer.aborts and Rule.ERROR in self.rules:
                answer = Answer.NO
            answer = self.unknown if answer is Answer.UNKNOWN else answer
            if answer is not Answer.YES:
                return answer
        return Answer.YES

    def _roomy(self, ask: Ask, offer: Offer) -> bool:
        used: dict[str, float] = defaultdict(float)
        if Rule.IN_USE not in self.rules:
            used.update(self.devices.shared.get(offer.key, {}))
        for share in self.shares[offer.key]:
            for name, value in share.items():
                used[name] += value
        return self._fits(ask, offer, used)

    def _fits(self, ask: Ask, offer: Offer, used: Mapping[str, float]) -> bool:
        return Rule.CAPACITY in self.rules or has_room(ask.request.capacity, offer.device, used)

    def _try(self, claim: int, request: int, ask: Ask, index: int, place: int, pool: Pool, offer: Offer, *, must: bool = False) -> bool:
        """Gives one device and goes on; takes it back where that leads nowhere."""
        self._spend()
        device = offer.device
        shareable = bool(device.allow_multiple_allocations)
        if must and (self._busy(ask, claim, offer) or not self._roomy(ask, offer)):
            return False
        shared = shareable and (offer.key in self.devices.shared or bool(self.shares[offer.key]))
        counters: Counters = {} if shared else consumption(device.consumes_counters)
        if not self._countable(pool, counters):
            return False
        if Rule.TAINT not in self.rules and untolerated(device, ask.request.tolerations or ()):
            return False
        bound = self._bind(claim, ask, offer)
        if bound is None:
            if must:
                raise _AbortError
            return False
        for counter, value in counters.items():
            self.consumed[pool.key][counter] += value
        for key in bound:
            self.values[key].append(lookup(offer, self._attribute(key)))
        if shareable:
            self.shares[offer.key].append(share_of(ask.request.capacity, device))
        else:
            self.taken[offer.key].add(claim)
        self.held[claim] += 1
        self.given.append((ask.name, offer))
        kept = False
        try:
            kept = self._devices(claim, request, ask, index + 1, place + 1)
        finally:
            if not kept:
                self.given.pop()
                self.held[claim] -= 1
                if shareable:
                    self.shares[offer.key].pop()
                else:
                    self.taken[offer.key].discard(claim)
                for key in bound:
                    self.values[key].pop()
                for counter, value in counters.items():
                    self.consumed[pool.key][counter] -= value
        return kept

    def _countable(self, pool: Pool, counters: Counters) -> bool:
        if not counters or Rule.COUNTERS in self.rules:
            return True
        freed: Counters = self.devices.used_counters(self.devices.newest.get(pool.key, ())) if Rule.IN_USE in self.rules else {}
        taken = self.consumed[pool.key]
        return all(left + freed.get(key, 0.0) - taken[key] - counters.get(key, 0.0) >= -1e-9 for key, left in pool.counters.items())

    def _attribute(self, key: tuple[int, int]) -> str:
        constraint = self.claims[key[0]].constraints[key[1]]
        return constraint.match_attribute or constraint.distinct_attribute or ""

    def _bind(self, claim: int, ask: Ask, offer: Offer) -> list[tuple[int, int]] | None:
        """The constraints that the device comes under; None when one of them does not hold with it."""
        found = []
        for position, constraint in enumerate(self.claims[claim].constraints):
            if Rule.CONSTRAINT in self.rules or Waiver(Rule.CONSTRAINT, self.claims[claim].name, position) in self.waived:
                continue
            if not constrains(constraint, ask):
                continue
            key = (claim, position)
            value = lookup(offer, self._attribute(key))
            others = self.values[key]
            if value is None:
                return None
            if constraint.match_attribute is not None and any(other != value for other in others):
                return None
            if constraint.match_attribute is None and value in others:
                return None
            found.append(key)
        return found


def constrains(constraint: DeviceConstraint, ask: Ask) -> bool:
    """Whether a constraint of a claim is about one of its requests."""
    return not constraint.requests or bool(set(constraint.requests) & set(ask.known_as))


def lookup(offer: Offer, attribute: str) -> DeviceAttribute | None:
    """The typed value of a fully qualified attribute; names without a domain are in the driver's. Source: `lookupAttribute`."""
    attributes = offer.device.attributes or {}
    domain, _, short = attribute.rpartition("/")
    found = attributes.get(attribute) or (attributes.get(short) if domain == offer.driver else None)
    return found if found is not None and found.value is not None else None


def untolerated(device: Device, tolerations: Iterable[DeviceToleration]) -> tuple[DeviceTaint, ...]:
    """The taints that keep a device from a request. Source: `taintPreventsAllocation`."""
    listed = tuple(tolerations)
    return tuple(
        taint
        for taint in device.taints or ()
        if taint.effect in ("NoSchedule", "NoExecute")
        and not any(
            (not item.key or item.key == taint.key)
            and (not item.effect or item.effect == taint.effect)
            and (item.operator == "Exists" or (item.operator in ("", "Equal") and (item.value or "") == (taint.value or "")))
            for item in listed
        )
    )


def share_of(asked: CapacityRequirements | None, device: Device) -> Mapping[str, float]:
    """What a request takes of each capacity of a device. Source: `calculateConsumedCapacity`."""
    wanted = (asked.requests if asked else None) or {}
    return {
        name: _rounded(number(wanted[name]), capacity.request_policy)
        if name in wanted
        else number(
            capacity.request_policy.default if capacity.request_policy and capacity.request_policy.default is not None else capacity.value
        )
        for name, capacity in (device.capacity or {}).items()
    }


def _rounded(wanted: float, policy: CapacityPolicy | None) -> float:
    """Up to the next share that may be asked for."""
    if policy is None:
        return wanted
    if policy.valid_range is not None and policy.valid_range.min is not None:
        least, step = number(policy.valid_range.min), number(policy.valid_range.step)
        if wanted < least or not step:
            return max(wanted, least)
        return least + step * -(-(wanted - least) // step)
    return next((number(item) for item in policy.valid_values or () if wanted <= number(item)), wanted)


def has_room(asked: CapacityRequirements | None, device: Device, used: Mapping[str, float]) -> bool:
    """Whether a device has the capacities that a request asks for beside what is used of them. Source: `CmpRequestOverCapacity`."""
    if any(name not in (device.capacity or {}) for name in (asked.requests if asked else None) or {}):
        return False
    share = share_of(asked, device)
    return all(
        _allowed(share[name], capacity.request_policy) and used.get(name, 0.0) + share[name] <= number(capacity.value) + 1e-9
        for name, capacity in (device.capacity or {}).items()
    )


def _allowed(share: float, policy: CapacityPolicy | None) -> bool:
    if policy is None or (policy.default is not None and share == number(policy.default)):
        return True
    limits = policy.valid_range
    if limits is not None:
        if limits.max is not None and share > number(limits.max):
            return False
        step = number(limits.step)
        return not step or abs((share - number(limits.min)) / step - round((share - number(limits.min)) / step)) < 1e-9
    return not policy.valid_values or any(share == number(item) for item in policy.valid_values)
