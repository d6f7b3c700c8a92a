"""What the accelerators of a cluster cost by the hour as they stand now: at work, idle, stranded, closed, sick; by team and cause.

A rate of this moment and no bill; beside it stands what `losses` knows of the last hours. Prices come from the owner of the
platform, per device and hour, by product or resource; what has no price is counted in devices and named, never guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from msgspec import Struct
from msgspec.structs import replace

from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.inventory import Holder, Note, Offer, inventory, notes
from runbooks.losses import Lost, Surplus, lost_hours, surplus_replicas

# In this order; the first three are held.
USES = ("working", "not ready", "idle", "free", "stranded", "closed", "sick")
WASTED = frozenset(USES) - {"working", "free"}
IDLE_CODE = "gpu.idle-held"
NOBODY = "(nobody)"
BESIDE_SHOWN = 10


class Share(Struct, frozen=True):
    """`devices` may be a fraction: replicas of a shared device. `price` is per hour, None when some of it has none."""

    devices: float = 0.0
    price: float | None = 0.0

    def plus(self, devices: float, price: float | None) -> Share:
        known = None if price is None or self.price is None else self.price + devices * price
        return Share(self.devices + devices, known)


class Loss(Struct, frozen=True):
    """Devices that do no work, and whose they are: a workload that holds them, or the node that they are of."""

    use: str
    object: ObjectRef
    team: str
    share: Share


class Tariff(Struct, frozen=True):
    """What devices cost and whose namespaces are: prices per device and hour by pattern of product or resource, and `team`, which says
    whose a namespace is, "" for nobody's."""

    currency: str = ""
    per_device_hour: Mapping[str, float] = {}
    team: Callable[[str | None], str] = lambda _: ""


class Report(Struct, frozen=True):
    """`uses` and `teams` are by name; `losses` the dearest first; `unpriced` the products without a price. `lost` and `surplus` are no part
    of the rate: hours that failed runs lost within a day, and replicas of which fewer would do."""

    uses: Mapping[str, Share]
    teams: Mapping[str, Mapping[str, Share]]
    losses: tuple[Loss, ...]
    unpriced: tuple[str, ...]
    lost: tuple[Lost, ...] = ()
    surplus: tuple[Surplus, ...] = ()


def price_of(prices: Mapping[str, float]) -> Callable[[Offer], float | None]:
    """The hourly price of one device of an offer: the first pattern that its product or resource matches."""

    def found(offer: Offer) -> float | None:
        names = [name for name in (offer.model, offer.resource) if name]
        return next((price for pattern, price in prices.items() if any(fnmatchcase(name, pattern) for name in names)), None)

    return found


def cost_report(world: World, tariff: Tariff) -> Report:
    """What the accelerators of this world cost at this moment."""
    offers, price = world.once(inventory), price_of(tariff.per_device_hour)
    found = report(world, offers, notes(world), price=price, team=tariff.team)
    return replace(found, lost=lost_hours(world, offers, price), surplus=surplus_replicas(world, offers, price))


def summary(found: Report, currency: str, teams_shown: int | None = None) -> list[str]:
    """The report but for its losses, a line for each use and each team."""
    lines = ["an hour, as it stands now:"]
    lines += [f"  {use:10} {share_text(share, currency)}" for use, share in found.uses.items() if share.devices]
    if len(lines) == 1:
        return [*lines, "  no accelerator that can be seen"]
    lines.append("by team:")
    for team, uses in list(found.teams.items())[:teams_shown]:
        lines.append(f"  {team}: " + "; ".join(f"{use} {share_text(share, currency)}" for use, share in uses.items()))
    if teams_shown is not None and len(found.teams) > teams_shown:
        lines.append(f"  … {len(found.teams) - teams_shown} more teams")
    return [*lines, *_beside(found, currency)]


def _beside(found: Report, currency: str) -> Iterator[str]:
    """What is no part of the rate, a line for each workload."""
    if found.lost:
        yield "lost at most by runs that failed within a day:"
        for item in found.lost[:BESIDE_SHOWN]:
            money = f", {item.price:.2f} {currency}" if item.price is not None else ""
            yield f"  {item.hours:g} device hours{money}: {item.workload} ({item.runs} run{'' if item.runs == 1 else 's'})"
        if len(found.lost) > BESIDE_SHOWN:
            yield f"  … {len(found.lost) - BESIDE_SHOWN} more"
    if found.surplus:
        yield "replicas of which fewer would carry the last two hours:"
        for spare in found.surplus[:BESIDE_SHOWN]:
            text = share_text(Share(spare.devices, spare.price), currency)
            yield f"  {text}: {spare.workload} has {spare.replicas} replicas, {spare.enough} would do"
        if len(found.surplus) > BESIDE_SHOWN:
            yield f"  … {len(found.surplus) - BESIDE_SHOWN} more"


def unpriced_line(found: Report) -> str:
    """What has no price and how to give it one, "" where all have."""
    return f"without a price: {', '.join(found.unpriced)}. Set prices.per_device_hour." if found.unpriced else ""


def share_text(share: Share, currency: str) -> str:
    """`2 devices, 7.00 USD`, or devices alone where there is no price."""
    devices = f"{share.devices:g} device{'' if share.devices == 1 else 's'}"
    return f"{devices}, {share.price:.2f} {currency}" if share.price is not None else devices


def report(
    world: World,
    offers: Iterable[Offer],
    notes: Iterable[Note],
    *,
    price: Callable[[Offer], float | None],
    team: Callable[[str | None], str],
) -> Report:
    """The report of this moment. `team` tells whose a namespace is, "" for nobody's: then the namespace stands for it."""
    idle = {note.object.key for note in notes if note.code == IDLE_CODE}
    uses: dict[str, Share] = dict.fromkeys(USES, Share())
    teams: dict[str, dict[str, Share]] = defaultdict(lambda: defaultdict(Share))
    losses: dict[tuple[str, ObjectRef, str], Share] = defaultdict(Share)
    unpriced: set[str] = set()

    def count(use: str, at: ObjectRef, whose: str, devices: float, offer: Offer) -> None:
        hourly = price(offer)
        if not devices:
            return
        if hourly is None:
            unpriced.add(offer.model or offer.resource)
        uses[use] = uses[use].plus(devices, hourly)
        teams[whose][use] = teams[whose][use].plus(devices, hourly)
        if use in WASTED:
            losses[(use, at, whose)] = losses[(use, at, whose)].plus(devices, hourly)

    for offer in offers:
        if offer.part:
            continue
        weight = offer.physical / offer.capacity if offer.physical and offer.capacity else 1.0
        node = ObjectRef(Node.kind, None, offer.node)
        for holder in offer.holders:
            whose = team(holder.workload.namespace) or holder.workload.namespace or NOBODY
            at_work = 0.0 if holder.workload.key in idle else holder.count * weight * _working(world, holder)
            rest = "idle" if holder.workload.key in idle else "not ready"
            count("working", holder.workload, whose, at_work, offer)
            count(rest, holder.workload, whose, holder.count * weight - at_work, offer)
        unused = "closed" if offer.closed else "stranded" if offer.strands else "free"
        count(unused, node, NOBODY, offer.free * weight, offer)
        count("sick", node, NOBODY, offer.sick * weight, offer)
    listed = (Loss(use, at, whose, share) for (use, at, whose), share in losses.items())
    return Report(
        uses,
        {name: dict(by_use) for name, by_use in sorted(teams.items())},
        tuple(
            sorted(
                listed,
                key=lambda loss: (-(loss.share.price or 0.0), -loss.share.devices, loss.use, loss.object.key[1] or "", loss.object.name),
            )
        ),
        tuple(sorted(unpriced)),
    )


def _working(world: World, holder: Holder) -> float:
    """The share of its pods that are ready; of pods that were not seen nothing bad is said."""
    pods = [pod for ref in holder.pods if (pod := world.get(Pod, ref.namespace, ref.name)) is not None]
    return sum(pod.ready for pod in pods) / len(pods) if pods else 1.0
