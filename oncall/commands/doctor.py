"""`smokejumper doctor`: what can be reached and read, which permission is missing or too much, and what to do about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from oncall.checkup import Line, Mark
from oncall.invocation import Invocation

if TYPE_CHECKING:
    from cluster.kube import KubeReader
    from oncall.settings import Settings

KINDS_SHOWN = 12


def doctor(
    context: typer.Context,
    namespace: Annotated[str | None, typer.Option("-n", "--namespace", help="Check what can be read in this namespace.")] = None,
    cluster_context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
) -> None:
    """Check installation, configuration, state, policy, what the cluster lets us read, the accounts that try and write, and the fence.

    Exit 2 when something is broken.
    """
    import asyncio

    invocation: Invocation = context.obj.with_context(cluster_context)
    broken = asyncio.run(_check(invocation, namespace))
    if broken:
        raise typer.Exit(2)


async def _check(invocation: Invocation, namespace: str | None) -> bool:
    broken = False
    async for line in _lines(invocation, namespace):
        broken = broken or line.mark is Mark.BROKEN
        step = f" — {line.next_step}" if line.next_step else ""
        typer.echo(f"{line.mark:8} {line.what}{': ' + line.detail if line.detail else ''}{step}")
    return broken


async def _lines(invocation: Invocation, namespace: str | None) -> AsyncIterator[Line]:
    from cluster.errors import ClusterError
    from oncall.installation import foreign_rooms

    foreign = foreign_rooms()
    for room, owners in foreign.items():
        step = "Install smokejumper alone, in its own environment: uv tool install smokejumper."
        yield Line(Mark.BROKEN, f"import name {room!r}", f"also owned by {', '.join(owners)}", step)
    if not foreign:
        yield Line(Mark.GOOD, "installation", "no other distribution owns our import names")
    settings = invocation.settings
    yield Line(Mark.GOOD, "configuration", str(invocation.file or "defaults, environment and flags; there is no file"))
    async for line in _state(settings):
        yield line
    yield _model(settings)
    async for line in _monitoring(settings):
        yield line
    try:
        async for line in _cluster(settings, namespace):
            yield line
    except ClusterError as error:
        yield Line(Mark.BROKEN, "cluster", str(error))


async def _state(settings: Settings) -> AsyncIterator[Line]:
    from guardrails.bundle import SHIPPED, load, warnings
    from guardrails.directory import Directory
    from guardrails.errors import GuardrailsError
    from guardrails.office import PEOPLE
    from guardrails.store import Store

    folder = settings.state_dir
    try:
        store = await Store.open(settings.database, tenant=settings.estate.tenant)
        await store.close()
        yield Line(Mark.GOOD, "state", str(folder) if settings.database_url is None else f"{folder} and {settings.database_url}")
        directory = Directory.load(folder / PEOPLE)
        people = directory.people()
        if len(people) < 2:
            detail = f"{len(people)} in {folder / PEOPLE}; a change needs a requester and another person who approves"
            yield Line(Mark.MISSING, "people", detail, "smokejumper people add NAME --group sre-oncall")
        else:
            yield Line(Mark.GOOD, "people", ", ".join(person.name for person in people[:10]))
        policy = load(settings.policy_bundle or SHIPPED, directory.groups)
        yield Line(Mark.GOOD, "policy", f"{len(policy.rules)} rules, sha256 {policy.sha256[:12]}, its own tests pass")
        for warning in warnings(policy):
            yield Line(Mark.MISSING, "policy", warning)
    except GuardrailsError as error:
        yield Line(Mark.BROKEN, "state and policy", str(error))


def _model(settings: Settings) -> Line:
    from guardrails.redact import present

    if settings.model.name is None:
        return Line(Mark.GOOD, "model", "none configured; diagnosis does not need one")
    endpoint = present(settings.model.base_url or "the default endpoint", 200)
    return Line(Mark.GOOD, "model", f"{settings.model.name} at {endpoint} (not contacted)")


async def _monitoring(settings: Settings) -> AsyncIterator[Line]:
    from datetime import timedelta

    from cluster.errors import ClusterError
    from cluster.reading import MetricQuery
    from cluster.reference import Scope, Window
    from guardrails.redact import present
    from oncall.assembly import monitoring, wall_clock

    if settings.prometheus is None and settings.alertmanager is None and settings.loki is None:
        yield Line(Mark.GOOD, "monitoring", "none configured; what only metrics show is not seen")
        return
    now = wall_clock()
    try:
        async with monitoring(settings) as watching:
            asked = {}
            if watching is not None and watching.prometheus is not None:
                query = MetricQuery("one", expression="vector(1)")
                asked["prometheus"] = (await watching.prometheus.metric(query, Window(now - timedelta(minutes=1), now))).missing
            if watching is not None and watching.alertmanager is not None:
                asked["alertmanager"] = (await watching.alertmanager.alerts(Scope(""))).missing
            if watching is not None and watching.loki is not None:
                asked["loki"] = await watching.loki.answers()
    except ClusterError as error:
        yield Line(Mark.BROKEN, "monitoring", str(error))
        return
    for name, missing in asked.items():
        if missing:
            yield Line(Mark.MISSING, name, f"{missing[0].why.value} {missing[0].detail}".strip(), missing[0].next_step)
        else:
            yield Line(Mark.GOOD, name, present(str(getattr(settings, name)), 200))


async def _cluster(settings: Settings, namespace: str | None) -> AsyncIterator[Line]:
    from cluster.kube import KubeReader
    from oncall.accounts import account_lines
    from oncall.assembly import open_reader

    async with open_reader(settings, None) as reader:
        assert isinstance(reader, KubeReader)
        version = await reader.version()
        yield Line(Mark.GOOD, "cluster", f"{reader.cluster}, {version.value}")
        async for line in _kinds(reader, namespace):
            yield line
    async for line in account_lines(settings, namespace):
        yield line


async def _kinds(reader: KubeReader, namespace: str | None) -> AsyncIterator[Line]:
    from cluster.gaps import by_reason
    from cluster.kinds import CUSTOM_KINDS, KINDS
    from cluster.reading import Missing, Why

    readable, absent = 0, []
    refused: list[Missing] = []
    for kind in (*KINDS, *CUSTOM_KINDS):
        gap = await reader.glance(kind, namespace)
        if gap is None:
            readable += 1
        elif gap.why is Why.ABSENT_KIND:
            absent.append(kind.name)
        else:
            refused.append(gap)
    # Whoever grants them needs the name of each.
    for gap in by_reason(refused, names_shown=len(refused)):
        yield Line(Mark.MISSING, f"cannot list {gap.what}", f"{gap.why.value} {gap.detail}".strip(), gap.next_step)
    yield Line(Mark.GOOD, "kinds that can be listed", str(readable))
    if absent:
        more = f" and {len(absent) - KINDS_SHOWN} more" if len(absent) > KINDS_SHOWN else ""
        yield Line(Mark.GOOD, "kinds that this cluster does not have", f"{len(absent)}: {', '.join(absent[:KINDS_SHOWN])}{more}")
