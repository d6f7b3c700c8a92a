"""`smokejumper people`: who may ask, who may approve, and who stands in for whom."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from oncall.commands.proposals import authenticated
from oncall.invocation import Invocation

if TYPE_CHECKING:
    from guardrails.delegation import Delegation
    from oncall.settings import Settings

_DURATION = re.compile(r"([1-9][0-9]{0,3})([hd])")

app = typer.Typer(help="People, their groups and tokens.", no_args_is_help=True)


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="How the person is known here, like alice.")],
    group: Annotated[list[str] | None, typer.Option(help="A group whose approvals count, like sre-oncall. May be repeated.")] = None,
    os_user: Annotated[list[str] | None, typer.Option(help="Their account on this machine: who asks without a token.")] = None,
    kubernetes_user: Annotated[str | None, typer.Option(help="How clusters know them, for the access review of requesters.")] = None,
    kubernetes_group: Annotated[list[str] | None, typer.Option(help="A group that clusters know them by. May be repeated.")] = None,
) -> None:
    """Add a person and print their token, once."""
    from oncall.desk import people

    invocation: Invocation = context.obj
    directory = people(invocation.settings)
    notes = _unasked(invocation.settings, frozenset(group or ()) - directory.declared, directory.declared)
    token = directory.add(
        name,
        group or (),
        kubernetes_user=kubernetes_user,
        kubernetes_groups=kubernetes_group or (),
        os_users=os_user or (),
    )
    typer.echo(token)
    typer.echo(f"This is {name}'s token; it is shown once. They approve with it in SMOKEJUMPER_TOKEN or at the prompt.", err=True)
    for note in notes:
        typer.echo(note, err=True)


def _unasked(settings: Settings, groups: frozenset[str], declared: frozenset[str]) -> list[str]:
    """A note for each of these groups that no rule asks for, with the nearest that count: it may be a misspelt one."""
    from guardrails.bundle import SHIPPED, build, read
    from guardrails.emergency import GROUP
    from guardrails.errors import BadBundle
    from mcp_server.arguments import nearest

    if not groups:
        return []
    folder = settings.policy_bundle or SHIPPED
    try:
        source = read(folder)
        policy = build(source, None, isolate=folder != SHIPPED)
    except BadBundle as error:
        return [f"note: whether a rule asks for {', '.join(sorted(groups))} cannot be told: {error}"]
    asked = {GROUP, *(group for rule in policy.rules.values() for group in rule.approvers)}
    strangers = sorted(group for group in groups - asked if f'Group::"{group}"' not in source.rules)
    return [
        f"note: no rule of the policy asks for the group {group!r}; {nearest(group, asked | declared, 'groups')}" for group in strangers
    ]


@app.command("list")
def listing(context: typer.Context) -> None:
    """Who is in the directory. Tokens are stored as hashes and cannot be shown."""
    from oncall.desk import people

    invocation: Invocation = context.obj
    known = people(invocation.settings).people()
    if not known:
        typer.echo("nobody yet; smokejumper people add NAME --group sre-oncall", err=True)
    for person in known:
        accounts = f"\taccounts: {', '.join(person.os_users)}" if person.os_users else ""
        typer.echo(f"{person.name}\t{', '.join(person.groups) or 'no group'}{accounts}")


@app.command("remove")
def remove(context: typer.Context, name: str) -> None:
    """Remove a person; their approvals stop counting at once."""
    from oncall.desk import people

    invocation: Invocation = context.obj
    people(invocation.settings).remove(name)
    typer.echo(f"{name} is removed.")


@app.command("step-up")
def step_up(context: typer.Context, name: Annotated[str, typer.Argument(help="Of a person in the directory.")]) -> None:
    """Give a person a second proof, for policies that ask for assurance 2: print what their authenticator app needs, once."""
    from guardrails.stepup import enrolment
    from oncall.desk import people

    invocation: Invocation = context.obj
    typer.echo(enrolment(name, people(invocation.settings).enrol(name)))
    typer.echo(f"For {name}'s authenticator app; it is shown once, and what they had before is void.", err=True)


@app.command("delegate")
def delegate(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Who stands in for you.")],
    group: Annotated[list[str], typer.Option(help="One of your groups. May be repeated.")],
    lasting: Annotated[str, typer.Option("--for", metavar="DURATION", help="Like 8h or 7d; at most 14d.")],
    reason: Annotated[str, typer.Option(help="Why, for auditors.")] = "",
) -> None:
    """Let somebody else approve in your place for a time, with your token. Never what you ask for yourself; you two are one voice."""
    invocation: Invocation = context.obj
    loan = asyncio.run(_delegate(invocation.settings, name, tuple(group), _duration(lasting), reason))
    typer.echo(_loan(loan))


def _duration(text: str) -> timedelta:
    from oncall.errors import UsageError

    found = _DURATION.fullmatch(text)
    if found is None:
        raise UsageError(f"--for {text!r} is no duration like 8h or 7d.")
    return timedelta(hours=int(found[1]) * (24 if found[2] == "d" else 1))


async def _delegate(settings: Settings, name: str, groups: tuple[str, ...], lasting: timedelta, reason: str) -> Delegation:
    from oncall.desk import open_records

    async with open_records(settings) as desk:
        giver = authenticated(desk.office.directory.authenticate, "gives", "your own token")
        return await desk.gate.delegate(giver, name, groups, desk.office.clock.now() + lasting, reason)


@app.command("delegations")
def delegations(context: typer.Context) -> None:
    """Who stands in for whom, newest first, also what is over."""
    invocation: Invocation = context.obj
    loans = asyncio.run(_delegations(invocation.settings))
    for loan in loans:
        typer.echo(_loan(loan))
    if not loans:
        typer.echo("nobody stands in for anybody; who does is told by: smokejumper people delegate NAME --group GROUP --for 7d", err=True)


async def _delegations(settings: Settings) -> tuple[Delegation, ...]:
    from oncall.desk import open_ledger

    async with open_ledger(settings) as desk:
        return await desk.gate.delegations()


@app.command("end-delegation")
def end_delegation(context: typer.Context, delegation: Annotated[str, typer.Argument(help="Like d-1a2b3c.")]) -> None:
    """End it before its day, with the token of either of the two. Approvals that rest on it stop counting at once."""
    invocation: Invocation = context.obj
    asyncio.run(_end_delegation(invocation.settings, delegation))
    typer.echo(f"{delegation}\tended")


async def _end_delegation(settings: Settings, delegation: str) -> None:
    from oncall.desk import open_records

    async with open_records(settings) as desk:
        await desk.gate.end_delegation(
            delegation, authenticated(desk.office.directory.authenticate, "ends it", "the token of its giver or deputy")
        )


def _loan(loan: Delegation) -> str:
    from guardrails.redact import present

    ended = f"\tended by {loan.ended_by}" if loan.ended_by else ""
    why = present(loan.reason, 300).replace("\n", " ")
    until = loan.until.isoformat(timespec="seconds")
    return f"{loan.id}\t{loan.receiver} for {loan.giver}\t{', '.join(loan.groups)}\tuntil {until}\t{why}{ended}"
