"""The story that a ledger tells, told again: could it have happened, and where does it end?

Hashes prove that nobody edited; this proves that every execution followed a decision and enough agreement of distinct people on the same
digest. It reads entries in order, once. What they say of one proposal is `guardrails.story`'s; here are those that are about more, and
texts that entries name. It opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec import ValidationError as MsgspecError
from pydantic import ValidationError

from guardrails.emergency import LASTS
from guardrails.errors import BadLedger, GuardrailsError
from guardrails.story import Story, agree, begin, decoder, resume, turn


class Emergency(Struct):
    """One that was declared, as the table must have it."""

    id: str
    person: str
    cluster: str
    reason: str
    until: str
    at: str = ""
    reviewed_by: str = ""
    review: str = ""


class Loan(Struct):
    """One delegation, as the table must have it."""

    id: str
    giver: str
    receiver: str
    groups: tuple[str, ...]
    reason: str
    until: str
    at: str = ""
    ended_by: str = ""
    entry: int = 0


class _Named(Struct, gc=False):
    commitment: str
    kind: str


class _Naming(Struct, gc=False):
    blobs: tuple[_Named, ...] = ()


class _Review(Struct, gc=False):
    id: str
    by: str
    note: str


class _End(Struct, gc=False):
    id: str
    by: str


class _Switched(Struct, gc=False):
    scope: str
    reason: str
    by: str


_declared, _reviewed = decoder(Emergency), decoder(_Review)
_lent, _ended = decoder(Loan), decoder(_End)
_naming, _erased = decoder(_Naming), decoder(_Named)
_switched = decoder(_Switched)


class Replay:
    """Told entry by entry. `blobs`: by commitment, the entry that names it and the kind; `erased`: by commitment, the entry that tells.

    `switches`: by scope, whether it is on, why, by whom and since when.
    """

    def __init__(self) -> None:
        self.stories: dict[str, Story] = {}
        self.blobs: dict[str, tuple[int, str]] = {}
        self.erased: dict[str, int] = {}
        self.emergencies: dict[str, Emergency] = {}
        self.loans: dict[str, Loan] = {}
        self.switches: dict[str, tuple[int, str, str, str]] = {}

    def tell(self, seq: int, kind: str, proposal: str | None, entry: str) -> str | None:
        """Add one entry by its stored text; why it cannot have happened, None when it can."""
        return next((why for _, why in self.take([(seq, kind, proposal, entry)])), None)

    def take(self, rows: Iterable[Any]) -> list[tuple[int, str]]:
        """Add entries by number, type, proposal and stored text; the number of each that cannot have happened, and why."""
        wrong: list[tuple[int, str]] = []
        stories, excuse = self.stories, self._excuse
        # Entries about one proposal come in bursts, and looking it up among a hundred thousand misses the processor's caches.
        last: object = object()
        story: Story
        for seq, kind, proposal, entry in rows:
            try:
                if kind == "proposal.moved":
                    if proposal != last:
                        last, story = proposal, stories[proposal]
                    if not turn(story, entry, excuse):
                        continue
                elif kind == "approval.given":
                    if proposal != last:
                        last, story = proposal, stories[proposal]
                    agree(story, seq, entry)
                elif kind == "proposal.created":
                    if proposal in stories:
                        raise BadLedger(f"{proposal} was created twice.")
                    stories[proposal] = story = begin(entry)
                    last = proposal
                elif proposal is None:
                    self._tell_of_all(seq, kind, entry)
                elif proposal not in stories:
                    raise BadLedger(f"{proposal} was never created.")
                elif kind == "execution.resumed":
                    resume(stories[proposal], entry)
                if '"blobs":' in entry:
                    for named in _naming(entry).body.blobs:
                        self.blobs[named.commitment] = (seq, named.kind)
            except GuardrailsError as error:
                wrong.append((seq, f"Entry {seq} cannot have happened: {error}"))
            except (ValueError, KeyError, TypeError, MsgspecError, ValidationError) as error:
                wrong.append((seq, f"Entry {seq} makes no sense here: {type(error).__name__} {str(error)[:120]}"))
        return wrong

    def _tell_of_all(self, seq: int, kind: str, entry: str) -> None:
        """What is about no single proposal."""
        if kind == "blob.erased":
            name = _erased(entry).body.commitment
            if name not in self.blobs or name in self.erased:
                raise BadLedger(f"{name[:80]} was not there to be erased.")
            self.erased[name] = seq
        elif kind == "emergency.declared":
            declared = _declared(entry)
            emergency = declared.body
            emergency.at = declared.at
            if emergency.id in self.emergencies:
                raise BadLedger(f"{emergency.id} was declared twice.")
            if not timedelta() < datetime.fromisoformat(emergency.until) - datetime.fromisoformat(emergency.at) <= LASTS:
                raise BadLedger(f"{emergency.id} was to last longer than an emergency may.")
            self.emergencies[emergency.id] = emergency
        elif kind == "emergency.reviewed":
            review = _reviewed(entry).body
            emergency = self.emergencies[review.id]
            if emergency.reviewed_by or review.by.casefold() == emergency.person.casefold():
                raise BadLedger(f"{review.id} cannot be reviewed by {review.by}, or was already.")
            emergency.reviewed_by, emergency.review = review.by, review.note
        elif kind == "delegation.given":
            lent = _lent(entry)
            loan = lent.body
            loan.at, loan.entry = lent.at, seq
            if loan.id in self.loans:
                raise BadLedger(f"{loan.id} was given twice.")
            self.loans[loan.id] = loan
        elif kind == "delegation.ended":
            end = _ended(entry).body
            loan = self.loans[end.id]
            if loan.ended_by or end.by.casefold() not in (loan.giver.casefold(), loan.receiver.casefold()):
                raise BadLedger(f"{end.id} cannot be ended by {end.by}, or was already.")
            loan.ended_by = end.by
        elif kind in ("switch.on", "switch.off"):
            turned = _switched(entry)
            body = turned.body
            self.switches[body.scope] = (int(kind == "switch.on"), body.reason, body.by, turned.at)

    def _excuse(self, story: Story, at: str) -> None:
        """Raise unless an emergency of the requester in that cluster lasted at that time."""
        declared = self.emergencies.get(story.emergency)
        if declared is None or not _covers(declared, story):
            raise BadLedger("nobody had to agree, and no emergency was declared.")
        # Times are written alike, in UTC, so they sort as text. Who declares another emergency may go on.
        if not any(one.at <= at < one.until for one in self.emergencies.values() if _covers(one, story)):
            raise BadLedger(f"nobody had to agree, and the emergency {declared.id} was over at {declared.until}.")


def _covers(emergency: Emergency, story: Story) -> bool:
    return (emergency.person, emergency.cluster) == (story.requester, story.cluster)
