"""The one place where an error becomes an HTTP status."""

from __future__ import annotations

import json
import logging
import os

import msgspec
from aiohttp import web

from sampan import errors

log = logging.getLogger(__name__)

_STATUS: list[tuple[type[errors.SampanError], int]] = [
    (errors.NotModified, 304),
    (errors.InvalidParameter, 400),
    (errors.Unauthorized, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooManyRequests, 429),
    (errors.NotSupported, 501),
    (errors.Unavailable, 503),
    (errors.SampanError, 500),
]


class ErrorBody(msgspec.Struct):
    """The body of every failed answer of the Engine API (`ErrorResponse`)."""

    message: str


def status_of(error: BaseException) -> int:
    """Docker's HTTP status for an error."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 500


def message_of(error: BaseException) -> str:
    """What the client is told. An unforeseen error is named by its type as well, and belongs in the engine's log."""
    if isinstance(error, errors.SampanError):
        return str(error)
    if errors.no_room(error):
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return f"{where}{errors.reason_of(error)}"
    return f"{type(error).__name__}: {error}"


def error_response(error: BaseException) -> web.Response:
    """The whole answer for a failed request; logs what nobody foresaw."""
    status = status_of(error)
    if errors.no_room(error):
        log.error("%s", message_of(error))
    elif not isinstance(error, errors.SampanError):
        log.error("unforeseen error", exc_info=error)
    if status == 304:
        return web.Response(status=304)
    # For our own command: one line for a person beside Docker's message.
    reason = str(getattr(error, "reason", ""))
    return web.Response(
        status=status,
        body=msgspec.json.encode(ErrorBody(message_of(error))) + b"\n",
        content_type="application/json",
        headers={"Sampan-Reason": json.dumps(reason)} if reason else None,
    )
