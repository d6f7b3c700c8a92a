"""What the graph may ask of the gate: propose, look up, execute. The gate decides; nothing here holds a permission.

`oncall.assembly` fills the ports; the agent never imports the gate, so it cannot go around it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from runbooks.candidate import Candidate

WAITING = frozenset({"pending", "draft", "proposed"})
EXECUTABLE = frozenset({"approved", "auto"})


class ProposalView(Struct, frozen=True):
    """The gate's word on one proposal. `id` is empty when it was refused outright; `detail` says why."""

    id: str
    digest: str
    state: str
    summary: str
    detail: str = ""

    @property
    def executable(self) -> bool:
        """Whether it is worth asking the gate to execute. Only the gate knows whether it may be."""
        return self.state in EXECUTABLE


class Argument(Struct, frozen=True):
    """What a proposal rests on: when it was read, and in words the evidence of its cause and what a model was asked and answered on the
    way. The words are for the record; no decision is made on them."""

    read_at: datetime | None = None
    evidence: str = ""
    prompts: tuple[str, ...] = ()


class Execution(Struct, frozen=True):
    """What came of asking for execution: the proposal's state afterwards and a sentence."""

    id: str
    state: str
    detail: str = ""


class Decision(BaseModel):
    """What wakes a waiting investigation. It is recorded and grants nothing: the gate is asked again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Literal["approved", "denied", "withdrawn", "expired", "look"]
    by: str = Field(default="", max_length=200)
    note: str = Field(default="", max_length=2_000)


@dataclass(frozen=True)
class Remediation:
    """Ports to the gate. `propose(candidate, incident id, argument)` may be called again after a crash and must find the same proposal;
    `execute(id, digest)` changes the cluster at most once however often it is called."""

    propose: Callable[[Candidate, str, Argument], Awaitable[ProposalView]]
    status: Callable[[str], Awaitable[ProposalView]]
    execute: Callable[[str, str], Awaitable[Execution]]


def settled(view: ProposalView) -> bool:
    """Whether nobody needs to be waited for any more."""
    return view.state not in WAITING
