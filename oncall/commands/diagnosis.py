"""`smokejumper diagnose` and `smokejumper record`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oncall.invocation import Invocation

if TYPE_CHECKING:
    from agent.investigation import Conclusion
    from cluster.recording import Written

Namespace = Annotated[str | None, typer.Option("-n", "--namespace", help="Only this namespace.")]
Everywhere = Annotated[bool, typer.Option("-A", "--all-namespaces", help="All namespaces; the default without -n.")]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]
Recording = Annotated[Path | None, typer.Option(help="Folder of a recording, instead of a live cluster.")]


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
    cluster_context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
    recording: Recording = None,
    question: Annotated[str | None, typer.Option(help="What people see, in their words, or an alert's text.")] = None,
    now: Annotated[str | None, typer.Option(metavar="RFC3339", help="The clock of a recording.")] = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 when there is a cause.")] = False,
) -> None:
    """Say what is wrong, by root cause, with evidence. Exit 0 when it ran, 2 on an error."""
    import asyncio

    from oncall.assembly import tune_collector

    invocation: Invocation = context.obj.with_context(cluster_context)
    tune_collector()
    concluded = asyncio.run(_diagnose(invocation, subject, namespace, everywhere, recording, question, now))
    _print(concluded, output)
    if exit_code and concluded.diagnosis.causes:
        raise typer.Exit(1)


async def _diagnose(
    invocation: Invocation,
    subject: str | None,
    namespace: str | None,
    everywhere: bool,
    recording: Path | None,
    question: str | None,
    now: str | None,
) -> Conclusion:
    from oncall import telemetry
    from oncall.asking import moment, scope_of
    from oncall.assembly import investigate, open_reader
    from oncall.errors import UsageError
    from oncall.screen import following

    if now is not None and recording is None:
        raise UsageError("--now is the clock of a recording; a live cluster has its own. Leave it out, or add --recording DIR.")
    settings = invocation.settings
    async with open_reader(settings, recording, moment(now)) as reader:
        telemetry.bind(cluster=reader.cluster)
        with following(f"reading {reader.cluster}") as progress:
            scope = await scope_of(reader, subject, namespace, everywhere=everywhere)
            asked = question or (f"What is wrong with {scope.subject.kind} {scope.subject.name}?" if scope.subject else None)
            return await investigate(settings, reader, scope, asked, progress)


def _print(concluded: Conclusion, output: Output) -> None:
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

        print_diagnosis(console(), concluded.diagnosis, concluded.remedies)


def record(
    context: typer.Context,
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder to write; must not exist or be empty.")],
    namespace: Namespace = None,
    everywhere: Everywhere = False,
    cluster_context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
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
