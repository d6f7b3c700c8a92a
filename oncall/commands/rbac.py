"""`smokejumper rbac` and `smokejumper fence`: what an administrator applies to a cluster, printed. Nothing is applied from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oncall.roles import Document

RBAC_HEAD = "Printed by `smokejumper rbac`: derived from what the code reads and writes. Apply: kubectl apply --server-side -f FILE."
FENCE_HEAD = "Printed by `smokejumper fence`. Kubernetes 1.30 or newer. Apply: kubectl apply --server-side -f FILE."


def rbac(
    context: typer.Context,
    namespace: Annotated[
        list[str] | None, typer.Option("-n", "--namespace", help="Confine everything to this namespace; may be repeated.")
    ] = None,
    configmaps: Annotated[bool, typer.Option(help="Whether ConfigMaps may be read, and edited under approval.")] = True,
    callers: Annotated[
        bool, typer.Option("--callers", help="Also an account for mcp --http, which reads as whoever calls: it may impersonate anybody.")
    ] = False,
    groups: Annotated[
        str | None, typer.Option(metavar="LIST", help="Only for tools of these groups; default: mcp.groups, or else all.")
    ] = None,
) -> None:
    """Print the accounts and roles that a cluster needs: a reader, an executor, and an account that may only try."""
    from guardrails.action import target
    from mcp_server.errors import ToolRefusal
    from mcp_server.groups import GROUPS
    from mcp_server.ownership import parse_groups
    from oncall.errors import UsageError
    from oncall.roles import documents

    try:
        chosen = parse_groups(groups) if groups is not None else context.obj.settings.mcp.groups or GROUPS
    except ToolRefusal as error:
        raise UsageError(f"--groups: {error}.") from error

    for name in namespace or ():
        # The one check of a namespace's name; the rest of the target is of no interest.
        target("Pod", name, "x")
    _print(RBAC_HEAD, documents(namespace or (), configmaps=configmaps, callers=callers, groups=chosen))


def fence(
    max_replicas: Annotated[int, typer.Option(min=0, max=999_999, help="Nothing is scaled above this.")] = 100,
    protect: Annotated[list[str] | None, typer.Option(help="Namespace that is never written to; may be repeated.")] = None,
    paused: Annotated[bool, typer.Option(help="Let our accounts try, and write nothing.")] = False,
) -> None:
    """Print the admission policies that bound our accounts inside the cluster, and their parameters."""
    from guardrails.action import target
    from oncall.fence import documents

    for name in protect or ():
        target("Pod", name, "x")
    _print(FENCE_HEAD, documents(max_replicas=max_replicas, protected=protect or (), paused=paused))


def _print(head: str, documents: Iterable[Document]) -> None:
    typer.echo(text(head, documents), nl=False)


def text(head: str, documents: Iterable[Document]) -> str:
    """The documents as one YAML file with a heading."""
    import yaml

    # Without aliases: kubectl reads them, people should not have to.
    dumper = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    bodies = (yaml.dump(document, Dumper=dumper, sort_keys=False, width=140, allow_unicode=True) for document in documents)
    return f"# {head}\n" + "---\n".join(bodies)
