"""The command line: global flags, the commands, and the one place where an error becomes a sentence and an exit code.

It imports nothing heavy: `smokejumper --help` must be instant. Exit codes: 0 it ran, 1 a finding that was asked to be told by exit
code, 2 an error, 130 interrupted.
"""

from __future__ import annotations

import copy
import gc
import io
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from oncall.commands import (
    audit,
    configuration,
    cost,
    database,
    diagnosis,
    doctor,
    gpus,
    people,
    policy,
    proposals,
    rbac,
    safety,
    server,
    why,
)
from oncall.installation import version
from oncall.invocation import Invocation

NAME = "smokejumper"
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
COLLECTED_OBJECTS = 500_000

app = typer.Typer(
    name=NAME,
    help="Diagnose Kubernetes platforms that run AI workloads, and fix them under supervision.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("diagnose")(diagnosis.diagnose)
app.command("resume")(diagnosis.resume)
app.command("record")(diagnosis.record)
app.command("why")(why.why)
app.command("gpus")(gpus.gpus)
app.command("cost")(cost.cost)
app.command("mcp")(server.mcp)
app.command("propose")(proposals.propose)
app.add_typer(proposals.app, name="proposals")
app.command("approve")(proposals.approve)
app.command("deny")(proposals.deny)
app.command("execute")(proposals.execute)
app.add_typer(safety.kill_switch, name="kill-switch")
app.add_typer(safety.break_glass, name="break-glass")
app.add_typer(audit.app, name="audit")
app.add_typer(policy.app, name="policy")
app.add_typer(people.app, name="people")
app.add_typer(configuration.app, name="config")
app.add_typer(database.app, name="database")
app.command("doctor")(doctor.doctor)
app.command("rbac")(rbac.rbac)
app.command("fence")(rbac.fence)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"smokejumper {version()}")
        raise typer.Exit


@app.callback()
def _globals(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Configuration file; default: smokejumper.toml here, then the user's.")] = None,
    state: Annotated[Path | None, typer.Option(help="Folder for proposals, ledger and people.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Kubeconfig; default: KUBECONFIG, ~/.kube/config, in-cluster.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error; logs go to stderr.")] = None,
    show_version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,  # noqa: ARG001
) -> None:
    context.obj = Invocation(config=config, state=state, kubeconfig=kubeconfig, log_level=log_level)


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal or pipe that cannot say a character still gets the sentence around it.
            stream.reconfigure(errors="backslashreplace")
    # What a command imports and reads, it keeps: with the default of 700 objects the collector goes through it again and again for
    # nothing, a tenth of a diagnosis. A command that makes garbage in earnest, such as a replay of a ledger, still has it collected.
    gc.set_threshold(COLLECTED_OBJECTS, 20, 100)
    _leave(run(sys.argv[1:]))


def _leave(code: int) -> NoReturn:
    """End the process without freeing its objects one by one, a twentieth of a diagnosis; mypy leaves so too (mypy/util.py, hard_exit).

    Whoever opened files and connections has closed them by now. An output that is gone is left to the interpreter, which says so.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            # None where whoever started us had closed it (docs.python.org, sys.__stdout__).
            if stream is not None:
                stream.flush()
    except OSError:
        sys.exit(code)
    logging.shutdown()
    os._exit(code)


def run(arguments: list[str]) -> int:
    """One command line to its exit code; errors of ours become one sentence on stderr."""
    try:
        code = _named(arguments)(arguments, prog_name=NAME, standalone_mode=False)
    except typer.Abort:
        return EXIT_INTERRUPTED
    except Exception as error:
        message = sentence_of(error)
        if message is None:
            raise
        typer.echo(message, err=True)
        return EXIT_ERROR
    if code == EXIT_INTERRUPTED:
        # Typer turns Ctrl-C into this code without a word.
        typer.echo("interrupted", err=True)
    return code if isinstance(code, int) else 0


def _named(arguments: list[str]) -> typer.Typer:
    """The app with the one command that the arguments begin with, or whole. Typer works out the parameters of every command before it
    looks which is meant, a fifth of what a short command takes."""
    chosen = copy.copy(app)
    chosen.registered_commands = [item for item in app.registered_commands if [item.name] == arguments[:1]]
    chosen.registered_groups = [item for item in app.registered_groups if [item.name] == arguments[:1]]
    return chosen if chosen.registered_commands or chosen.registered_groups else app


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the command line, and what lists its words. A command that was given none is answered with that list."""
    said = error.format_message()
    if said.startswith("Usage: "):
        return said
    where = getattr(getattr(error, "ctx", None), "command_path", NAME)
    told = " ".join(said.split()).replace("Value error, ", "").rstrip(".")
    return f"error: {told}{'' if told.endswith('?') else '.'} See: {where} --help"


def sentence_of(error: Exception) -> str | None:
    """The message of an error that is ours (or the command line's own), None for a bug, which keeps its traceback."""
    from agent.errors import AgentError
    from cluster.errors import ClusterError
    from guardrails.errors import GuardrailsError
    from oncall.errors import OncallError

    if isinstance(error, typer.TyperException):
        return _usage(error)
    if isinstance(error, OncallError | AgentError | ClusterError | GuardrailsError):
        return f"error: {error}"
    if isinstance(error, ExceptionGroup):
        sentences = [sentence_of(inner) for inner in error.exceptions]
        told = dict.fromkeys(sentence for sentence in sentences if sentence is not None)
        return "\n".join(told) if None not in sentences else None
    return None
