"""`smokejumper diagnose` and `smokejumper record`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from oncall.interruption import change_under_way
from oncall.invocation import TOKEN_VARIABLE, Invocation

if TYPE_CHECKING:
    from agent.investigation import Conclusion
    from agent.remediation import Remediation
    from cluster.reading import Reader
    from cluster.recording import Written
    from oncall.settings import Settings

Namespace = Annotated[str | None, typer.Option("-n", "--namespace", help="Only this namespace.")]
Everywhere = Annotated[bool, typer.Option("-A", "--all-namespaces", help="All namespaces; the default without -n.")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
Recording = Annotated[Path | None, typer.Option(help="Folder of a recording, instead of a live cluster.")]
Prometheus = Annotated[str | None, typer.Option(metavar="URL", help="Prometheus that watches the cluster.")]
Loki = Annotated[str | None, typer.Option(metavar="URL", help="Loki that keeps the cluster's logs.")]


class Output(StrEnum):
    """How a diagnosis is printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def diagnose(
    context: typer.Context,
    subject: Annotated[str | None, typer.Argument(metavar="[KIND/NAME]", help="Like deploy/serve, pod/serve-0 or node/gpu-1.")] = None,
    namespace: Namespace = None,
    everywhere: Everywhere = False,
    cluster_context: Context = None,
    recording: Recording = None,
    prometheus: Prometheus = None,
    loki: Loki = None,
    question: Annotated[str | None, typer.Option(help="What people see, in their words, or an alert's text.")] = None,
    now: Annotated[str | None, typer.Option(metavar="RFC3339", help="The clock of a recording.")] = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 when there is a cause.")] = False,
    propose: Annotated[bool, typer.Option("--propose", help="Propose the best remedy of the first cause; go on with resume.")] = False,
) -> None:
    """Say what is wrong, by root cause, with evidence. Exit 0 when it ran, 2 on an error."""
    import asyncio

    from guardrails.clock import random_id

    invocation: Invocation = context.obj.with_context(cluster_context).with_prometheus(prometheus).with_loki(loki)
    asked = _Asked(subject, namespace, everywhere, recording, question, now)
    if not propose:
        concluded = asyncio.run(_diagnose(invocation, asked, None))
    else:
        investigation = random_id("inv")
        with change_under_way(f"Investigation {investigation}", "smokejumper proposals list", f"smokejumper resume {investigation}"):
            concluded = asyncio.run(_diagnose(invocation, asked, investigation))
    _print(concluded, output, recording, proposing=propose)
    if exit_code and concluded.diagnosis.causes:
        raise typer.Exit(1)


class _Asked(NamedTuple):
    """What one command line asks about."""

    subject: str | None
    namespace: str | None
    everywhere: bool
    recording: Path | None
    question: str | None
    now: str | None


async def _diagnose(invocation: Invocation, asked: _Asked, investigation: str | None) -> Conclusion:
    """`investigation` is the id under which to propose a remedy; None only diagnoses."""
    from oncall import telemetry
    from oncall.asking import moment, scope_of
    from oncall.assembly import investigate, open_reader
    from oncall.errors import UsageError
    from oncall.screen import following

    if asked.now is not None and asked.recording is None:
        raise UsageError("--now is the clock of a recording; a live cluster has its own. Leave it out, or add --recording DIR.")
    settings = invocation.settings
    # Said before it is opened: a recording of many megabytes takes its time to parse, a cluster far away to answer.
    with following(f"reading {asked.recording or settings.context or 'the cluster'}") as progress:
        async with open_reader(settings, asked.recording, moment(asked.now)) as reader:
            telemetry.bind(cluster=reader.cluster)
            scope = await scope_of(reader, asked.subject, asked.namespace, everywhere=asked.everywhere)
            named = f"What is wrong with {scope.subject.kind} {scope.subject.name}?" if scope.subject else None
            question = asked.question or named
            if investigation is None:
                return await investigate(settings, reader, scope, question, progress)
            async with _remediation(settings, reader) as remediation:
                # Said before anything is written, so that an investigation whose process dies can be found again.
                typer.echo(f"investigation {investigation}", err=True)
                return await investigate(settings, reader, scope, question, progress, remediation=remediation, incident_id=investigation)


def resume(
    context: typer.Context,
    investigation: Annotated[str, typer.Argument(help="Id of an investigation that proposed something, like inv-1a2b3c.")],
    cluster_context: Context = None,
    recording: Recording = None,
    prometheus: Prometheus = None,
    loki: Loki = None,
    now: Annotated[str | None, typer.Option(metavar="RFC3339", help="The clock of a recording.")] = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.MARKDOWN,
) -> None:
    """Go on with an investigation: when its proposal was approved, execute it, verify, report. Also after the process was killed."""
    import asyncio

    invocation: Invocation = context.obj.with_context(cluster_context).with_prometheus(prometheus).with_loki(loki)
    with change_under_way(f"Investigation {investigation}", "smokejumper proposals list", f"smokejumper resume {investigation}"):
        concluded = asyncio.run(_resume(invocation, investigation, recording, now))
    _print(concluded, output, recording)


async def _resume(invocation: Invocation, investigation: str, recording: Path | None, now: str | None) -> Conclusion:
    from agent.investigation import is_known
    from cluster.reference import Scope
    from oncall.asking import moment
    from oncall.assembly import INVESTIGATIONS, investigate, open_reader
    from oncall.errors import UsageError
    from oncall.screen import following

    settings = invocation.settings
    if not await is_known(settings.state_dir / INVESTIGATIONS, investigation):
        raise UsageError(f"no investigation {investigation!r} in {settings.state_dir}. 'smokejumper diagnose --propose' begins one.")
    async with open_reader(settings, recording, moment(now)) as reader, _remediation(settings, reader) as remediation:
        with following(f"resuming {investigation}") as progress:
            scope = Scope(reader.cluster)
            return await investigate(settings, reader, scope, None, progress, remediation=remediation, incident_id=investigation)


@asynccontextmanager
async def _remediation(settings: Settings, reader: Reader) -> AsyncIterator[Remediation]:
    """The gate for an investigation, asked on behalf of whoever runs this command."""
    from oncall.desk import desk_over, remediation, requester

    async with desk_over(settings, reader) as desk:
        person = requester(desk.office.directory, os.environ.get(TOKEN_VARIABLE))
        yield remediation(desk, person, "cli")


def _print(concluded: Conclusion, output: Output, recording: Path | None, *, proposing: bool = False) -> None:
    if output is Output.JSON:
        import json

        from runbooks.document import diagnosis_document

        document = diagnosis_document(concluded.diagnosis, concluded.remedies, seconds=concluded.seconds)
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif output is Output.MARKDOWN:
        typer.echo(concluded.report)
    else:
        from oncall.render import print_diagnosis
        from oncall.screen import console

        print_diagnosis(console(), concluded.diagnosis, concluded.remedies, recording)
    if concluded.proposal is not None and concluded.proposal.id:
        proposal = concluded.proposal
        typer.echo(f"proposed {proposal.id}: {proposal.summary} ({proposal.state}). {proposal.detail}", err=True)
        if concluded.waiting:
            typer.echo(f"Then go on: smokejumper resume {concluded.incident.id}", err=True)
    elif concluded.proposal is not None:
        typer.echo(f"nothing was proposed: {concluded.proposal.detail or concluded.proposal.summary}", err=True)
    elif proposing:
        lacks = "no remedy is known for the first cause" if concluded.diagnosis.causes else "there is no cause to remedy"
        typer.echo(f"nothing was proposed: {lacks}", err=True)


def record(
    context: typer.Context,
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder to write; must not exist or be empty.")],
    namespace: Namespace = None,
    everywhere: Everywhere = False,
    cluster_context: Context = None,
) -> None:
    """Write a redacted recording of a live cluster: objects, logs of what is not healthy, never a Secret."""
    import asyncio

    from cluster.reading import Why
    from oncall.render import gaps

    invocation: Invocation = context.obj.with_context(cluster_context)
    written = asyncio.run(_record(invocation, folder, namespace, everywhere))
    typer.echo(f"{written.folder}: {written.objects} objects, {written.logs} logs. Look at it: smokejumper diagnose --recording {folder}")
    for line in gaps([missing for missing in written.missing if missing.why is not Why.ABSENT_KIND]):
        typer.echo(f"not in it: {line}", err=True)


async def _record(invocation: Invocation, folder: Path, namespace: str | None, everywhere: bool) -> Written:
    from cluster.kube import KubeReader
    from cluster.recording import write_recording
    from oncall.asking import scope_of
    from oncall.assembly import open_reader, wall_clock
    from oncall.screen import following

    async with open_reader(invocation.settings, None) as reader:
        assert isinstance(reader, KubeReader)
        with following(f"recording {reader.cluster}"):
            scope = await scope_of(reader, None, namespace, everywhere=everywhere)
            return await write_recording(reader, scope, folder, wall_clock)
