"""`smokejumper policy`: does the bundle hold its own tests, and why was something decided as it was."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oncall.invocation import Invocation

if TYPE_CHECKING:
    from guardrails.policy import NearMiss
    from guardrails.view import ProposalView

app = typer.Typer(help="The approval policy: test, explain.", no_args_is_help=True)


@app.command("test")
def run_tests(
    context: typer.Context,
    bundle: Annotated[Path | None, typer.Argument(help="Folder of a bundle; default: the one in force.")] = None,
) -> None:
    """Load a bundle as the gate would: syntax, schema, ids, groups, and the bundle's own tests."""
    from guardrails.bundle import SHIPPED, load, warnings
    from oncall.desk import people

    invocation: Invocation = context.obj
    settings = invocation.settings
    folder = bundle or settings.policy_bundle or SHIPPED
    policy = load(folder, people(settings).groups)
    effects = {effect: sum(rule.effect == effect for rule in policy.rules.values()) for effect in ("deny", "escalate", "auto", "approve")}
    counts = ", ".join(f"{count} {effect}" for effect, count in effects.items())
    typer.echo(f"good: {len(policy.rules)} rules ({counts}), all of the bundle's tests pass, sha256 {policy.sha256}")
    for warning in warnings(policy):
        typer.echo(f"warning: {warning}", err=True)


@app.command("explain")
def explain(
    context: typer.Context,
    proposal: Annotated[str, typer.Argument(help="Id of a proposal.")],
    recording: Annotated[Path | None, typer.Option(help="Folder of the recording that the proposal is about.")] = None,
) -> None:
    """Which rules decided, and which single facts would have changed that, asked of the policy in force now."""
    from oncall.proposal_text import proposal_lines

    invocation: Invocation = context.obj
    shown, near = asyncio.run(_explain(invocation, proposal, recording))
    for line in proposal_lines(shown):
        typer.echo(line)
    for miss in near:
        typer.echo(f"  if {miss.fact} were {miss.value}: {miss.effect} by {', '.join(miss.rules) or 'no rule'}")


async def _explain(invocation: Invocation, proposal: str, recording: Path | None) -> tuple[ProposalView, tuple[NearMiss, ...]]:
    from oncall.desk import open_desk, open_records

    async with open_records(invocation.settings) as records:
        shown = await records.gate.status(proposal)
    settings = invocation.with_context(None if recording else shown.cluster).settings
    async with open_desk(settings, recording) as desk:
        return await desk.gate.explain(proposal)
