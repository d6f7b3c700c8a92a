"""`smokejumper people`: who may ask and who may approve."""

from __future__ import annotations

from typing import Annotated

import typer

from oncall.invocation import Invocation

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
    token = people(invocation.settings).add(
        name,
        group or (),
        kubernetes_user=kubernetes_user,
        kubernetes_groups=kubernetes_group or (),
        os_users=os_user or (),
    )
    typer.echo(token)
    typer.echo(f"This is {name}'s token; it is shown once. They approve with it in SMOKEJUMPER_TOKEN or at the prompt.", err=True)


@app.command("list")
def listing(context: typer.Context) -> None:
    """Who is in the directory. Tokens are stored as hashes and cannot be shown."""
    from oncall.desk import people

    invocation: Invocation = context.obj
    for person in people(invocation.settings).people():
        accounts = f"\taccounts: {', '.join(person.os_users)}" if person.os_users else ""
        typer.echo(f"{person.name}\t{', '.join(person.groups) or 'no group'}{accounts}")


@app.command("remove")
def remove(context: typer.Context, name: str) -> None:
    """Remove a person; their approvals stop counting at once."""
    from oncall.desk import people

    invocation: Invocation = context.obj
    people(invocation.settings).remove(name)
    typer.echo(f"{name} is removed.")
