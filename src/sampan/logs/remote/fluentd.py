"""`--log-driver fluentd`: Fluentd's forward protocol in message mode, over TCP, TLS and Unix sockets."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.errors import InvalidParameter
from sampan.logs.remote import address as addresses
from sampan.names.times import parse_duration
from sampan.names.units import parse_memory

if TYPE_CHECKING:
    from sampan.logs.remote.interface import Line, Origin

OPTIONS = frozenset(
    "address async async-reconnect-interval buffer-limit max-retries read-timeout request-ack"  # noqa: SIM905
    " retry-wait sub-second-precision write-timeout".split()
)
OPTIONS = frozenset(f"fluentd-{name}" for name in OPTIONS)
_HOST, _PORT = "127.0.0.1", 24224
_BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False, "": False}
_EVENT_TIME = 0
_ACK_TIMEOUT = 30.0


def check(options: Mapping[str, str]) -> None:
    """Raise `InvalidParameter` for what dockerd refuses."""
    _address(options)
    if limit := options.get("fluentd-buffer-limit"):
        parse_memory(limit)
    retries = options.get("fluentd-max-retries", "")
    if retries and not (retries.isascii() and retries.isdigit()):
        raise InvalidParameter(f'strconv.ParseUint: parsing "{retries}": invalid syntax')
    if retries and int(retries) >= 1 << 31:
        raise InvalidParameter("invalid fluentd-max-retries: value out of range")
    for name in ("fluentd-async", "fluentd-request-ack", "fluentd-sub-second-precision"):
        _boolean(options, name)
    if wait := options.get("fluentd-retry-wait"):
        _duration("fluentd-retry-wait", wait)
    if interval := options.get("fluentd-async-reconnect-interval"):
        nanoseconds = _duration("fluentd-async-reconnect-interval", interval)
        if nanoseconds and not 100_000_000 <= nanoseconds <= 10_000_000_000:
            raise InvalidParameter(
                f'invalid value for fluentd-async-reconnect-interval: value ("{interval}") must be between 100ms and 10s'
            )
    for name in ("fluentd-read-timeout", "fluentd-write-timeout"):
        if (timeout := options.get(name)) and _duration(name, timeout) < 0:
            raise InvalidParameter(
                f"invalid value for {name}: value must be a duration that is non-negative: {timeout}"
            )


def is_async(options: Mapping[str, str]) -> bool:
    """The container starts whether or not there is a Fluentd."""
    return _boolean(options, "fluentd-async")


def _duration(name: str, text: str) -> int:
    try:
        return parse_duration(text)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid value for {name}: {error}") from None


def _boolean(options: Mapping[str, str], name: str) -> bool:
    text = options.get(name, "")
    if text.lower() not in _BOOLEANS:
        raise InvalidParameter(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return _BOOLEANS[text.lower()]


def _address(options: Mapping[str, str]) -> addresses.Address:
    text = options.get("fluentd-address", "")
    if not text:
        return addresses.Address("tcp", _HOST, _PORT)
    try:
        found = addresses.parse(text if "://" in text else f"tcp://{text}", _PORT)
        if found.scheme == "unix":
            if not found.path.strip("/"):
                raise InvalidParameter("path is empty")
            return found
        if found.scheme not in ("tcp", "tls"):
            raise InvalidParameter(f"unsupported scheme: '{found.scheme}'")
        if found.path:
            raise InvalidParameter("should not contain a path element")
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid fluentd-address ({text}): {error}") from None
    return found._replace(host=found.host or _HOST)


class FluentdSink:
    """See `interface.Sink`."""

    def __init__(self, options: Mapping[str, str], origin: Origin) -> None:
        self._address = _address(options)
        self._acknowledge = _boolean(options, "fluentd-request-ack")
        self._precise = _boolean(options, "fluentd-sub-second-precision")
        self._origin = origin
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        self.close()
        tls = ssl.create_default_context() if self._address.scheme == "tls" else None
        self._socket = addresses.connect(self._address, tls=tls)

    def send(self, lines: Sequence[Line]) -> None:
        if self._socket is None:
            raise OSError("not connected")
        if not self._acknowledge:
            self._socket.sendall(b"".join(self._message(line, {}) for line in lines))
            return
        for line in lines:
            chunk = base64.b64encode(os.urandom(16)).decode()
            self._socket.sendall(self._message(line, {"chunk": chunk}))
            self._await_acknowledgement(chunk)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _message(self, line: Line, option: dict[str, str]) -> bytes:
        record = {
            "container_id": self._origin.container_id,
            "container_name": f"/{self._origin.container_name}",
            "source": line.stream,
            "log": line.text.decode("utf-8", "replace"),
            **self._origin.attributes,
        }
        if line.part is not None:
            record["partial_message"] = "true"
            record["partial_id"] = line.part.id
            record["partial_ordinal"] = str(line.part.ordinal)
            record["partial_last"] = "true" if line.part.last else "false"
        seconds, nanoseconds = divmod(line.time_ns, 1_000_000_000)
        time: Any = seconds
        if self._precise:
            time = msgspec.msgpack.Ext(_EVENT_TIME, struct.pack(">II", seconds & 0xFFFFFFFF, nanoseconds))
        return msgspec.msgpack.encode([self._origin.tag, time, record, option])

    def _await_acknowledgement(self, chunk: str) -> None:
        assert self._socket is not None
        self._socket.settimeout(_ACK_TIMEOUT)
        answer = b""
        while True:
            data = self._socket.recv(4096)
            if not data:
                raise ConnectionResetError("fluentd closed the connection before it acknowledged")
            answer += data
            try:
                found = msgspec.msgpack.decode(answer)
            except msgspec.DecodeError:
                continue
            if not isinstance(found, dict) or found.get("ack") != chunk:
                raise OSError("fluentd acknowledged something else")
            return
