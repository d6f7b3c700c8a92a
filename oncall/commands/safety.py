"""`smokejumper kill-switch` and `smokejumper break-glass`: stopping everything, and going on without approval, each with a name to it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from oncall.commands.proposals import authenticated
from oncall.invocation import TOKEN_VARIABLE, Invocation

if TYPE_CHECKING:
    from guardrails.budget import Switch
    from guardrails.emergency import Emergency
    from oncall.desk import Desk
    from oncall.settings import Settings

NAMES_SHOWN = 10

kill_switch = typer.Typer(help="Stop all writing at once, and let it go on.", no_args_is_help=True)
break_glass = typer.Typer(help="Emergencies: half an hour without approvals and freezes, then a review.", no_args_is_help=True)

Scope = Annotated[str | None, typer.Option("--cluster", help="Only this cluster, by its context; default: everything.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant.")]
Anyway = Annotated[bool, typer.Option("--anyway", help="Also for a cluster that neither the kubeconfig nor a proposal names.")]
Reason = Annotated[str, typer.Option(help="Why, for everybody who meets it.")]


@kill_switch.command("on")
def turn_on(context: typer.Context, reason: Reason, cluster: Scope = None, tenant: Tenant = None, anyway: Anyway = False) -> None:
    """Stop: nothing is written from the next request on, and what is half-way stops after the call that is out."""
    invocation: Invocation = context.obj
    scope = _scope(cluster, tenant)
    switches = asyncio.run(_turn_on(invocation.settings, scope, reason, checked=None if anyway else cluster))
    typer.echo(f"on: {scope}\tnothing is written to {_words(scope)} any more by whoever shares this ledger; reading goes on")
    typer.echo(f"to let writing go on, with your own token: {next(one.lifted_by for one in switches if one.scope == scope)}")


@kill_switch.command("off")
def turn_off(context: typer.Context, reason: Reason, cluster: Scope = None, tenant: Tenant = None) -> None:
    """Let writing go on. Needs your token: stopping is easy, going on is somebody's decision."""
    invocation: Invocation = context.obj
    scope = _scope(cluster, tenant)
    before, after = asyncio.run(_turn_off(invocation.settings, scope, reason))
    was_on = any(one.on and one.scope == scope for one in before)
    typer.echo(f"off: {scope}" + ("" if was_on else f"\tthere was no switch on for {_words(scope)}"))
    for one in after:
        if one.on:
            typer.echo(f"still on: {one.scope}\tnothing is written to {_words(one.scope)}: {one.lifted_by}")


@kill_switch.command("show")
def show(context: typer.Context) -> None:
    """Every switch that was turned, those that are on first."""
    invocation: Invocation = context.obj
    switches = asyncio.run(_switches(invocation.settings))
    if not switches:
        typer.echo("no switch was ever turned", err=True)
    for switch in switches:
        typer.echo(f"{'on' if switch.on else 'off'}\t{switch.scope}\tby {switch.by} at {switch.at}\t{switch.reason}")


def _scope(cluster: str | None, tenant: str | None) -> str:
    from guardrails.budget import GLOBAL, TENANT
    from oncall.errors import UsageError

    if cluster and tenant:
        raise UsageError("--cluster and --tenant contradict each other. Give one of them.")
    return f"{TENANT}{tenant}" if tenant else cluster or GLOBAL


def _words(scope: str) -> str:
    from guardrails.budget import GLOBAL, TENANT

    if scope == GLOBAL:
        return "any cluster"
    return f"the clusters of the tenant {scope.removeprefix(TENANT)}" if scope.startswith(TENANT) else f"the cluster {scope}"


async def _turn_on(settings: Settings, scope: str, reason: str, checked: str | None) -> tuple[Switch, ...]:
    """The switches afterwards. `checked` is a cluster that must be known, None where nothing is asked."""
    from oncall.desk import open_records, requester

    async with open_records(settings) as desk:
        person = requester(desk.office.directory, os.environ.get(TOKEN_VARIABLE))
        if checked is not None:
            await _refuse_unknown(settings, desk, checked, "A switch for it would stop nothing; without --cluster everything is stopped.")
        await desk.gate.pause(person.name, reason, cluster=scope)
        return await desk.gate.switches()


async def _turn_off(settings: Settings, scope: str, reason: str) -> tuple[tuple[Switch, ...], tuple[Switch, ...]]:
    """The switches before and afterwards."""
    from oncall.desk import open_records

    async with open_records(settings) as desk:
        person = authenticated(desk.office.directory.authenticate, "lets writing go on", "your own token, of anybody in the directory")
        before = await desk.gate.switches()
        await desk.gate.resume(person.name, reason, cluster=scope)
        return before, await desk.gate.switches()


async def _refuse_unknown(settings: Settings, desk: Desk, cluster: str, why: str) -> None:
    """Raise UsageError for a cluster that neither the kubeconfig nor any proposal names.

    Where no cluster is known at all the name is taken as it is, and the person is told so: an emergency does not wait for a kubeconfig.
    """
    import difflib

    from oncall.desk import known_clusters
    from oncall.errors import UsageError

    known = await known_clusters(settings, desk)
    if not known:
        typer.echo(f"no kubeconfig is readable and nothing was proposed yet, so nobody can tell whether {cluster!r} is right", err=True)
    elif cluster not in known:
        near = difflib.get_close_matches(cluster, known, n=3, cutoff=0.5) or known[:NAMES_SHOWN]
        more = f" and {len(known) - len(near)} more" if len(known) > len(near) else ""
        raise UsageError(
            f"no context and no proposal names a cluster {cluster!r}. {why} Known: {', '.join(near)}{more}. Add --anyway to insist."
        )


async def _switches(settings: Settings) -> tuple[Switch, ...]:
    from oncall.desk import open_ledger

    async with open_ledger(settings) as desk:
        return await desk.gate.switches()


@break_glass.command("open")
def declare(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="What is happening, for who reviews it.")],
    cluster: Annotated[str, typer.Option("--cluster", help="The cluster, by its context.")],
    code: Annotated[str | None, typer.Option(help="Of your authenticator, if you have one.")] = None,
    anyway: Anyway = False,
) -> None:
    """Declare an emergency, with your token. For 30 minutes `propose --break-glass` needs nobody else; denials and kill switch hold."""
    invocation: Invocation = context.obj
    emergency = asyncio.run(_declare(invocation.settings, cluster, reason, code, anyway=anyway))
    typer.echo(f"{emergency.id}\tuntil {emergency.until.isoformat(timespec='seconds')}\t{emergency.cluster}")


async def _declare(settings: Settings, cluster: str, reason: str, code: str | None, *, anyway: bool) -> Emergency:
    from guardrails.emergency import GROUP
    from oncall.desk import open_records

    async with open_records(settings) as desk:
        if not anyway:
            await _refuse_unknown(settings, desk, cluster, "An emergency there would cover nothing.")
        person = authenticated(desk.office.directory.authenticate, "declares the emergency", f"your own token, of a member of {GROUP}")
        assurance = await desk.gate.step_up(person, code) if code else 1
        return await desk.gate.break_glass(person, reason, cluster=cluster, assurance=assurance)


@break_glass.command("list")
def listing(context: typer.Context) -> None:
    """Emergencies, those that wait for a review first."""
    invocation: Invocation = context.obj
    emergencies = asyncio.run(_emergencies(invocation.settings))
    if not emergencies:
        typer.echo("no emergency was ever declared", err=True)
    for one in emergencies:
        due = f"waits for a review, due {one.review_due.isoformat(timespec='seconds')}"
        state = f"reviewed by {one.reviewed_by}: {one.review}" if one.reviewed_by else due
        typer.echo(f"{one.id}\t{one.person}\t{one.cluster}\t{one.at.isoformat(timespec='seconds')}\t{one.reason}\t{state}")


async def _emergencies(settings: Settings) -> tuple[Emergency, ...]:
    from oncall.desk import open_ledger

    async with open_ledger(settings) as desk:
        return await desk.gate.emergencies()


@break_glass.command("review")
def review(
    context: typer.Context,
    emergency: Annotated[str, typer.Argument(help="Of an emergency, like e-1a2b3c.")],
    note: Annotated[str, typer.Option(help="What you found.")],
) -> None:
    """Say, with your token, that you looked at what was done in somebody else's emergency."""
    invocation: Invocation = context.obj
    asyncio.run(_review(invocation.settings, emergency, note))
    typer.echo(f"{emergency}\treviewed")


async def _review(settings: Settings, emergency: str, note: str) -> None:
    from oncall.desk import open_ledger

    async with open_ledger(settings) as desk:
        await desk.gate.review(emergency, authenticated(desk.office.directory.authenticate, "reviews", "your own token"), note)
