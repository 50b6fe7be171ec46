"""`--log-driver gelf`: Graylog's extended format, version 1.1, over UDP (compressed, in chunks) and TCP."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter
from sampan.logs.remote import address as addresses

if TYPE_CHECKING:
    from sampan.logs.remote.interface import Line, Origin

OPTIONS = frozenset(
    "gelf-address gelf-compression-type gelf-compression-level"  # noqa: SIM905
    " gelf-tcp-max-reconnect gelf-tcp-reconnect-delay".split()
)
_DATAGRAM = 1420
_CHUNK = _DATAGRAM - 12
_MOST_CHUNKS = 128
_MAGIC = b"\x1e\x0f"
_ERROR, _INFORMATION = 3, 6


def check(options: Mapping[str, str]) -> None:
    """Raise `InvalidParameter` for what dockerd refuses."""
    address = _address(options)
    for name, value in options.items():
        match name:
            case "gelf-compression-level" | "gelf-compression-type":
                if address.scheme != "udp":
                    raise InvalidParameter("compression is only supported on UDP")
                known = ("gzip", "zlib", "none") if name.endswith("type") else tuple(map(str, range(-1, 10)))
                if value not in known:
                    raise InvalidParameter(
                        f'unknown value "{value}" for log opt "{name}" for gelf log driver'
                    )
            case "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay":
                if address.scheme != "tcp":
                    raise InvalidParameter(f'"{name}" is only valid for TCP')
                if not (value.isascii() and value.isdigit()):
                    raise InvalidParameter(f'"{name}" must be a positive integer')


def _address(options: Mapping[str, str]) -> addresses.Address:
    text = options.get("gelf-address", "")
    if not text:
        raise InvalidParameter("gelf-address is a required parameter")
    if not text.startswith(("udp://", "tcp://")):
        raise InvalidParameter("gelf: endpoint needs to be TCP or UDP")
    try:
        return addresses.parse(text)
    except InvalidParameter:
        raise InvalidParameter("gelf: please provide gelf-address as proto://host:port") from None


class GelfSink:
    """See `interface.Sink`."""

    def __init__(self, options: Mapping[str, str], origin: Origin) -> None:
        self._address = _address(options)
        self._compression = options.get("gelf-compression-type", "gzip")
        self._level = int(options.get("gelf-compression-level", "1"))
        self._origin = origin
        self._extra = _extra(origin)
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        self.close()
        try:
            self._socket = addresses.connect(self._address)
        except OSError as error:
            raise OSError(
                error.errno,
                f"gelf: cannot connect to GELF endpoint: {self._address} {error.strerror or error}",
            ) from error

    def send(self, lines: Sequence[Line]) -> None:
        if self._socket is None:
            raise OSError("not connected")
        messages = [self._message(line) for line in lines if line.text]
        if self._address.scheme == "tcp":
            self._socket.sendall(b"".join(message + b"\0" for message in messages))
            return
        for message in messages:
            for datagram in _datagrams(self._compressed(message)):
                with contextlib.suppress(ConnectionRefusedError):
                    self._socket.send(datagram)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _message(self, line: Line) -> bytes:
        fields = {
            "version": "1.1",
            "host": self._origin.hostname,
            "short_message": line.text.decode("utf-8", "replace"),
            "timestamp": line.time_ns // 1_000_000 / 1000,
            "level": _ERROR if line.stream == "stderr" else _INFORMATION,
            **self._extra,
        }
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    def _compressed(self, message: bytes) -> bytes:
        match self._compression:
            case "gzip":
                return gzip.compress(message, 9 if self._level < 0 else self._level, mtime=0)
            case "zlib":
                return zlib.compress(message, self._level)
            case _:
                return message


def _extra(origin: Origin) -> dict[str, str]:
    seconds, nanoseconds = divmod(origin.created_ns, 1_000_000_000)
    created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"
    extra = {
        "_command": origin.command,
        "_container_id": origin.container_id,
        "_container_name": origin.container_name,
        "_created": created,
        "_image_id": origin.image_id,
        "_image_name": origin.image_name,
        "_tag": origin.tag,
    }
    for name, value in origin.attributes.items():
        extra[name if name.startswith("_") else "_" + name] = value
    return extra


def _datagrams(message: bytes) -> list[bytes]:
    """The message as it is, or cut into chunks of one random id; one that needs too many is dropped, as dockerd does."""
    if len(message) <= _DATAGRAM:
        return [message]
    chunks = [message[at : at + _CHUNK] for at in range(0, len(message), _CHUNK)]
    if len(chunks) > _MOST_CHUNKS:
        return []
    identity = os.urandom(8)
    return [_MAGIC + identity + bytes((number, len(chunks))) + chunk for number, chunk in enumerate(chunks)]
