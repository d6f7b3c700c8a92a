"""`smokejumper config`: what is set, and by what."""

from __future__ import annotations

import typer

from oncall.invocation import Invocation

app = typer.Typer(help="The configuration.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The configuration."""


@app.command("show")
def show(context: typer.Context) -> None:
    """Every setting, its value (secrets masked) and where it came from."""
    from oncall.settings import origins

    invocation: Invocation = context.obj
    for origin in origins(invocation.settings, invocation.flags, invocation.file):
        typer.echo(f"{origin.path}\t{origin.value}\t{origin.source}")
