"""Our own logging: structlog on stderr, JSON where nobody watches, bound with cluster and incident. Diagnoses never go here.

Everybody logs through the standard library; structlog formats, and is imported with the first record, since most commands log none.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TextIO

from guardrails.redact import present

if TYPE_CHECKING:
    import structlog

TEXT_LIMIT = 20_000
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_bound: ContextVar[Mapping[str, str]] = ContextVar("bound", default=MappingProxyType({}))


def configure(level: str, stream: TextIO | None = None, *, colours: bool | None = None) -> None:
    """Send all records to `stream` (stderr): text on a terminal, one JSON object a line elsewhere."""
    out = stream or sys.stderr
    terminal = out.isatty()
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Formatter(terminal=terminal, colours=terminal if colours is None else colours))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])


def bind(*, cluster: str, incident: str | None = None) -> None:
    """Put the cluster and the incident on every record from here on, in this context."""
    _bound.set({**_bound.get(), "cluster": cluster, **({"incident": incident} if incident else {})})


class _Formatter(logging.Formatter):
    def __init__(self, *, terminal: bool, colours: bool) -> None:
        super().__init__()
        self._terminal, self._colours = terminal, colours
        self._structlog: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._structlog is None:
            self._structlog = _structlog(terminal=self._terminal, colours=self._colours)
        return self._structlog.format(record)


def _structlog(*, terminal: bool, colours: bool) -> logging.Formatter:
    import structlog

    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
        if terminal
        else structlog.processors.JSONRenderer()
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_with_bound, structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _presentable,
            renderer,
        ],
    )


def _with_bound(_logger: Any, _name: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**_bound.get(), **record}


def _presentable(_logger: Any, _name: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Every text redacted and bounded: libraries log what they were given, and a traceback ends in somebody's words."""
    return {key: present(value, TEXT_LIMIT) if isinstance(value, str) else value for key, value in record.items()}
