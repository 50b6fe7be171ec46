"""The engine's own log: to standard error, as text in logrus' key=value form or as JSON, at dockerd's levels."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
}
_NAMES = {"WARNING": "warning", "CRITICAL": "fatal"}


def configure(level: str, form: str, debug: bool) -> None:
    """Log at `level` (panic|fatal|error|warn|info|debug|trace), `debug` wins; `form` is text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level, debug)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def set_level(level: str, debug: bool) -> None:
    """Change the level of a running engine (SIGHUP)."""
    logging.getLogger().setLevel(logging.DEBUG if debug else _LEVELS[level.lower()])


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    )


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = _NAMES.get(record.levelname, record.levelname.lower())
        line = (
            f'time="{_time(record)}" level={level} msg={json.dumps(record.getMessage())} module={record.name}'
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": _NAMES.get(record.levelname, record.levelname.lower()),
            "msg": record.getMessage(),
            "module": record.name,
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry)
