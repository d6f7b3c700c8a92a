"""Our own logging: structlog on stderr, JSON where nobody watches, bound with cluster and incident. Diagnoses never go here."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

from guardrails.redact import present

TEXT_LIMIT = 20_000
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, stream: TextIO | None = None, *, colours: bool | None = None) -> None:
    """Send structlog and the standard library's records to `stream` (stderr): text on a terminal, one JSON object a line elsewhere."""
    out = stream or sys.stderr
    terminal = out.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=terminal if colours is None else colours, exception_formatter=structlog.dev.plain_traceback)
        if terminal
        else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, _presentable, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _presentable,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])


def _presentable(_logger: Any, _name: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Every text redacted and bounded: libraries log what they were given, and a traceback ends in somebody's words."""
    return {key: present(value, TEXT_LIMIT) if isinstance(value, str) else value for key, value in record.items()}


def bind(*, cluster: str, incident: str | None = None) -> None:
    """Put the cluster and the incident on every record from here on, in this context."""
    structlog.contextvars.bind_contextvars(cluster=cluster, **({"incident": incident} if incident else {}))
