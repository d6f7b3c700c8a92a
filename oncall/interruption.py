"""What Ctrl-C in the middle of a change leaves behind, said to whoever pressed it. It undoes nothing: ledger and lease do that work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def change_under_way(what: str, look: str, finish: str) -> Iterator[None]:
    """Around a command that may be sending a change: an interruption says how to look (`look`) and how to go on (`finish`)."""
    try:
        yield
    except KeyboardInterrupt:
        from guardrails.claim import LEASE_SECONDS

        typer.echo(
            f"{what} was interrupted. A change that was sent already stays, and none is sent twice. Look: {look}. "
            f"After {LEASE_SECONDS} seconds '{finish}' checks what happened and finishes it.",
            err=True,
        )
        raise
