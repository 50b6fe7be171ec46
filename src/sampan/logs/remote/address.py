"""Addresses in log options, and connections to them, with errors in the words of dockerd's."""

from __future__ import annotations

import os
import socket
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from sampan.errors import InvalidParameter

TIMEOUT = 10.0
"""Seconds for a connection, and for a peer that takes nothing."""


class Address(NamedTuple):
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return (
            self.path or f"[{self.host}]:{self.port}"
            if ":" in self.host
            else self.path or f"{self.host}:{self.port}"
        )


def parse(text: str, default_port: int | None = None) -> Address:
    """`tcp://host:port`, `unix:///path`. Raises `InvalidParameter`, also for a port that is missing where none is default."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidParameter(f'parse "{text}": {error}') from None
    if parts.scheme in ("unix", "unixgram"):
        return Address(parts.scheme, path=parts.path)
    if port is None:
        if default_port is None:
            raise InvalidParameter(f"address {parts.netloc}: missing port in address")
        port = default_port
    return Address(parts.scheme, parts.hostname or "", port, parts.path)


def connect(address: Address, *, tls: ssl.SSLContext | None = None) -> socket.socket:
    """A connected stream or datagram socket. Raises OSError saying what was dialled."""
    try:
        if address.path and address.scheme in ("unix", "unixgram"):
            kind = socket.SOCK_DGRAM if address.scheme == "unixgram" else socket.SOCK_STREAM
            return _connected(socket.socket(socket.AF_UNIX, kind), address.path)
        if address.scheme == "udp":
            family, _, _, _, target = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)[
                0
            ]
            return _connected(socket.socket(family, socket.SOCK_DGRAM), target)
        plain = socket.create_connection((address.host, address.port), TIMEOUT)
        if tls is None:
            return plain
        try:
            return tls.wrap_socket(plain, server_hostname=address.host)
        except BaseException:
            plain.close()
            raise
    except OSError as error:
        network = address.scheme.replace("tcp+tls", "tcp").replace("tls", "tcp")
        raise _dial_error(network, address, error) from error


def _connected(sock: socket.socket, target: object) -> socket.socket:
    try:
        sock.settimeout(TIMEOUT)
        sock.connect(target)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock


def _dial_error(network: str, address: Address, error: OSError) -> OSError:
    if isinstance(error, socket.gaierror):
        return OSError(error.errno, f"dial {network}: lookup {address.host}: no such host")
    if isinstance(error, ssl.SSLError):
        return OSError(error.errno, f"tls: {error.reason or error}")
    reason = "i/o timeout" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0).lower()
    return OSError(error.errno, f"dial {network} {address}: connect: {reason}")
