"""How many devices pass the tests of a request, one test after the other, and what those that fail look like.

It counts over the whole cluster and decides nothing; `device_request` does.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from runbooks.device_allocation import Ask, Rule, has_room, untolerated
from runbooks.device_pools import Counters, DeviceKey, Devices, Offer, PoolKey, View, consumption
from runbooks.device_selector import Answer, Selection, attributes_named

NAMES_SHOWN = 3
# Beside the selectors, in the order in which devices pass them.
_TESTS = (
    (Rule.CAPACITY, "enough capacity"),
    (Rule.TAINT, "no untolerated taint"),
    (Rule.IN_USE, "free"),
    (Rule.COUNTERS, "counters left"),
)


class Step(Struct, frozen=True):
    """One test that devices pass: how many of them are left after it, and what those that were left behind look like."""

    test: str
    left: int
    lost: str = ""
    expression: str | None = None


class Funnel(Struct, frozen=True):
    """How far devices come with one request. `best` is the node with the most devices that pass everything; `wanted` is 0 for all."""

    request: str
    device_class: str
    wanted: int
    steps: tuple[Step, ...]
    best: str | None
    most: int


class Tally:
    """The devices of a world and the requests of one pod. `views` are the nodes to count on."""

    def __init__(self, devices: Devices, selection: Selection, asks: tuple[Ask, ...], views: tuple[View, ...]) -> None:
        self.devices, self.selection, self.asks, self.views = devices, selection, asks, views
        self._failing: dict[tuple[str, DeviceKey], tuple[int, Answer] | None] = {}
        self._counters: dict[PoolKey, Counters] = {}
        for view in views:
            for node in view.nodes:
                for pool in devices.view(node).pools:
                    self._counters.setdefault(pool.key, pool.counters)

    def unknown(self) -> tuple[str, ...]:
        """The selectors that cannot be evaluated on some device."""
        found = {
            expression: None
            for ask in self.asks
            for expression in ask.expressions
            for offer in self.devices.offers
            if self.selection.answer(expression, offer.device, offer.driver) is Answer.UNKNOWN
        }
        return tuple(f"selector {expression} cannot be evaluated here" for expression in found)

    def concerned(self, rule: Rule, ask: Ask) -> bool:
        return any(self.stopped(rule, ask, offer) for offer in self.matching(ask))

    def matching(self, ask: Ask) -> list[Offer]:
        return [offer for offer in self.devices.offers if self.first_failing(ask, offer) is None]

    def first_failing(self, ask: Ask, offer: Offer) -> tuple[int, Answer] | None:
        """The first selector that does not accept a device, by position."""
        key = (ask.name, offer.key)
        if key not in self._failing:
            answers = ((place, self.selection.answer(text, offer.device, offer.driver)) for place, text in enumerate(ask.expressions))
            self._failing[key] = next((item for item in answers if item[1] not in (Answer.YES, Answer.UNKNOWN)), None)
        return self._failing[key]

    def stopped(self, rule: Rule, ask: Ask, offer: Offer) -> bool:
        match rule:
            case Rule.TAINT:
                return bool(untolerated(offer.device, ask.request.tolerations or ()))
            case Rule.IN_USE:
                return not ask.request.admin_access and (
                    offer.key in self.devices.holders
                    or (
                        offer.key in self.devices.shared
                        and not has_room(ask.request.capacity, offer.device, self.devices.shared[offer.key])
                    )
                )
            case Rule.CAPACITY:
                return not has_room(ask.request.capacity, offer.device, {})
            case Rule.COUNTERS:
                return self._counters_short(offer)
        return False

    def _counters_short(self, offer: Offer) -> bool:
        left = self._counters.get(offer.key[:2])
        taken = consumption(offer.device.consumes_counters)
        return left is not None and any(value > left.get(key, 0.0) for key, value in taken.items())

    def best(self, ask: Ask) -> tuple[str | None, int]:
        counts = {view.nodes[0].name: self.passing(ask, view) for view in self.views}
        best = max(counts, key=lambda name: counts[name], default=None)
        return (best, counts[best]) if best is not None and counts[best] else (None, 0)

    def passing(self, ask: Ask, view: View) -> int:
        return sum(self.passes(ask, offer) for pool in view.pools if pool.usable for offer in pool.offers)

    def passes(self, ask: Ask, offer: Offer) -> bool:
        """Whether a device passes every test that looks at it alone."""
        return self.first_failing(ask, offer) is None and not any(self.stopped(rule, ask, offer) for rule, _ in _TESTS)

    def funnel(self, ask: Ask) -> Funnel:
        """How many devices of the cluster pass one test after the other."""
        left = list(self.devices.offers)
        steps = [Step("published", len(left))]
        unfinished = set(self.devices.incomplete())
        if unfinished:
            left = [offer for offer in left if offer.key[:2] not in unfinished]
            steps.append(Step("in complete pools", len(left)))
        for expression in ask.expressions:
            passed = [self.selection.answer(expression, offer.device, offer.driver) in (Answer.YES, Answer.UNKNOWN) for offer in left]
            gone = Counter(values_of(offer, attributes_named(expression)) for offer, stays in zip(left, passed, strict=True) if not stays)
            left = [offer for offer, stays in zip(left, passed, strict=True) if stays]
            steps.append(Step("selector", len(left), counted(gone), expression))
        for rule, word in _TESTS:
            stay = [offer for offer in left if not self.stopped(rule, ask, offer)]
            if len(stay) != len(left):
                steps.append(Step(word, len(stay)))
            left = stay
        best, most = self.best(ask)
        wanted = 0 if ask.all_devices else ask.request.count
        return Funnel(ask.name, ask.request.device_class_name, wanted, tuple(steps), best, most)


def listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def counted(have: Counter[str]) -> str:
    shown = "; ".join(f"{count} × {values}" for values, count in have.most_common(NAMES_SHOWN))
    more = len(have) - NAMES_SHOWN
    return f"{shown}; {more} other kinds" if more > 0 else shown


def values_of(offer: Offer, names: tuple[str, ...]) -> str:
    """What a device has of some attributes and capacities, in words; of none asked for, its driver."""
    if not names:
        return f"driver={offer.driver}"
    device = offer.device
    wanted = {name.rpartition("/")[2] for name in names}
    found = [
        f"{key.rpartition('/')[2]}={item.value}" for key, item in (device.attributes or {}).items() if key.rpartition("/")[2] in wanted
    ]
    found += [f"{key.rpartition('/')[2]}={item.value}" for key, item in (device.capacity or {}).items() if key.rpartition("/")[2] in wanted]
    return ", ".join(sorted(found)) or "no such attribute"
