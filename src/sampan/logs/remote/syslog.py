"""`--log-driver syslog`: RFC 3164, RFC 5424 and the C library's format, over UDP, TCP, TLS and Unix sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter
from sampan.logs.remote import address as addresses

if TYPE_CHECKING:
    from sampan.logs.remote.interface import Line, Origin

OPTIONS = frozenset(
    "syslog-address syslog-facility syslog-format"  # noqa: SIM905
    " syslog-tls-ca-cert syslog-tls-cert syslog-tls-key syslog-tls-skip-verify".split()
)
_PORT = 514
_FACILITIES = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp . . . .".split()  # noqa: SIM905
_FACILITIES += [f"local{number}" for number in range(8)]
_DAEMON = 3
_FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_LOCAL_SOCKETS = ("/dev/log", "/var/run/syslog", "/var/run/log")
_ERROR, _INFORMATION = 3, 6
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()  # noqa: SIM905


def check(options: Mapping[str, str]) -> None:
    """Raise `InvalidParameter` for what dockerd refuses."""
    _address(options)
    _facility(options)
    if options.get("syslog-format", "") not in _FORMATS:
        raise InvalidParameter("Invalid syslog format")


def _address(options: Mapping[str, str]) -> addresses.Address | None:
    text = options.get("syslog-address", "")
    if not text:
        return None
    found = addresses.parse(text, _PORT)
    if found.scheme in ("unix", "unixgram"):
        if not os.path.exists(found.path):
            raise InvalidParameter(f"stat {found.path}: no such file or directory")
    elif found.scheme not in ("udp", "tcp", "tcp+tls"):
        raise InvalidParameter(f"unsupported scheme: '{found.scheme}'")
    return found


def _facility(options: Mapping[str, str]) -> int:
    text = options.get("syslog-facility", "")
    if not text:
        return _DAEMON
    if text != "." and text in _FACILITIES:
        return _FACILITIES.index(text)
    if text.isascii() and text.isdigit() and int(text) <= 23:
        return int(text)
    raise InvalidParameter("invalid syslog facility")


class SyslogSink:
    """See `interface.Sink`."""

    def __init__(self, options: Mapping[str, str], origin: Origin) -> None:
        self._options = options
        self._origin = origin
        self._address = _address(options)
        self._facility = _facility(options)
        self._format = options.get("syslog-format", "")
        self._secure = self._address is not None and self._address.scheme == "tcp+tls"
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        self.close()
        if self._address is None:
            self._socket = _local()
        else:
            tls = _tls(self._options) if self._secure else None
            self._socket = addresses.connect(self._address, tls=tls)

    def send(self, lines: Sequence[Line]) -> None:
        if self._socket is None:
            raise OSError("not connected")
        messages = [self._message(line) for line in lines if line.text]
        if self._socket.type == socket.SOCK_STREAM:
            self._socket.sendall(b"".join(messages))
            return
        for message in messages:
            with contextlib.suppress(ConnectionRefusedError):  # UDP: nobody listens at the moment
                self._socket.send(message)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _message(self, line: Line) -> bytes:
        severity = _ERROR if line.stream == "stderr" else _INFORMATION
        head = f"<{self._facility << 3 | severity}>"
        tag, pid = self._origin.tag, os.getpid()
        seconds, nanoseconds = divmod(line.time_ns, 1_000_000_000)
        local = time.localtime(seconds)
        if self._format.startswith("rfc5424"):
            fraction = f".{nanoseconds // 1000:06d}" if self._format == "rfc5424micro" else ""
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", local) + fraction + _zone(local)
            head += f"1 {stamp} {self._origin.hostname} {tag} {pid} {tag} - "
        else:
            # Go's time.Stamp; the C library's names of months depend on the locale.
            stamp = f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2d} {time.strftime('%H:%M:%S', local)}"
            host = f"{self._origin.hostname} " if self._format == "rfc3164" else ""
            head += f"{stamp} {host}{tag}[{pid}]: "
        message = head.encode() + line.text + b"\n"
        if self._secure and self._format.startswith("rfc5424"):
            return b"%d %b" % (len(message), message)  # RFC 5425: octet counting
        return message


def _zone(local: time.struct_time) -> str:
    offset = local.tm_gmtoff
    if not offset:
        return "Z"
    sign, minutes = "-" if offset < 0 else "+", abs(offset) // 60
    return f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"


def _local() -> socket.socket:
    for path in _LOCAL_SOCKETS:
        for scheme in ("unixgram", "unix"):
            try:
                return addresses.connect(addresses.Address(scheme, path=path))
            except OSError:
                continue
    raise OSError("Unix syslog delivery error")


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("syslog-tls-ca-cert") or None)
    if "syslog-tls-skip-verify" in options:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate := options.get("syslog-tls-cert"):
        context.load_cert_chain(certificate, options.get("syslog-tls-key") or None)
    return context
