"""Consoles and progress: results on stdout, everything else on stderr, plain where nobody watches or NO_COLOR is set."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 100_000


def console() -> Console:
    """stdout. Off a terminal it neither wraps nor colours, so that the output can be searched."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False, markup=False)
    return Console(highlight=False, markup=False, width=PLAIN_WIDTH, no_color=True)


@contextmanager
def following(title: str) -> Iterator[Callable[[str], Awaitable[None]]]:
    """A line of progress on stderr while the block runs, with the latest message; nothing where stderr is no terminal."""

    async def silent(message: str) -> None:
        """Nobody watches."""

    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console

    screen = Console(stderr=True, highlight=False, markup=False)
    with screen.status(title) as status:

        async def show(message: str) -> None:
            status.update(f"{title}: {message}")

        yield show
