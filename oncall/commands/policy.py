"""`smokejumper policy`: does the bundle hold its own tests, do they hold it, and why was something decided as it was."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oncall.invocation import Invocation

if TYPE_CHECKING:
    from guardrails.counterfactual import Explanation
    from guardrails.policy import Policy
    from guardrails.view import ProposalView

app = typer.Typer(help="The approval policy: test, lint, coverage, new, explain.", no_args_is_help=True)


@app.command("test")
def run_tests(
    context: typer.Context,
    bundle: Annotated[Path | None, typer.Argument(help="Folder of a bundle; default: the one in force.")] = None,
) -> None:
    """Load a bundle as the gate would: syntax, schema, ids, groups, and the bundle's own tests."""
    from guardrails.bundle import warnings

    _, policy = _load(context.obj, bundle)
    effects = {effect: sum(rule.effect == effect for rule in policy.rules.values()) for effect in ("deny", "escalate", "auto", "approve")}
    counts = ", ".join(f"{count} {effect}" for effect, count in effects.items())
    typer.echo(f"good: {len(policy.rules)} rules ({counts}), all of the bundle's tests pass, sha256 {policy.sha256}")
    for warning in warnings(policy):
        typer.echo(f"warning: {warning}", err=True)


@app.command("lint")
def lint(
    context: typer.Context,
    bundle: Annotated[Path | None, typer.Argument(help="Folder of a bundle; default: the one in force.")] = None,
) -> None:
    """What is legal in a bundle and probably not meant. Exit 1 when there is anything."""
    from guardrails.bundle import read
    from guardrails.lint import lint as ask

    folder, policy = _load(context.obj, bundle)
    remarks = ask(policy, read(folder).schema)
    for remark in remarks:
        typer.echo(f"{remark.code}\t{remark.what}")
    typer.echo(f"{len(remarks)} remarks on {len(policy.rules)} rules", err=True)
    if remarks:
        raise typer.Exit(1)


@app.command("coverage")
def coverage(
    context: typer.Context,
    bundle: Annotated[Path | None, typer.Argument(help="Folder of a bundle; default: the one in force.")] = None,
    mutate: Annotated[bool, typer.Option("--mutate", help="Change each rule a little and see whether a test notices.")] = False,
) -> None:
    """Which of the bundle's tests let which rule decide. Exit 1 when a rule, or a change of one, would be missed by all."""
    from guardrails.bundle import read
    from guardrails.coverage import coverage as cover
    from guardrails.coverage import mutants

    folder, policy = _load(context.obj, bundle)
    source = read(folder)
    covered = cover(policy, source)
    for rule in covered:
        typer.echo(f"{len(rule.cases)}\t{rule.rule}\t{rule.cases[0] if rule.cases else 'no test lets it decide'}")
    missed = sum(not rule.cases for rule in covered)
    if mutate:
        tried = tuple(mutants(source))
        survivors = [mutant for mutant in tried if not mutant.noticed_by]
        for mutant in survivors:
            typer.echo(f"no test notices {mutant.rule} {mutant.change}")
        typer.echo(f"{len(tried)} mutants, {len(survivors)} not noticed", err=True)
        missed += len(survivors)
    typer.echo(f"{len(covered)} rules, {sum(not rule.cases for rule in covered)} never decide in a test", err=True)
    if missed:
        raise typer.Exit(1)


@app.command("new")
def new(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    template: Annotated[Path | None, typer.Option("--from", help="Folder of the bundle to begin with; default: the shipped one.")] = None,
) -> None:
    """Begin a bundle of your own: a copy with its tests, to be changed and named by `policy_bundle`."""
    import shutil

    from guardrails.bundle import SHIPPED, TESTS
    from oncall.errors import UsageError

    origin = template or SHIPPED
    files = [*sorted(origin.glob("*.cedar")), origin / TESTS]
    if len(files) < 2 or not files[-1].is_file():
        raise UsageError(f"{origin} is no policy bundle: it has no *.cedar or no {TESTS}. Name another with --from DIR.")
    try:
        folder.mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, folder / file.name)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}. Name a folder that does not exist yet.") from error
    typer.echo(f"{folder} has {', '.join(file.name for file in files)}. Change it, then: smokejumper policy test {folder}")


def _load(invocation: Invocation, bundle: Path | None) -> tuple[Path, Policy]:
    from guardrails.bundle import SHIPPED, load
    from oncall.desk import people

    settings = invocation.settings
    folder = bundle or settings.policy_bundle or SHIPPED
    return folder, load(folder, people(settings).groups)


@app.command("explain")
def explain(
    context: typer.Context,
    proposal: Annotated[str, typer.Argument(help="Id of a proposal.")],
    recording: Annotated[Path | None, typer.Option(help="Folder of the recording that the proposal is about.")] = None,
) -> None:
    """Which rules decide, and which facts would change that, single or in pairs, asked of the policy in force now."""
    from oncall.proposal_text import explanation_lines

    for line in explanation_lines(*asyncio.run(_explain(context.obj, proposal, recording))):
        typer.echo(line)


async def _explain(invocation: Invocation, proposal: str, recording: Path | None) -> tuple[ProposalView, Explanation]:
    from oncall.desk import open_desk, open_records

    async with open_records(invocation.settings) as records:
        shown = await records.gate.status(proposal)
    settings = invocation.with_context(None if recording else shown.cluster).settings
    async with open_desk(settings, recording) as desk:
        return await desk.gate.explain(proposal)
