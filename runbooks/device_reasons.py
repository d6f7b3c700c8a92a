"""The words for a rule that keeps claims from being allocated: which devices, whose taint or claim, which values collide.

`device_request` has found the rule; nothing is decided here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from cluster.facts.dra import DeviceAttribute, DeviceTaint
from cluster.reference import ObjectRef
from runbooks.device_allocation import Ask, Rule, Waiver, Wanted, constrains, lookup, untolerated
from runbooks.device_pools import Devices, Offer, View, consumption
from runbooks.device_selector import Answer, Selection, attributes_named
from runbooks.device_tally import Tally, counted, listed, values_of

VALUES_SHOWN = 4
# The sentence, what it is about in short, and the object to look at.
Words = tuple[str, str, ObjectRef | None]
# What to say of a rule that stops no single request, but all of them together.
_TOGETHER: Mapping[Rule, str] = {
    Rule.TAINT: "taints that a request does not tolerate",
    Rule.IN_USE: "other claims that hold devices",
    Rule.COUNTERS: "counters that the requested partitions share",
    Rule.CAPACITY: "capacities that the requests share",
}


class Reasons:
    """The words about one pod's claims. `every` are all nodes' devices; `barred` says of a node why it is not open to the pod."""

    def __init__(
        self,
        devices: Devices,
        selection: Selection,
        tally: Tally,
        wanted: tuple[Wanted, ...],
        asks: tuple[Ask, ...],
        every: tuple[View, ...],
        barred: Mapping[str, str],
    ) -> None:
        self.devices, self.selection, self.tally = devices, selection, tally
        self.wanted, self.asks, self.every, self.barred = wanted, asks, every, barred

    def of(self, waiver: Waiver, opened: Iterable[View] = ()) -> Words:
        """What to say of a rule that has to give. `opened` are the views that would do were their nodes open, for the rule about nodes."""
        ask = next((item for item in self.asks if item.name == waiver.request), None)
        match waiver.rule:
            case Rule.POOL:
                return self._pool_words()
            case Rule.ERROR:
                return self._error_words()
            case Rule.SELECTOR if ask is not None and waiver.position is not None:
                return self._selector_words(ask, waiver.position)
            case Rule.CONSTRAINT:
                return self._constraint_words(waiver)
            case Rule.COUNT if ask is not None:
                best, most = self.tally.best(ask)
                wanted = "all matching" if ask.all_devices else str(ask.request.count)
                near = f" (node {best} has {most} that pass)" if best else ""
                text = f"request {_short(ask)} asks for {wanted} devices, and at most {waiver.count} can be had together{near}."
                return text, str(waiver.count), None
            case Rule.NODE:
                return self._node_words(opened)
        return self._device_words(waiver.rule)

    def _device_words(self, rule: Rule) -> Words:
        """What keeps matching devices from their requests: taints, holders, counters, capacity."""
        for ask in self.asks:
            matching = self.tally.matching(ask)
            stopped = [offer for offer in matching if self.tally.stopped(rule, ask, offer)]
            if not stopped:
                continue
            first = stopped[0]
            some = f"{len(stopped)} of {len(matching)} devices that match request {_short(ask)}"
            match rule:
                case Rule.TAINT:
                    return self._taint_words(ask, stopped, some)
                case Rule.IN_USE:
                    holders = [*self.devices.holders.get(first.key, ()), *self.devices.sharers.get(first.key, ())]
                    for other in stopped[1:]:
                        holders += [*self.devices.holders.get(other.key, ()), *self.devices.sharers.get(other.key, ())]
                    names = list(dict.fromkeys(str(claim.ref) for claim in holders))
                    return f"{some} are held by other claims ({listed(names)}).", listed(names), holders[0].ref
                case Rule.COUNTERS:
                    shown = ", ".join(f"{set_}/{name}" for set_, name in consumption(first.device.consumes_counters))
                    text = f"{some} cannot be cut any more: the counters that they share with allocated partitions are used up ({shown})."
                    return text, f"{first.slice.name}: counters of {first.device.name} are used up by allocated partitions", first.slice.ref
                case _:
                    wanted = {
                        name: str(value)
                        for name, value in ((ask.request.capacity.requests if ask.request.capacity else None) or {}).items()
                    }
                    asked = ", ".join(f"{name}={value}" for name, value in wanted.items()) or "a whole share"
                    have = Counter(values_of(offer, tuple(wanted) or tuple(first.device.capacity or {})) for offer in stopped)
                    return f"{some} lack the capacity that it asks for ({asked}; they have {counted(have)}).", asked, first.slice.ref
        return f"{_TOGETHER.get(rule, rule.value)} leave too few devices for all requests together.", "", None

    def _taint_words(self, ask: Ask, stopped: list[Offer], some: str) -> Words:
        """The taints, each with who set it; the object to look at is that of the one that most devices have."""
        found: Counter[tuple[str, ObjectRef | None]] = Counter()
        for offer in stopped:
            for taint in untolerated(offer.device, ask.request.tolerations or ()):
                rule = self.devices.rule_of(taint, offer)
                found[taint_text(taint), rule.ref if rule else None] += 1
        (detail, rule_ref), _ = found.most_common(1)[0]
        shown = listed([f"{text} by {who}" if who else f"{text} by the driver" for text, who in found])
        about = rule_ref or next(
            offer.slice.ref for offer in stopped if any(taint_text(taint) == detail for taint in offer.device.taints or ())
        )
        return f"{some} have a taint that it does not tolerate ({stopped[0].device.name}: {shown}).", detail, about

    def _pool_words(self) -> Words:
        for view in self.every:
            for pool in view.pools:
                if not pool.usable:
                    slices = self.devices.newest[pool.key]
                    want = slices[0].spec.pool.resource_slice_count
                    state = pool.flaw or f"{len(slices)} of {want} slices of generation {slices[0].spec.pool.generation} are published"
                    return f"pool {pool.key[1]} of driver {pool.key[0]} cannot be used: {state}.", state, slices[0].ref
        return "a device pool cannot be used.", "", None

    def _error_words(self) -> Words:
        for ask in self.asks:
            for offer in self.devices.offers:
                failing = self.tally.first_failing(ask, offer)
                if failing is not None and failing[1].aborts:
                    expression = ask.expressions[failing[0]]
                    what = "asks for an attribute that it lacks" if failing[1] is Answer.MISSING_KEY else "cannot be evaluated on its types"
                    whose = f"device {offer.device.name} of driver {offer.driver} has {values_of(offer, attributes_named(expression))}"
                    text = (
                        f"selector of request {_short(ask)} ({expression}) {what}: {whose}, and one such device makes the scheduler "
                        "give up. Guard it: test the driver, or the attribute with `in`, first."
                    )
                    return text, expression, offer.slice.ref
        return "a selector cannot be evaluated on a device, and the scheduler gives up.", "", None

    def _selector_words(self, ask: Ask, place: int) -> Words:
        expression = ask.expressions[place]
        selects = self.selection.answer
        tested = [
            offer
            for offer in self.devices.offers
            if place < ask.of_class or (self.tally.first_failing(ask, offer) or (ask.of_class, None))[0] >= ask.of_class
        ]
        failing = [offer for offer in tested if selects(expression, offer.device, offer.driver) is not Answer.YES]
        have = counted(Counter(values_of(offer, attributes_named(expression)) for offer in failing))
        passing = len(tested) - len(failing)
        whose = "published devices" if place < ask.of_class else f"published devices of class {ask.request.device_class_name}"
        if passing:
            text = f"only {passing} of {len(tested)} {whose} match request {_short(ask)} ({expression}); the others have {have}."
        else:
            text = f"none of {len(tested)} {whose} matches request {_short(ask)} ({expression}); they have {have}."
        return text, expression, failing[0].slice.ref if failing else None

    def _constraint_words(self, waiver: Waiver) -> Words:
        """Which devices collide, on the node that comes nearest."""
        claim = next(item for item in self.wanted if item.name == waiver.request)
        constraint = claim.constraints[waiver.position or 0]
        same = constraint.match_attribute is not None
        attribute = constraint.match_attribute or constraint.distinct_attribute or ""
        bound = [ask for alternatives in claim.requests for ask in alternatives if constrains(constraint, ask)]
        names = listed(list(constraint.requests or ())) or "all requests"
        text = f"{names} must {'share one value of' if same else 'differ in'} {attribute}, and no node has free devices that do"

        def near(groups: Mapping[DeviceAttribute | None, list[Offer]]) -> tuple[int, int]:
            have = [len(offers) for value, offers in groups.items() if value is not None]
            return (max(have, default=0) if same else len(have)), sum(have)

        node, groups = max(
            ((view.node.name, self._by_value(view, bound, attribute)) for view in self.every),
            key=lambda item: near(item[1]),
            default=("", {}),
        )
        if not groups:
            return f"{text}.", attribute, None
        have = {_shown(value): [item.device.name for item in offers] for value, offers in groups.items() if value is not None}
        lacking = [item.device.name for item in groups.get(None, ())]
        parts = [
            *[f"{value} ({listed(devices)})" for value, devices in have.items()][:VALUES_SHOWN],
            *([f"{len(have) - VALUES_SHOWN} more values"] if len(have) > VALUES_SHOWN else []),
            *(["devices of one value collide"] if not same and any(len(devices) > 1 for devices in have.values()) else []),
            *([f"without it, so of no use, {listed(lacking)}"] if lacking else []),
        ]
        return f"{text}; nearest is node {node}: {'; '.join(parts)}.", attribute, next(iter(groups.values()))[0].slice.ref

    def _by_value(self, view: View, asks: Iterable[Ask], attribute: str) -> dict[DeviceAttribute | None, list[Offer]]:
        """The devices of a node that pass everything else for one of some requests, by what they have of an attribute."""
        wanted, groups = list(asks), dict[DeviceAttribute | None, list[Offer]]()
        for pool in view.pools:
            for offer in pool.offers if pool.usable else ():
                if any(self.tally.passes(ask, offer) for ask in wanted):
                    groups.setdefault(lookup(offer, attribute), []).append(offer)
        return groups

    def _node_words(self, opened: Iterable[View]) -> Words:
        nodes = [node for view in opened for node in view.nodes if node.name in self.barred]
        if not nodes:
            return "the nodes with such devices are not open to the pod.", "", None
        why = self.barred[nodes[0].name]
        names = listed([node.name for node in nodes])
        return f"the devices are there on {names}, which is not open to the pod otherwise ({why}).", why, nodes[0].ref


def taint_text(taint: DeviceTaint) -> str:
    return f"{taint.key}={taint.value or ''}:{taint.effect}"


def _short(ask: Ask) -> str:
    return ask.name.partition("/")[2]


def _shown(attribute: DeviceAttribute) -> str:
    return str(attribute.value).lower() if attribute.bool_ is not None else str(attribute.value)
