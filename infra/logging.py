"""Logs: one structured line an event, to standard error; no person, no position, no secret ever in one."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from core.settings import Settings

FORBIDDEN_KEYS = frozenset({"lat", "lon", "latitude", "longitude", "position", "token", "password", "secret", "pin"})


def drop_forbidden(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Last guard: a key that would betray a place or a secret never reaches a line."""
    for key in FORBIDDEN_KEYS & event.keys():
        event[key] = "(withheld)"
    return event


def configure_logging(settings: Settings, service: str) -> None:
    """Set up structlog for this process; `text` for people, `json` for machines."""
    level = getattr(logging, settings.log_level.upper(), logging.INFO)
    text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    # Tracebacks without local variables: those hold positions, passwords and tokens.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    traceless = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
    renderer: Any = plain if text else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            drop_forbidden,
            traceless if not text else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(
        level=max(level, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )
