"""The investigations of this server by id, so that a client can come back to one and to each piece of its evidence.

They are kept in memory, bounded, and each is shown only to who asked for it: it holds what the cluster let them read. Another replica
does not know them, and a restart forgets them; what must last is in the ledger.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import anyio
from msgspec import structs

from cluster.reference import Scope
from cluster.timestamps import age
from guardrails.clock import random_id
from guardrails.redact import present
from mcp_server.diagnosis import diagnosis_page
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Caller, Investigated, ToolContext
from mcp_server.result import fence, text_of
from runbooks.finding import QUOTE_LIMIT, Evidence

KEPT = 200
KEPT_FOR = timedelta(hours=8)
STEP_LIMIT = 500


def investigation_uri(investigation_id: str) -> str:
    """The resource of an investigation."""
    return f"smokejumper://investigations/{investigation_id}"


class Phase(enum.Enum):
    """How far an investigation is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Kept:
    """One investigation. `found` is there once it is done; `step` is the last thing that it said it does."""

    id: str
    caller: Caller
    question: str
    begun: datetime
    phase: Phase = Phase.RUNNING
    step: str = ""
    found: Investigated | None = None


class Archive:
    """The newest investigations. `changed` hears the resource of each that ends."""

    def __init__(self, changed: Callable[[str], Awaitable[None]], ids: Callable[[str], str] = random_id) -> None:
        self._changed = changed
        self._ids = ids
        self._kept: dict[str, Kept] = {}

    def keeping(self, context: ToolContext) -> ToolContext:
        """The same context, whose investigations are kept here for its caller."""
        ports = context.ports
        if ports is None:
            return context

        async def investigate(scope: Scope, question: str | None, progress: Callable[[str], Awaitable[None]]) -> Investigated:
            kept = self._begin(context.caller, question or "", context.clock())

            async def say(step: str) -> None:
                self._kept[kept.id] = kept_now(step=step)
                await progress(step)

            def kept_now(**values: Any) -> Kept:
                return replace(self._kept.get(kept.id, kept), **values)

            found: Investigated | None = None
            try:
                await progress(f"begun as {investigation_uri(kept.id)}")
                found = structs.replace(await ports.investigate(scope, question, say), id=kept.id)
                return found
            finally:
                self._kept[kept.id] = kept_now(phase=Phase.DONE if found else Phase.FAILED, found=found)
                with anyio.CancelScope(shield=True):
                    await self._changed(investigation_uri(kept.id))

        return replace(context, ports=replace(ports, investigate=investigate, kept=partial(self.find, caller=context.caller)))

    def find(self, investigation: str, caller: Caller) -> Kept:
        """An investigation of this caller's. Raises ToolRefusal, and says no more of another's than of one that never was."""
        kept = self._kept.get(investigation)
        if kept is None or not _same(kept.caller, caller):
            raise ToolRefusal(
                f"there is no investigation {present(investigation, 80)!r} of yours here; they are kept for "
                f"{KEPT_FOR.seconds // 3600} hours by the process that ran them. Call investigate again"
            )
        return kept

    def evidence(self, evidence_id: str, caller: Caller) -> Evidence:
        """The newest piece of evidence of this id in the caller's investigations. Raises ToolRefusal."""
        for kept in reversed(self._kept.values()):
            if kept.found is not None and _same(kept.caller, caller):
                for cause in (*kept.found.diagnosis.causes, *kept.found.diagnosis.advisories):
                    for piece in cause.evidence:
                        if piece.id == evidence_id:
                            return piece
        raise ToolRefusal(f"no investigation of yours that is kept here has the evidence {present(evidence_id, 80)!r}")

    def _begin(self, caller: Caller, question: str, now: datetime) -> Kept:
        for kept in [kept for kept in self._kept.values() if now - kept.begun > KEPT_FOR]:
            del self._kept[kept.id]
        for oldest in list(self._kept)[: max(0, len(self._kept) - KEPT + 1)]:
            del self._kept[oldest]
        kept = Kept(self._ids("inv"), caller, question, now)
        self._kept[kept.id] = kept
        return kept


def kept_text(kept: Kept, now: datetime) -> str:
    """An investigation as text: what it found, or how far it is."""
    if kept.found is not None:
        return text_of(diagnosis_page(kept.found, "full"))
    how = "was cut off before it had found anything out" if kept.phase is Phase.FAILED else f"is running: {kept.step or 'begun'}"
    return present(f"{kept.id} {how} (begun {age(kept.begun, now)} ago)", STEP_LIMIT)


def evidence_text(piece: Evidence) -> str:
    """One piece of evidence as text, fenced: a workload may have written it."""
    at = piece.at.isoformat() if piece.at else ""
    rows = ("source", piece.source.value), ("object", str(piece.object)), ("path", piece.path), ("at", at), ("quote", piece.quote)
    return "\n".join((piece.id, *fence([f"{name}: {present(value, QUOTE_LIMIT)}" for name, value in rows if value])))


def _same(one: Caller, other: Caller) -> bool:
    return (one.subject, one.channel) == (other.subject, other.channel)
