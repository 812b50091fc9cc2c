"""Logs of daemon and commands: JSON lines in a file, one event a line."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

_LOG_BYTES = 20_000_000
_LOGS_KEPT = 5


def start_log(path: Path) -> None:
    """Events from now on are appended to `path`, which is rotated by size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(
        path, maxBytes=_LOG_BYTES, backupCount=_LOGS_KEPT, encoding="utf-8", errors="backslashreplace"
    )
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("tomovault")
    for earlier in log.handlers:
        earlier.close()
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
