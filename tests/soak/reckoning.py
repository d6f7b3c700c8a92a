"""After the storm: what every proposal says about itself against what the audit log of the API server says was done. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from guardrails.proposal import TERMINAL, State
from guardrails.record import Record
from tests.lab.witness import Account
from tests.soak.items import Item
from tests.soak.worker import number_of

# How often each request of a proposal must be found in the audit log, and how often each of its inverse, by how the proposal ended.
# A change is made and kept, made and undone, or never made.
EFFECTS = {State.SUCCEEDED: (1, 0), State.ROLLED_BACK: (1, 1)}


@dataclass(frozen=True)
class Reckoning:
    """`duplicates` were sent twice, `lost` said otherwise than the audit log or came to no end."""

    states: Counter[State]
    effects: int
    undone: int
    duplicates: tuple[str, ...]
    lost: tuple[str, ...]

    def __str__(self) -> str:
        states = ", ".join(f"{state} {number}" for state, number in sorted(self.states.items()))
        return (
            f"{sum(self.states.values())} proposals ({states}): {self.effects} requests and {self.undone} inverse requests in the audit "
            f"log, {len(self.duplicates)} duplicate effects, {len(self.lost)} lost"
        )


def reckon(items: tuple[Item, ...], records: tuple[tuple[str, Record], ...], account: Account) -> Reckoning:
    """Compare. `records` are (key, proposal), `account` that of the storm's time alone."""
    sent: Counter[tuple[str, str, int]] = Counter()
    for write, permission in account.granted:
        if write.code is not None and write.code < 300:
            sent[(permission.proposal, permission.purpose, permission.number)] += 1
    duplicates = [f"{key}: {number} times" for key, number in sent.items() if number > 1]
    lost = list(account.offences)
    for key, record in records:
        if record.state not in TERMINAL:
            lost.append(f"{key} {record.id} is {record.state}")
            continue
        change, inverse = EFFECTS.get(record.state, (0, 0))
        planned = record.proposal.change if record.proposal is not None else None
        wanted = {("change", n): change for n in range(len(planned.requests) if planned else 0)}
        wanted |= {("rollback", n): inverse for n in range(len(planned.inverse) if planned else 0)}
        for (purpose, n), times in wanted.items():
            if sent[(record.id, purpose, n)] != times:
                said = f"{key} {record.id} is {record.state} ({record.reason[:200]})"
                lost.append(f"{said}, and {purpose} {n} is {sent[(record.id, purpose, n)]} times in the audit log, not {times}")
    ends: dict[int, dict[State, str]] = {}
    for key, record in records:
        ends.setdefault(number_of(key), {})[record.state] = f"{record.id}: {record.reason[:200]}"
    for item in items:
        wanted_end = {"moved": State.STALE, "partition": State.ROLLED_BACK}.get(item.sort, State.SUCCEEDED)
        if wanted_end not in ends.get(item.number, {}):
            lost.append(f"{item} ended {ends.get(item.number)}, not {wanted_end}")
    effects = sum(times for (_, purpose, _), times in sent.items() if purpose == "change")
    return Reckoning(Counter(record.state for _, record in records), effects, sum(sent.values()) - effects, tuple(duplicates), tuple(lost))
