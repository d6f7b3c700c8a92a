"""Why the scheduler cannot allocate a pod's device claims: which rule decides, how far each request comes, and what would nearly fit.

The deciding reason is found by leaving rules out of the scheduler's own search: the one whose absence lets the claims be allocated, or
the least set of them. What cannot be told is said so: selectors that cannot be evaluated here, objects that were not read.
It proposes nothing and makes no finding; `device_reasons` has the words.
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping

from msgspec import Struct

from cluster.facts.dra import (
    DeviceClaim,
    DeviceClass,
    DeviceTaintRule,
    ExactRequest,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
)
from cluster.facts.node import Node
from cluster.facts.pod import Pod, PodResourceClaim
from cluster.reference import ObjectRef
from cluster.world import Presence, World
from runbooks.device_allocation import CLAIM_LIMIT, WORK_LIMIT, Ask, Outcome, Rule, Waiver, Wanted, allocate
from runbooks.device_pools import Devices, View
from runbooks.device_reasons import Reasons
from runbooks.device_selector import Answer, selection
from runbooks.device_taints import TaintRules
from runbooks.device_tally import Funnel, Tally, listed
from runbooks.scheduling import Usage, matches_selector

# Devices looked at or tried: in all searches of one inquiry, and in all inquiries about one world, ten microseconds each.
INQUIRY_LIMIT = 200_000
WORLD_LIMIT = 400_000
_PARTIAL = "claims of other namespaces were not read: their devices look free"
_RULES_UNSEEN = "DeviceTaintRule objects were not read: devices that they taint look usable"
_RULES_UNCLEAR = "DeviceTaintRule {}: the class or selectors cannot be seen or evaluated, and devices that it taints look usable"
_DRIVER = re.compile(r"device\.driver\s*==\s*[\"']([^\"']+)[\"']")


class Verdict(enum.Enum):
    """UNKNOWN: it depends on what cannot be seen or evaluated here."""

    ALLOCATABLE = "allocatable"
    PENDING = "not allocatable"
    UNKNOWN = "cannot be told"


class Reason(enum.Enum):
    """What decides that claims cannot be allocated."""

    CLASS_MISSING = "device class missing"
    NO_DEVICES = "no devices published"
    POOL_UNFINISHED = "device pool unfinished"
    SELECTOR_ERROR = "selector fails on a device"
    SELECTOR = "selector matches too few devices"
    COUNT = "too few devices on one node"
    CAPACITY = "capacity used up or too small"
    TAINT = "devices tainted"
    IN_USE = "devices held by other claims"
    COUNTERS = "shared counters used up"
    CONSTRAINT = "constraint"
    NODE = "node not open to the pod"


_REASONS: Mapping[Rule, Reason] = {
    Rule.POOL: Reason.POOL_UNFINISHED,
    Rule.ERROR: Reason.SELECTOR_ERROR,
    Rule.SELECTOR: Reason.SELECTOR,
    Rule.COUNT: Reason.COUNT,
    Rule.CAPACITY: Reason.CAPACITY,
    Rule.TAINT: Reason.TAINT,
    Rule.IN_USE: Reason.IN_USE,
    Rule.COUNTERS: Reason.COUNTERS,
    Rule.CONSTRAINT: Reason.CONSTRAINT,
    Rule.NODE: Reason.NODE,
}
# Which of several rules to name, where leaving out any one would do: what changes by itself or is least to change comes first.
_PREFERENCE = (
    Rule.ERROR,
    Rule.POOL,
    Rule.TAINT,
    Rule.COUNTERS,
    Rule.IN_USE,
    Rule.CAPACITY,
    Rule.CONSTRAINT,
    Rule.NODE,
    Rule.COUNT,
    Rule.SELECTOR,
)
# In which order the members of a set are named: as a device passes them.
_FUNNEL = tuple(_REASONS)


class Decision(Struct, frozen=True):
    """One rule that has to give: `request` is `CLAIM/REQUEST`, "" where it is about all; `about` is the object to look at."""

    reason: Reason
    text: str
    claim: str = ""
    request: str = ""
    detail: str = ""
    about: ObjectRef | None = None
    waiver: Waiver | None = None


class Explanation(Struct, frozen=True):
    """`decisions` are what has to change, all of them, the first one first; empty unless the verdict is PENDING."""

    verdict: Verdict
    decisions: tuple[Decision, ...] = ()
    funnels: tuple[Funnel, ...] = ()
    nodes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class Claimed(Struct, frozen=True):
    """One claim of a pod that is not allocated yet. `ref` is what a person would edit."""

    name: str
    ref: ObjectRef
    spec: DeviceClaim


def explain(world: World, claims: tuple[Claimed, ...], pod: Pod | None = None, held: Iterable[ResourceClaim] = ()) -> Explanation:
    """Why these claims are not allocated together, on a node that the pod may use; `held` are the pod's claims that are."""
    gaps = [kind for kind in (ResourceSlice.kind, DeviceClass.kind) if kind not in world.read_kinds and not world.custom(kind)]
    missing = tuple(_missing_classes(world, claims))
    if missing:
        return Explanation(Verdict.PENDING, missing)
    if gaps or any(world.get(DeviceClass, None, item.device_class_name) is None for item in _requests(claims)):
        return Explanation(
            Verdict.UNKNOWN, unknown=tuple(f"{kind} objects were not read" for kind in gaps) or ("a DeviceClass was not read",)
        )
    budget = world.once(Budget)
    key = (pod.ref.key if pod else None, tuple((claim.name, claim.ref.key) for claim in claims), world.read_kinds)
    if key not in budget.found:
        if budget.left <= 0:
            return Explanation(Verdict.UNKNOWN, unknown=("not looked at in the time that is spent on all claims together",))
        budget.found[key] = _Inquiry(world, claims, pod, tuple(held), budget).answer()
    return budget.found[key]


class Budget:
    """The work that is left for all inquiries about one world, and their answers; use it through `world.once(Budget)`."""

    def __init__(self, _world: World) -> None:
        self.left = WORLD_LIMIT
        # By pod, claims and the kinds that were read.
        self.found: dict[Hashable, Explanation] = {}


def _requests(claims: Iterable[Claimed]) -> Iterator[ExactRequest]:
    return (item for claim in claims for request in claim.spec.requests or () for _, item in request.alternatives)


def _missing_classes(world: World, claims: Iterable[Claimed]) -> Iterator[Decision]:
    """Every class has to exist, also that of an alternative that would not be taken (`validateDeviceClass`)."""
    for claim in claims:
        for request in claim.spec.requests or ():
            for name, item in request.alternatives:
                if world.presence(DeviceClass.kind, None, item.device_class_name) is Presence.ABSENT:
                    there = listed(sorted(one.name for one in world.all(DeviceClass))) or "none"
                    text = f"request {name} names DeviceClass {item.device_class_name}, which does not exist (there are: {there})."
                    about = ObjectRef(DeviceClass.kind, None, item.device_class_name)
                    yield Decision(Reason.CLASS_MISSING, text, claim.name, f"{claim.name}/{name}", item.device_class_name, about)


def wanted_of(world: World, claim: Claimed) -> Wanted:
    """A claim as the search wants it, with the selectors of its classes."""
    requests = []
    for request in claim.spec.requests or ():
        asks = []
        for name, item in request.alternatives:
            class_ = world.get(DeviceClass, None, item.device_class_name)
            of_class = tuple(one.cel.expression for one in (class_.spec.selectors if class_ else None) or () if one.cel)
            own = tuple(one.cel.expression for one in item.selectors or () if one.cel)
            known_as = tuple(dict.fromkeys((request.name, name)))
            asks.append(Ask(f"{claim.name}/{name}", item, (*of_class, *own), len(of_class), known_as))
        requests.append(tuple(asks))
    return Wanted(claim.name, tuple(requests), claim.spec.constraints or ())


def claim_of(world: World, pod: Pod, use: PodResourceClaim) -> tuple[DeviceClaim | None, ObjectRef, ResourceClaim | None]:
    """The claim's content (None when it cannot be seen), the object a person would edit, and the claim object."""
    generated = next((item.resource_claim_name for item in pod.status.resource_claim_statuses or () if item.name == use.name), None)
    name = use.resource_claim_name or generated
    claim = world.get(ResourceClaim, pod.namespace, name) if name else None
    if use.resource_claim_template_name:
        template = world.get(ResourceClaimTemplate, pod.namespace, use.resource_claim_template_name)
        subject = ObjectRef(ResourceClaimTemplate.kind, pod.namespace, use.resource_claim_template_name)
        return (claim.spec.devices if claim else template.spec.spec.devices if template else None), subject, claim
    return (claim.spec.devices if claim else None), ObjectRef(ResourceClaim.kind, pod.namespace, name or use.name), claim


def pod_claims(world: World, pod: Pod) -> tuple[tuple[Claimed, ...], tuple[ResourceClaim, ...]]:
    """The claims of a pod that wait to be allocated, and those that are. Those that cannot be seen are in neither."""
    waiting, held = [], []
    for use in pod.spec.resource_claims or ():
        spec, subject, claim = claim_of(world, pod, use)
        if claim is not None and claim.status.allocation is not None:
            held.append(claim)
        elif spec is not None:
            waiting.append(Claimed(use.name, subject, spec))
    return tuple(waiting), tuple(held)


def _smallest_first(groups: Iterable[list[Waiver]]) -> tuple[frozenset[Waiver], ...]:
    """Each waiver alone, the last of its group first, each group, and all together."""
    listed_groups = [group for group in groups if group]
    single = [frozenset({item}) for group in listed_groups for item in reversed(group)]
    together = [frozenset(group) for group in listed_groups] + ([frozenset().union(*listed_groups)] if listed_groups else [])
    return tuple(dict.fromkeys((*single, *together)))


def _in_order(waivers: Iterable[Waiver]) -> tuple[Waiver, ...]:
    return tuple(sorted(waivers, key=lambda item: (_FUNNEL.index(item.rule), item.request or "", item.position or 0)))


class _Inquiry:
    """The questions about one pod's claims, put to the search one after the other."""

    def __init__(self, world: World, claims: tuple[Claimed, ...], pod: Pod | None, held: tuple[ResourceClaim, ...], budget: Budget) -> None:
        self.world, self.claims, self.pod, self.budget = world, claims, pod, budget
        self.devices = world.once(Devices)
        partial = ResourceClaim.kind not in world.read_kinds or bool(world.scope.namespaces)
        self.unseen = (
            *([_PARTIAL] if partial else []),
            *([_RULES_UNSEEN] if DeviceTaintRule.kind not in world.read_kinds else []),
            *([_RULES_UNCLEAR.format(listed(list(unclear)))] if (unclear := world.once(TaintRules).unclear) else []),
        )
        self.selection = world.once(selection)
        self.wanted = tuple(wanted_of(world, claim) for claim in claims)
        self.asks = tuple(ask for claim in self.wanted for alternatives in claim.requests for ask in alternatives)
        every = tuple(node for node in self.devices.nodes if all(_at(claim, node) for claim in held))
        hurdles = world.once(Usage).hurdles(pod) if pod is not None else {}
        self.barred = {node.name: "; ".join(item.detail for item in hurdles[node.name]) for node in every if hurdles.get(node.name)}
        self.names = self._names()
        self.open = self.devices.views((node for node in every if node.name not in self.barred), self.names)
        self.every = self.devices.views(every, self.names) if self.barred else self.open
        # The tally goes over all devices for each request.
        self.budget.left -= len(self.devices.offers) * len(self.asks)
        self.left = min(INQUIRY_LIMIT, self.budget.left)
        self.tally = Tally(self.devices, self.selection, self.asks, self.every)
        self.reasons = Reasons(self.devices, self.selection, self.tally, self.wanted, self.asks, self.every, self.barred)

    def answer(self) -> Explanation:
        absent = tuple(self._absent())
        if absent:
            return Explanation(Verdict.PENDING, absent)
        verdict = self._verdict(frozenset())
        funnels = tuple(self.tally.funnel(ask) for ask in self.asks)
        unevaluated = self.tally.unknown()
        unknown = (*unevaluated, *self.unseen)
        if verdict is Outcome.FITS:
            certain = not self.unseen and (not unevaluated or self._verdict(frozenset(), Answer.NO) is Outcome.FITS)
            nodes = tuple(node.name for view in self.open if self._on(view, frozenset()) is Outcome.FITS for node in view.nodes)
            return Explanation(Verdict.ALLOCATABLE if certain else Verdict.UNKNOWN, (), funnels, nodes, unknown)
        if verdict is Outcome.UNDECIDED:
            return Explanation(Verdict.UNKNOWN, (), funnels, (), (*unknown, "there are more combinations of devices than are tried here"))
        least = self._least()
        if least is None:
            unknown = (*unknown, "which of its rules have to change is not found in the time that is spent on it")
            return Explanation(Verdict.PENDING, (), funnels, (), unknown)
        decisions = tuple(self._decide(waiver) for waiver in least)
        return Explanation(Verdict.PENDING, decisions or (self._nothing(),), funnels, (), unknown)

    def _absent(self) -> Iterator[Decision]:
        """Requests that only drivers could serve that publish nothing."""
        published = {offer.driver for offer in self.devices.offers}
        for claim in self.wanted:
            for alternatives in claim.requests:
                drivers = [next((found[1] for text in ask.expressions if (found := _DRIVER.search(text))), None) for ask in alternatives]
                if alternatives and all(driver is not None and driver not in published for driver in drivers):
                    name = alternatives[0].name.partition("/")[2]
                    text = f"request {name} needs driver {drivers[0]}, and no node publishes devices of it."
                    yield Decision(Reason.NO_DEVICES, text, claim.name, alternatives[0].name, drivers[0] or "")

    def _names(self) -> frozenset[str] | None:
        """The short names of all attributes by which the claims can tell devices apart; None where it may be any."""
        named = [self.selection.names(text) for ask in self.asks for text in ask.expressions]
        bound = (item.match_attribute or item.distinct_attribute or "" for claim in self.wanted for item in claim.constraints)
        known = [names for names in named if names is not None]
        return frozenset(name.rpartition("/")[2] for name in bound).union(*known) if len(known) == len(named) else None

    # -- the search

    def _verdict(self, waived: frozenset[Waiver], unknown: Answer = Answer.YES) -> Outcome:
        """What the scheduler does: an error on any node that it looks at ends its attempt."""
        views = self.every if Waiver(Rule.NODE) in waived else self.open
        found = {self._on(view, waived, unknown) for view in views}
        return next((item for item in (Outcome.ABORTS, Outcome.FITS, Outcome.UNDECIDED) if item in found), Outcome.FAILS)

    def _on(self, view: View, waived: frozenset[Waiver], unknown: Answer = Answer.YES) -> Outcome:
        limit = min(WORK_LIMIT, self.left)
        found = allocate(view, self.wanted, self.devices, self.selection, waived, unknown=unknown, names=self.names, limit=limit)
        self.left -= found.work
        self.budget.left -= found.work
        return found.outcome

    def _fits(self, waived: frozenset[Waiver]) -> bool:
        return self.left > 0 and self._verdict(waived) is Outcome.FITS

    def _levers(self) -> tuple[tuple[frozenset[Waiver], ...], ...]:
        """The rules that can be left out, in the order of preference: each with the ways to do so, the smallest first, all of it last."""
        return tuple(ways for rule in _PREFERENCE for ways in self._ways(rule) if ways)

    def _ways(self, rule: Rule) -> tuple[tuple[frozenset[Waiver], ...], ...]:
        match rule:
            case Rule.SELECTOR:
                # What a request asks for before what its class does, and the last test before the first. Never the test for the driver:
                # devices of another one are of no use.
                every = [
                    [Waiver(rule, ask.name, place) for place, text in enumerate(ask.expressions) if not _DRIVER.fullmatch(text.strip())]
                    for ask in self.asks
                ]
                own = [
                    [item for item in group if (item.position or 0) >= ask.of_class] for ask, group in zip(self.asks, every, strict=True)
                ]
                # A request for all wants more devices without its selectors: those of the others may do alone.
                of_counts = [group for ask, group in zip(self.asks, own, strict=True) if not ask.all_devices]
                few = [_smallest_first(of_counts)] if len(of_counts) < len(own) else []
                return (*few, _smallest_first(own), *([_smallest_first(every)] if own != every else []))
            case Rule.CONSTRAINT:
                each = ([Waiver(rule, claim.name, place) for place in range(len(claim.constraints))] for claim in self.wanted)
                return (_smallest_first(each),)
            case Rule.COUNT:
                most = {ask.name: CLAIM_LIMIT if ask.all_devices else min(ask.request.count - 1, CLAIM_LIMIT) for ask in self.asks}
                counted = [ask for ask in self.asks if most[ask.name]]
                lower = [frozenset({Waiver(rule, ask.name, count=count)}) for ask in counted for count in range(most[ask.name], 0, -1)]
                together = [frozenset(Waiver(rule, ask.name, count=1) for ask in counted)] if len(counted) > 1 else []
                return ((*lower, *together),)
            case Rule.NODE:
                return ((frozenset({Waiver(rule)}),),) if self.barred else ()
        return ((frozenset({Waiver(rule)}),),)

    def _least(self) -> tuple[Waiver, ...] | None:
        """The rules to leave out: one where one is enough, else as few as will do, up to three. None where that is not found in time."""
        levers = self._levers()
        for size in (1, 2, 3):
            for chosen in itertools.combinations(levers, size):
                whole = frozenset().union(*(ways[-1] for ways in chosen))
                if self._fits(whole):
                    return self._fewest(chosen, whole)
            if size == 1 and any(ask.all_devices for ask in self.asks):
                # Then less may do where all of a lever does not.
                alone = next((way for ways in levers for way in ways[:-1] if self._fits(way)), None)
                if alone is not None:
                    return _in_order(alone)
        return None if self.left <= 0 else ()

    def _fewest(self, chosen: tuple[tuple[frozenset[Waiver], ...], ...], whole: frozenset[Waiver]) -> tuple[Waiver, ...]:
        """What of some levers is needed: their smallest ways that will do, then each waiver put back that is not needed."""
        for ways in chosen:
            others = whole - ways[-1]
            whole = next((others | way for way in ways if self._fits(others | way)), whole)
        for waiver in sorted(whole, key=lambda item: (item.request or "", item.position or 0)):
            if len(whole) > 1 and self._fits(whole - {waiver}):
                whole -= {waiver}
        return _in_order(whole)

    # -- words

    def _nothing(self) -> Decision:
        """Even with every rule left out nothing fits: there are no devices, or fewer than one node has to have."""
        claim = self.wanted[0]
        if self.devices.offers:
            most = max((sum(len(pool.offers) for pool in view.pools) for view in self.every), default=0)
            names = listed([item.name for item in self.wanted])
            text = f"the requests of {names} need more devices of their classes than any node has (it has at most {most} devices of all)."
            return Decision(Reason.COUNT, text, claim.name, self.asks[0].name if self.asks else "")
        text = "no node publishes devices: there is no ResourceSlice."
        return Decision(Reason.NO_DEVICES, text, claim.name, self.asks[0].name if self.asks else "")

    def _decide(self, waiver: Waiver) -> Decision:
        ask = next((item for item in self.asks if item.name == waiver.request), None)
        opened: Iterable[View] = ()
        if waiver.rule is Rule.NODE:
            opened = [view for view in self.every if self._on(view, frozenset({waiver})) is Outcome.FITS] or self.every
        text, detail, about = self.reasons.of(waiver, opened)
        asks = [ask] if ask else [item for item in self.asks if self.tally.concerned(waiver.rule, item)] or list(self.asks)
        claim = waiver.request if waiver.rule is Rule.CONSTRAINT else asks[0].name.partition("/")[0]
        return Decision(_REASONS[waiver.rule], text, claim or "", asks[0].name, detail, about, waiver)


def _at(claim: ResourceClaim, node: Node) -> bool:
    """Whether a claim that is allocated already can be used on a node."""
    allocation = claim.status.allocation
    return allocation is None or allocation.node_selector is None or matches_selector(allocation.node_selector, node)
