"""How a registry fails, by kind; each says whether trying again can help.

Messages follow containerd's and Go's, because people search for those.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sampan.errors import (
    DataLoss,
    Forbidden,
    NotFound,
    SampanError,
    SystemFailure,
    TooManyRequests,
    Unauthorized,
)
from sampan.registry.ratelimit import RateLimit


class ConnectionFailed(SystemFailure):
    """No answer: refused, reset, silent for too long, no such host. Trying again can help."""


class CertificateRefused(SystemFailure):
    """The server's certificate is not trusted. Trying again cannot help."""


class BrokenAnswer(SystemFailure):
    """The server broke the protocol: a redirect loop, an absurd header, a body that is not what was announced."""


class WrongContent(DataLoss):
    """A document or blob is not what its digest says."""


class ServerError(SystemFailure):
    """A 5xx. Trying again can help."""


class UnexpectedStatus(SystemFailure):
    """A status that the protocol has no meaning for here."""


class RateLimited(TooManyRequests):
    """A 429; `limit` says what the server told about it."""

    def __init__(self, message: str, limit: RateLimit) -> None:
        super().__init__(message)
        self.limit = limit


RETRIED = (ConnectionFailed, ServerError, RateLimited)
"""What another attempt can cure."""


class ErrorItem(msgspec.Struct):
    """One entry of the `errors` of a registry's answer (distribution spec, "Error codes")."""

    code: str = ""
    message: str = ""
    detail: object = None

    def text(self) -> str:
        """As Docker writes it: `manifest unknown: manifest unknown`."""
        label = self.code.lower().replace("_", " ") or "unknown"
        return f"{label}: {self.message}" if self.message else label


class _Errors(msgspec.Struct):
    errors: list[ErrorItem] = []


def error_items(body: bytes) -> list[ErrorItem]:
    """The errors that a body lists; nothing for a body of another shape."""
    try:
        return msgspec.json.decode(body, type=_Errors).errors
    except (msgspec.DecodeError, RecursionError):
        return []


def failure_of(
    method: str, url: str, status: int, reason: str, headers: Mapping[str, str], body: bytes
) -> SampanError:
    """The error for an answer whose status says that something is wrong. `url` carries no credentials."""
    items = error_items(body)
    told = ", ".join(item.text() for item in items[:5])[:1000]
    where = f"unexpected status from {method} request to {url}: {status} {reason}".rstrip()
    message = f"{told}: {where}" if told else where
    if status == 401:
        return Unauthorized(told or f"unauthorized: {where}")
    if status == 403:
        return Forbidden(told or f"denied: {where}")
    if status == 404:
        return NotFound(told or where)
    if status == 429:
        limit = RateLimit.of(headers)
        return RateLimited(f"{told or 'toomanyrequests: too many requests'}{limit.describe()}", limit)
    if status >= 500:
        return ServerError(message)
    return UnexpectedStatus(message)
