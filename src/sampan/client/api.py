"""Requests to an engine: connections kept alive, the API version agreed on, errors by kind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sampan import errors
from sampan.client.endpoint import resolve
from sampan.client.http import Connection, Response, quote
from sampan.client.streams import RawStream
from sampan.client.wire import open_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sampan.client.autostart import EngineCommand
    from sampan.client.endpoint import Endpoint, TlsFiles

NEWEST_VERSION = (1, 51)
OLDEST_VERSION = (1, 24)
_PINGS = 3
_GONE = (ConnectionError, EOFError, FileNotFoundError)

_KINDS: dict[int, type[errors.SampanError]] = {
    304: errors.NotModified,
    400: errors.InvalidParameter,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    429: errors.TooManyRequests,
    500: errors.SystemFailure,
    501: errors.NotSupported,
    503: errors.Unavailable,
}


class EngineAnswer(Exception):
    """The cause of an error that the engine reported, as opposed to one that the client found itself."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status
        self.reason = reason
        """One line for a person, from a Sampan engine whose container could not be started."""


class Api:
    """The Engine API of one engine. Not for concurrent use by several threads: each takes its own."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        start: Callable[[], None] | None = None,
        version: tuple[int, int] | None = None,
    ) -> None:
        """`start` is called when nobody answers at the endpoint; afterwards it must."""
        self.endpoint = endpoint
        self._start = start
        self._version = version
        self._idle: list[Connection] = []

    @property
    def version(self) -> tuple[int, int]:
        """The newest version that both sides speak."""
        if self._version is None:
            ping = self._ping()
            offered = parse_version(ping.headers.get("api-version", "1.24"))
            self._version = min(NEWEST_VERSION, offered)
            if self._version < OLDEST_VERSION:
                raise errors.NotSupported(f"the engine speaks API {offered}; the oldest supported is 1.24")
        return self._version

    def _ping(self) -> Response:
        """The first request, tried again when the engine that took the connection was just leaving: nothing can be done twice."""
        for attempt in range(_PINGS):
            try:
                answer = self._send("HEAD", "/_ping", {}, None)
                answer.read()
                return answer
            except (errors.Unavailable, ConnectionError) as error:
                gone = isinstance(error, _GONE) or isinstance(error.__cause__, _GONE)
                if self._start is None or not gone or attempt == _PINGS - 1:
                    raise
        raise AssertionError("unreachable")

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request; `body` is bytes, an iterable of bytes, or anything that JSON can hold.

        Query values: None is left out, booleans become 1 and 0, a list is repeated, a mapping becomes JSON. Raises
        the kind of `sampan.errors` that the status stands for.
        """
        response = self._send(method, self._target(path, query), *_encode(body, headers))
        _raise_for(response)
        return response

    def call(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """A request whose answer is JSON, or nothing (None)."""
        return self.request(method, path, query, body).json()

    def hijack(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> RawStream:
        """A request that turns its connection into a raw stream of both directions."""
        encoded, payload = _encode(body, headers)
        encoded |= {"Connection": "Upgrade", "Upgrade": "tcp"}
        response = self._send(method, self._target(path, query), encoded, payload)
        _raise_for(response)
        response.on_finish = None
        return RawStream(response)

    def _target(self, path: str, query: Mapping[str, Any] | None) -> str:
        major, minor = self.version
        return f"/v{major}.{minor}{path}" + encode_query(query or {})

    def _send(
        self, method: str, target: str, headers: dict[str, str], body: bytes | Iterable[bytes] | None
    ) -> Response:
        connection = self._connection()
        try:
            response = connection.request(method, target, headers, body)
        except BaseException:
            connection.close()
            raise
        if not response.upgraded:
            response.on_finish = self._idle.append
        return response

    def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.wire.is_stale():
                return connection
            connection.close()
        try:
            return Connection(open_wire(self.endpoint))
        except errors.Unavailable as error:
            cause = error.__cause__
            if self._start is None or not isinstance(cause, (FileNotFoundError, ConnectionRefusedError)):
                raise
        self._start()
        return Connection(open_wire(self.endpoint))

    def close(self) -> None:
        """Close idle connections; streams that are open stay so."""
        while self._idle:
            self._idle.pop().close()


def open_api(
    host: str | None = None,
    *,
    context: str | None = None,
    tls: TlsFiles | None = None,
    command: EngineCommand | None = None,
) -> Api:
    """The API of the engine that `sampan.connect` finds with the same arguments."""
    endpoint = resolve(host, context=context, tls=tls)
    if command is None and not endpoint.is_default:
        return Api(endpoint)

    def start() -> None:
        from sampan.client.autostart import EngineCommand, ensure_engine

        ensure_engine(endpoint, command or EngineCommand())

    return Api(endpoint, start=start)


def parse_version(text: str) -> tuple[int, int]:
    """
    >>> parse_version("1.44")
    (1, 44)
    """
    major, _, minor = text.strip().partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise errors.InvalidParameter(f"malformed API version: {text!r}")
    return int(major), int(minor)


def encode_query(query: Mapping[str, Any]) -> str:
    """
    >>> encode_query({"all": True, "filters": {"name": ["a"]}, "t": None, "names": ["x", "y"]})
    '?all=1&filters=%7B%22name%22%3A%5B%22a%22%5D%7D&names=x&names=y'
    """
    pairs = []
    for name, value in query.items():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if item is None:
                continue
            if isinstance(item, bool):
                item = int(item)
            elif isinstance(item, dict):
                item = json.dumps(item, separators=(",", ":"))
            pairs.append(f"{quote(name)}={quote(str(item))}")
    return "?" + "&".join(pairs) if pairs else ""


def _encode(
    body: Any, headers: Mapping[str, str] | None
) -> tuple[dict[str, str], bytes | Iterable[bytes] | None]:
    encoded = dict(headers or {})
    if body is None:
        return encoded, None
    if isinstance(body, bytes):
        encoded.setdefault("Content-Type", "application/x-tar")
        return encoded, body
    if isinstance(body, (dict, list)):
        encoded["Content-Type"] = "application/json"
        return encoded, json.dumps(body).encode()
    encoded.setdefault("Content-Type", "application/x-tar")
    return encoded, body


def _raise_for(response: Response) -> None:
    """Docker's message under the kind of its status; nothing for a success."""
    if response.status < 300:
        return
    body = response.read()
    message = body.decode("utf-8", "replace").strip()
    try:
        parsed = json.loads(message) if message.startswith("{") else None
    except ValueError:
        parsed = None
    if isinstance(parsed, dict) and isinstance(parsed.get("message"), str):
        message = parsed["message"].strip()
    kind = _KINDS.get(response.status)
    if kind is None:
        kind = errors.InvalidParameter if response.status < 500 else errors.SystemFailure
    raise kind(message or f"the engine answered with status {response.status}") from EngineAnswer(
        response.status, str(json.loads(response.headers.get("sampan-reason") or '""'))
    )
