"""`--log-driver journald`: systemd's journal by its native protocol.

One datagram an entry: `NAME=value` lines, or for a value with newlines the name, its length as 64-bit little-endian number
and the value. What is too large for a datagram goes in a sealed memfd.
(systemd.io/JOURNAL_NATIVE_PROTOCOL)
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import secrets
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sampan.logs.jsonfile import timestamp

if TYPE_CHECKING:
    from sampan.logs.remote.interface import Line, Origin

OPTIONS = frozenset[str]()
SOCKET = "/run/systemd/journal/socket"
_ERROR, _INFORMATION = 3, 6


def check(options: Mapping[str, str]) -> None:
    """There is nothing to check."""


def field_name(name: str) -> str:
    """A label's or variable's name as the journal takes it: capitals, digits and underscores, no underscore first."""
    upper = "".join(
        character.upper() if character.isascii() and character.isalnum() else "_" for character in name
    )
    return upper.lstrip("_")


class JournaldSink:
    """See `interface.Sink`."""

    def __init__(self, options: Mapping[str, str], origin: Origin, path: str = SOCKET) -> None:
        self._path = path
        self._ordinal = 0
        self._socket: socket.socket | None = None
        self._fields = {
            "CONTAINER_ID": origin.container_id[:12],
            "CONTAINER_ID_FULL": origin.container_id,
            "CONTAINER_NAME": origin.container_name,
            "CONTAINER_TAG": origin.tag,
            "IMAGE_NAME": origin.image_name,
            "SYSLOG_IDENTIFIER": origin.tag,
            "CONTAINER_LOG_EPOCH": secrets.token_hex(32),
            **{field_name(name): value for name, value in origin.attributes.items()},
        }

    def connect(self) -> None:
        self.close()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.connect(self._path)
        except OSError as error:
            sock.close()
            raise OSError(error.errno, "journald is not enabled on this host") from error
        self._socket = sock

    def send(self, lines: Sequence[Line]) -> None:
        if self._socket is None:
            raise OSError("not connected")
        for line in lines:
            self._ordinal += 1
            self._send_entry(self._socket, self._entry(line))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _entry(self, line: Line) -> bytes:
        fields = {
            **self._fields,
            "PRIORITY": str(_ERROR if line.stream == "stderr" else _INFORMATION),
            "SYSLOG_TIMESTAMP": timestamp(line.time_ns),
            "CONTAINER_LOG_ORDINAL": str(self._ordinal),
        }
        if line.part is not None:
            fields["CONTAINER_PARTIAL_ID"] = line.part.id
            fields["CONTAINER_PARTIAL_ORDINAL"] = str(line.part.ordinal)
            fields["CONTAINER_PARTIAL_LAST"] = "true" if line.part.last else "false"
            if not line.part.last:
                fields["CONTAINER_PARTIAL_MESSAGE"] = "true"
        parts = [_field(name, value.encode("utf-8", "surrogateescape")) for name, value in fields.items()]
        return b"".join([*parts, _field("MESSAGE", line.text)])

    @staticmethod
    def _send_entry(sock: socket.socket, entry: bytes) -> None:
        try:
            sock.send(entry)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            _send_in_file(sock, entry)


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def _send_in_file(sock: socket.socket, entry: bytes) -> None:
    file = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(entry)
        while view:
            view = view[os.write(file, view) :]
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
        sock.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
    finally:
        os.close(file)
