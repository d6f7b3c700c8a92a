"""`smokejumper propose`, `proposals`, `approve`, `deny` and `execute`: the gate on the command line."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oncall.interruption import change_under_way
from oncall.invocation import TOKEN_VARIABLE, Invocation

if TYPE_CHECKING:
    from guardrails.directory import Person
    from guardrails.executor import Outcome
    from guardrails.view import ProposalView
    from oncall.settings import Settings

CHANNEL = "cli"
EXIT_REFUSED = 1

app = typer.Typer(help="Proposals: list, show, withdraw.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Of a proposal, like p-1a2b3c.")]
Digest = Annotated[str | None, typer.Option(help="Of exactly what was looked at; required where nobody can be asked.")]
Recording = Annotated[Path | None, typer.Option(help="Folder of a recording: everything is rehearsed, nothing is sent.")]


def propose(
    context: typer.Context,
    action: Annotated[str, typer.Argument(help="What to do; smokejumper proposals actions lists them.")],
    subject: Annotated[str, typer.Argument(metavar="KIND/NAME", help="Like deploy/serve or node/gpu-1.")],
    namespace: Annotated[str | None, typer.Option("-n", "--namespace", help="Of the object.")] = None,
    to_revision: Annotated[
        int | None, typer.Option(help="For rollout_undo; default: the one before, if the present is not healthy.")
    ] = None,
    replicas: Annotated[int | None, typer.Option(help="For scale.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any parameter of the action. May be repeated; lists by commas.")
    ] = None,
    evidence: Annotated[list[str] | None, typer.Option(help="Evidence id (ev:…) of a diagnosis. May be repeated.")] = None,
    reason: Annotated[str, typer.Option(help="Why, in your words, for those who approve.")] = "",
    cluster_context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
    recording: Recording = None,
    break_glass: Annotated[bool, typer.Option(help="Invoke the emergency that you have declared; needs your token.")] = False,
) -> None:
    """Plan one change, try it as a dry run, ask the policy, and wait for approval. Nothing is changed in the cluster."""
    invocation: Invocation = context.obj.with_context(cluster_context)
    short = {"to_revision": to_revision, "replicas": replicas}
    parameters = _parameters(settings or []) | {name: str(value) for name, value in short.items() if value is not None}
    words = (action.replace("-", "_"), parameters)
    shown = asyncio.run(_propose(invocation.settings, words, subject, namespace, tuple(evidence or ()), reason, recording, break_glass))
    _print(shown)
    if shown.state.value in ("denied", "rejected"):
        raise typer.Exit(EXIT_REFUSED)


def _parameters(pairs: list[str]) -> dict[str, str]:
    """`KEY=VALUE` words as a mapping. Raises UsageError."""
    from oncall.errors import UsageError

    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key in found:
            raise UsageError(f"--set {pair!r} {'is given twice' if key in found else 'is no KEY=VALUE'}.")
        found[key.replace("-", "_")] = value
    return found


async def _propose(
    settings: Settings,
    words: tuple[str, dict[str, str]],
    subject: str,
    namespace: str | None,
    evidence: tuple[str, ...],
    reason: str,
    recording: Path | None,
    break_glass: bool,
) -> ProposalView:
    from guardrails.action import from_words, target
    from oncall.asking import split
    from oncall.desk import evidence_of, open_desk, requester

    kind_word, name = split(subject)
    on = target(_kind(kind_word), namespace, name)
    action = from_words(*words)
    async with open_desk(settings, recording) as desk:
        if break_glass:
            person = authenticated(desk.office.directory.authenticate, "invokes the emergency", "your own token")
        else:
            person = requester(desk.office.directory, os.environ.get(TOKEN_VARIABLE))
        return await desk.gate.propose(
            action,
            on,
            cluster=desk.cluster,
            requester=person.name,
            evidence=evidence_of(evidence, from_agent=False),
            channel=CHANNEL,
            reason=reason,
            break_glass=break_glass,
        )


def _kind(word: str) -> str:
    """The kind that a person means, in the words of kubectl; as it is when nothing is known by it."""
    from cluster.kinds import find_kind
    from guardrails.action import TARGET_RESOURCES

    meant = next((r.kind for r in TARGET_RESOURCES.values() if word.lower() in (r.kind.lower(), r.plural)), None)
    known = find_kind(word)
    return meant or (known.name if known else word)


@app.command("actions")
def actions() -> None:
    """The actions that exist, what each applies to, and its parameters."""
    from guardrails.action import BY_NAME

    for name, word in BY_NAME.items():
        fields = ((key, field) for key, field in word.model_fields.items() if key != "action")
        parameters = " ".join(key if field.is_required() else f"[{key}]" for key, field in fields)
        typer.echo(f"{name}\t{', '.join(word.traits.kinds)}\t{word.traits.title}\t{parameters}")


@app.command("recover")
def recover(
    context: typer.Context,
    cluster_context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
) -> None:
    """Finish or settle what a process that died has left behind in this cluster, and expire what is over."""
    invocation: Invocation = context.obj.with_context(cluster_context)
    outcomes = asyncio.run(_recover(invocation.settings))
    for outcome in outcomes:
        _print_outcome(outcome)
    if not outcomes:
        typer.echo("nothing was left behind")
    if any(outcome.needs_a_human for outcome in outcomes):
        raise typer.Exit(EXIT_REFUSED)


async def _recover(settings: Settings) -> tuple[Outcome, ...]:
    from oncall.desk import open_desk

    async with open_desk(settings) as desk:
        return await desk.gate.recover()


@app.command("list")
def listing(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
) -> None:
    """Proposals, newest first."""
    invocation: Invocation = context.obj
    from guardrails.redact import present

    found = asyncio.run(_list(invocation.settings, everything))
    if not found:
        typer.echo("there is none" if everything else "none is open; --all also shows those that have ended", err=True)
    for shown in found:
        summary = present(shown.summary, 300).replace("\n", " ")
        typer.echo(f"{shown.id}\t{shown.state}\t{shown.cluster}\t{summary}\tby {shown.requester}\t{shown.next_step}")


async def _list(settings: Settings, everything: bool) -> tuple[ProposalView, ...]:
    from oncall.desk import open_ledger

    async with open_ledger(settings) as desk:
        return await desk.gate.list(open_only=not everything)


@app.command("show")
def show(
    context: typer.Context,
    proposal: Id,
    as_json: Annotated[bool, typer.Option("--json", help="The whole document.")] = False,
) -> None:
    """One proposal: what would change, by which rule, who agreed, how it went."""
    invocation: Invocation = context.obj
    shown = asyncio.run(_status(invocation.settings, proposal))
    if as_json:
        typer.echo(shown.model_dump_json(indent=2))
    else:
        _print(shown)


async def _status(settings: Settings, proposal: str) -> ProposalView:
    from oncall.desk import open_ledger

    async with open_ledger(settings) as desk:
        return await desk.gate.status(proposal)


@app.command("withdraw")
def withdraw(context: typer.Context, proposal: Id, reason: Annotated[str, typer.Option(help="Why.")] = "") -> None:
    """Take back a proposal of yours that is not executed yet."""
    invocation: Invocation = context.obj
    _print(asyncio.run(_withdraw(invocation.settings, proposal, reason)))


async def _withdraw(settings: Settings, proposal: str, reason: str) -> ProposalView:
    from oncall.desk import open_ledger, requester

    async with open_ledger(settings) as desk:
        person = requester(desk.office.directory, os.environ.get(TOKEN_VARIABLE))
        return await desk.gate.withdraw(proposal, person.name, reason=reason)


def approve(
    context: typer.Context,
    proposal: Id,
    digest: Digest = None,
    code: Annotated[str | None, typer.Option(help="Of your authenticator, where the policy asks for a second proof.")] = None,
) -> None:
    """Agree, as the person whose token you have, to exactly what the digest names. The requester never can."""
    invocation: Invocation = context.obj
    _print(asyncio.run(_decide(invocation.settings, proposal, digest, "approve", "", code)))


def deny(context: typer.Context, proposal: Id, digest: Digest = None, reason: Annotated[str, typer.Option(help="Why.")] = "") -> None:
    """Refuse, as the person whose token you have."""
    invocation: Invocation = context.obj
    _print(asyncio.run(_decide(invocation.settings, proposal, digest, "deny", reason)))


async def _decide(
    settings: Settings, proposal: str, digest: str | None, verdict: str, reason: str, code: str | None = None
) -> ProposalView:
    from oncall.desk import open_ledger

    async with open_ledger(settings) as desk:
        shown = await desk.gate.status(proposal)
        named = digest or _confirmed(shown, verdict)
        person = authenticated(desk.office.directory.authenticate)
        if verdict == "approve":
            second = shown.requirement is not None and shown.requirement.assurance > 1
            if code is None and second and sys.stdin.isatty():
                code = typer.prompt("The code of your authenticator")
            assurance = await desk.gate.step_up(person, code) if code else 1
            return await desk.gate.approve(proposal, named, person, CHANNEL, assurance=assurance)
        return await desk.gate.deny(proposal, named, person, CHANNEL, reason=reason)


def _confirmed(shown: ProposalView, verdict: str) -> str:
    """The digest of what a person has just been shown and said yes to. Through a pipe nobody has looked, so it must be named."""
    from oncall.errors import UsageError

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            f"nobody can be shown the proposal here. Name what was looked at: smokejumper {verdict} {shown.id} --digest DIGEST."
        )
    _print(shown)
    typer.confirm(f"{verdict} exactly this?", abort=True)
    return shown.digest or ""


def authenticated(authenticate: Any, deed: str = "decides", whose: str = "the approver's token") -> Person:
    """Whose token this process was given, or is given now; `deed` and `whose` say what it is needed for. Raises UsageError."""
    from oncall.errors import UsageError

    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        if not sys.stdin.isatty():
            raise UsageError(f"who {deed}? Set {TOKEN_VARIABLE} to {whose}.")
        token = typer.prompt("Your token", hide_input=True)
    person: Person = authenticate(token)
    return person


def execute(
    context: typer.Context,
    proposal: Id,
    digest: Annotated[str | None, typer.Option(help="Refuse unless the proposal still has this digest.")] = None,
    cluster_context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig; default: the proposal's.")] = None,
    recording: Recording = None,
) -> None:
    """Do exactly what was approved, once, and check that it worked. Refused without approval, whoever asks."""
    invocation: Invocation = context.obj
    with change_under_way(f"The execution of {proposal}", f"smokejumper proposals show {proposal}", f"smokejumper execute {proposal}"):
        outcome = asyncio.run(_execute(invocation, proposal, digest, cluster_context, recording))
    _print_outcome(outcome)
    if outcome.state.value not in ("succeeded", "rehearsed"):
        raise typer.Exit(EXIT_REFUSED)


async def _execute(
    invocation: Invocation, proposal: str, digest: str | None, cluster_context: str | None, recording: Path | None
) -> Outcome:
    from oncall.desk import open_desk, open_records, requester
    from oncall.screen import following

    async with open_records(invocation.settings) as records:
        shown = await records.gate.status(proposal)
        person = requester(records.office.directory, os.environ.get(TOKEN_VARIABLE))
    settings = invocation.with_context(cluster_context or (None if recording else shown.cluster)).settings
    async with open_desk(settings, recording) as desk:
        with following(f"executing {proposal}"):
            return await desk.gate.execute(proposal, digest or shown.digest or "", person.name)


def _print(shown: ProposalView) -> None:
    from oncall.proposal_text import proposal_lines

    for line in proposal_lines(shown):
        typer.echo(line)


def _print_outcome(outcome: Outcome) -> None:
    from oncall.proposal_text import outcome_lines

    for line in outcome_lines(outcome):
        typer.echo(line)
