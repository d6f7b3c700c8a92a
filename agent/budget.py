"""How much one investigation may ask for, in probes, bytes and seconds. Exhaustion is an ordinary outcome that the report names.

It measures nothing itself: what was spent comes from the answers, and the seconds from the monotonic clock of the run.
"""

from __future__ import annotations

from msgspec import Struct

from cluster.reading import Cost


class Limits(Struct, frozen=True):
    """What one investigation may spend. `wants_per_round` bounds one fan-out, `probe_seconds` one probe."""

    probes: int = 600
    rounds: int = 6
    bytes: int = 2_000_000_000
    seconds: float = 120.0
    wants_per_round: int = 60
    probe_seconds: float = 30.0
    parallel_probes: int = 8


class Spent(Struct, frozen=True):
    """What an investigation has spent so far. `seconds` counts every process that worked on it."""

    probes: int = 0
    rounds: int = 0
    cost: Cost = Cost()
    seconds: float = 0.0


def exhausted(limits: Limits, spent: Spent) -> str | None:
    """Which limit is reached, in words; None while there is budget."""
    for name, used, limit in (
        ("probes", spent.probes, limits.probes),
        ("rounds", spent.rounds, limits.rounds),
        ("bytes", spent.cost.bytes, limits.bytes),
    ):
        if used >= limit:
            return f"the budget of {limit} {name} is spent"
    if spent.seconds >= limits.seconds:
        return f"the budget of {limits.seconds:g} seconds is spent"
    return None
