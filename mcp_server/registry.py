"""What a tool is: its schema, its access, its least RBAC, and the Answer it gives. Tools say nothing that `runbooks` does not know.

A primitive tool is also the agent's probe: the facts in its Answer grow the agent's World in process, and its text is rendered
only when somebody reads it. A composed tool runs an investigation through the `Ports`.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct
from pydantic import BaseModel

from cluster.facts.meta import Fact
from cluster.kinds import Kind
from cluster.reading import Cost, LogText, MetricQuery, Missing, Reader, Reading, Series
from cluster.reference import ContainerRef, Scope
from cluster.telemetry import Telemetry
from cluster.world import World
from guardrails.redact import present
from mcp_server.arguments import nearest, validated
from mcp_server.errors import ToolRefusal as ToolRefusal
from mcp_server.groups import Group
from runbooks.candidate import Candidate
from runbooks.cost import Tariff
from runbooks.finding import Diagnosis

if TYPE_CHECKING:
    from mcp_server.archive import Kept

STDIO_CHANNEL = "mcp"
NO_TARIFF = Tariff()


class Access(enum.Enum):
    """READ changes nothing anywhere. PROPOSE writes only our own store. GATED may change the cluster, and only under a grant."""

    READ = "read"
    PROPOSE = "propose"
    GATED = "gated"


class RBACRule(Struct, frozen=True):
    """The least permission in the reader's (or executor's) role that a tool needs; rendered by `smokejumper rbac` and in `_meta`."""

    verbs: tuple[str, ...]
    api_group: str
    resources: tuple[str, ...]


def rules_of(kinds: Iterable[Kind]) -> tuple[RBACRule, ...]:
    """Reading some kinds: one rule for each API group."""
    groups: dict[str, dict[str, None]] = {}
    for kind in kinds:
        for group in (kind.group, *kind.also):
            groups.setdefault(group, {})[kind.plural] = None
    return tuple(RBACRule(("get", "list"), group, tuple(plurals)) for group, plurals in groups.items())


class KindRead(Struct, frozen=True):
    """Facts of one kind that a probe brought; `complete` when all of it in `namespaces` (empty: all of them) was listed."""

    kind: str
    facts: tuple[Fact, ...]
    complete: bool
    missing: tuple[Missing, ...] = ()
    namespaces: tuple[str, ...] = ()

    def covers(self, scope: Scope) -> bool:
        """Whether this reading proves what a world of that scope lacks."""
        whole = not self.namespaces or (bool(scope.namespaces) and set(scope.namespaces) <= set(self.namespaces))
        return self.complete and whole


class LogRead(Struct, frozen=True):
    container: ContainerRef
    previous: bool
    log: Reading[LogText]


class MetricRead(Struct, frozen=True):
    query: MetricQuery
    series: Reading[tuple[Series, ...]]


class Growth(Struct, frozen=True):
    """What an Answer adds to a World."""

    kinds: tuple[KindRead, ...] = ()
    logs: tuple[LogRead, ...] = ()
    metrics: tuple[MetricRead, ...] = ()
    telemetry: Reading[Telemetry] | None = None

    def grow(self, world: World) -> World:
        for read in self.kinds:
            world = world.with_facts(read.kind, read.facts, complete=read.covers(world.scope), missing=read.missing)
        for entry in self.logs:
            world = world.with_log(entry.container, previous=entry.previous, log=entry.log)
        for metric in self.metrics:
            world = world.with_metric(metric.query.name or metric.query.expression or "", metric.series)
        return world if self.telemetry is None else world.with_telemetry(self.telemetry)


class Page(Struct, frozen=True):
    """Bounded output: findings first, then evidence rows, then how to get more. `cut` says what was left out, "" when nothing was.

    `budget_bytes` is what its text may take, None for the hard cap.
    """

    lines: tuple[str, ...]
    structured: dict[str, Any]
    cursor: str | None = None
    cut: str = ""
    budget_bytes: int | None = None


@dataclass(frozen=True)
class Answer:
    """What a tool returns in process. `render` makes the page; nothing is rendered for a probe that no person reads."""

    render: Callable[[], Page]
    growth: Growth = field(default_factory=Growth)
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True)
class Caller:
    """Who asks. Over stdio `subject` is the operating system's user; over HTTP, the name and groups by which clusters know them."""

    subject: str
    groups: tuple[str, ...] = ()
    channel: str = STDIO_CHANNEL


class Investigated(Struct, frozen=True):
    """What an investigation brought. `remedies` are the candidates of each cause in the causes' order; `seconds` is wall time; `id` is
    the name under which a server keeps it, "" where none does."""

    diagnosis: Diagnosis
    remedies: tuple[tuple[Candidate, ...], ...] = ()
    seconds: float = 0.0
    id: str = ""


@dataclass(frozen=True)
class Ports:
    """What composed and gated tools call; filled by `oncall.assembly`, so that no room imports upward.

    `investigate(scope, question, progress)` runs the agent. `propose`, `status` and `execute` return plain documents of the gate
    (`guardrails`) that are safe to show; they raise `ToolRefusal` with what is wrong and what to do next. `kept` finds an investigation
    of the caller's by id where a server keeps them, and refuses alike. `weigh` says what the policy would say of a request, and stores
    nothing. `answered` records what a client's user said when asked whether to execute a digest of a proposal.
    """

    investigate: Callable[[Scope, str | None, Callable[[str], Awaitable[None]]], Awaitable[Investigated]]
    propose: Callable[[dict[str, Any], Caller], Awaitable[dict[str, Any]]]
    status: Callable[[str, Caller], Awaitable[dict[str, Any]]]
    execute: Callable[[str, str, Caller], Awaitable[dict[str, Any]]]
    kept: Callable[[str], Kept] | None = None
    weigh: Callable[[dict[str, Any], Caller], Awaitable[dict[str, Any]]] | None = None
    answered: Callable[[str, str, str, Caller], Awaitable[None]] | None = None


@dataclass(frozen=True)
class ToolContext:
    """What a tool may use. `ports` is None for a toolbelt that only probes; `tariff` is what devices cost."""

    reader: Reader
    caller: Caller
    clock: Callable[[], datetime]
    ports: Ports | None = None
    progress: Callable[[str], Awaitable[None]] | None = None
    tariff: Tariff = NO_TARIFF


@dataclass(frozen=True)
class ToolSpec:
    """One tool. `arguments` is its input model (pydantic, extra fields forbidden), `output` the model of its structured content.

    `uses` names the tools whose readings it composes: what they need, it needs, beside its own `rbac`. It is of no use where none of
    `kinds` is served, nor without its `source`. It is offered where its `group` is and, if it has one, the group `beside` too.
    """

    name: str
    title: str
    group: Group
    description: str
    arguments: type[BaseModel]
    output: type[BaseModel]
    access: Access
    rbac: tuple[RBACRule, ...]
    run: Callable[[ToolContext, Any], Awaitable[Answer]]
    uses: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    source: Literal["metrics", "telemetry"] | None = None
    beside: Group | None = None


class Toolset:
    """Tools by name. `call` is how every client of every kind runs one: in process, over MCP, from the agent's graph.

    `hidden` are tools that cannot be called and that others may rest on.
    """

    def __init__(self, tools: tuple[ToolSpec, ...], hidden: tuple[ToolSpec, ...] = ()) -> None:
        self.tools, self.hidden = tools, hidden
        self._by_name = {spec.name: spec for spec in tools}
        if len({spec.name for spec in (*tools, *hidden)}) != len(tools) + len(hidden):
            raise ValueError("two tools have the same name")

    def __iter__(self) -> Iterator[ToolSpec]:
        return iter(self.tools)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def only(self, wanted: Callable[[ToolSpec], bool]) -> Toolset:
        """Those that are wanted; the others are hidden."""
        rest = tuple(spec for spec in self.tools if not wanted(spec))
        return Toolset(tuple(spec for spec in self.tools if wanted(spec)), (*self.hidden, *rest))

    def spec(self, name: str) -> ToolSpec:
        """Raises ToolRefusal with the nearest names for an unknown tool."""
        found = self._by_name.get(name)
        if found is None:
            raise ToolRefusal(f"unknown tool {present(name, 80)!r}; {nearest(name, self._by_name, 'tools')}")
        return found

    def rules(self, name: str) -> tuple[RBACRule, ...]:
        """The least RBAC of a tool, with what the tools need that it uses."""
        spec = next((spec for spec in self.hidden if spec.name == name), None) or self.spec(name)
        used = (rule for other in spec.uses for rule in self.rules(other))
        return tuple(dict.fromkeys((*spec.rbac, *used)))

    async def call(self, name: str, arguments: dict[str, Any], context: ToolContext) -> Answer:
        """Validate the arguments and run the tool. Raises ToolRefusal for anything that the caller can put right."""
        spec = self.spec(name)
        return await spec.run(context, validated(spec.arguments, name, arguments))
