"""The sockets that clients reach: unix paths, TCP with or without TLS, and descriptors that systemd opened."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from sampan.api.tls import TlsDoor
from sampan.engine.config import EngineConfig
from sampan.errors import InvalidParameter, SystemFailure

log = logging.getLogger(__name__)

ProtocolFactory = Callable[[], asyncio.Protocol]

_FIRST_PASSED_FD = 3


def default_host(config: EngineConfig) -> str:
    """Where an engine listens that was told nothing: a socket beside its run-time files."""
    return f"unix://{config.exec_path / 'engine.sock'}"


class Listeners:
    """The open listening sockets; `close` stops accepting and removes the socket files that this engine made."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._paths: list[tuple[Path, tuple[int, int]]] = []
        self.hosts: list[str] = []

    async def open(self, hosts: list[str], config: EngineConfig, factory: ProtocolFactory) -> None:
        """Listen on every host of the list. Raises `InvalidParameter` or `SystemFailure`; then nothing stays open."""
        try:
            for host in hosts:
                await self._open_one(host, config, factory)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop accepting. Connections that are open stay."""
        for server in self._servers:
            server.close()
        for path, identity in self._paths:
            _unlink_if_ours(path, identity)
        self._servers.clear()
        self._paths.clear()

    async def _open_one(self, host: str, config: EngineConfig, factory: ProtocolFactory) -> None:
        scheme, separator, rest = host.partition("://")
        if not separator:
            scheme, rest = ("unix", host) if host.startswith("/") else ("tcp", host)
        if scheme == "unix":
            await self._open_unix(Path(rest), config, factory)
        elif scheme == "tcp":
            await self._open_tcp(rest, config, factory)
        elif scheme == "fd":
            await self._open_passed(rest, factory)
        else:
            raise InvalidParameter(f'invalid bind address ({host}): unsupported proto: "{scheme}"')
        self.hosts.append(host)

    async def _open_unix(self, path: Path, config: EngineConfig, factory: ProtocolFactory) -> None:
        loop = asyncio.get_running_loop()
        path.parent.mkdir(parents=True, exist_ok=True)
        await _remove_stale_socket(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Bound under a umask that lets nobody in: between bind and chmod no other user may connect.
        previous = os.umask(0o177)
        try:
            listening.bind(str(path))
        except OSError as error:
            listening.close()
            raise SystemFailure(f"can't create unix socket {path}: {error.strerror}") from error
        finally:
            os.umask(previous)
        _give_to_group(path, config.group)
        os.chmod(path, 0o660)
        found = path.stat()
        self._paths.append((path, (found.st_dev, found.st_ino)))
        self._servers.append(await loop.create_unix_server(factory, sock=listening, backlog=1024))

    async def _open_tcp(self, address: str, config: EngineConfig, factory: ProtocolFactory) -> None:
        loop = asyncio.get_running_loop()
        parts = urlsplit("//" + address)
        secure = bool(config.tls or config.tlsverify)
        host, port = parts.hostname or "127.0.0.1", parts.port
        if port is None:
            port = 2376 if secure else 2375
        if secure:
            factory = _behind_tls(tls_context(config), factory)
        try:
            server = await loop.create_server(factory, host, port, backlog=1024, reuse_address=True)
        except OSError as error:
            raise SystemFailure(f"listen tcp {host}:{port}: {error.strerror or error}") from error
        self._servers.append(server)

    async def _open_passed(self, name: str, factory: ProtocolFactory) -> None:
        for listening in passed_sockets(name):
            loop = asyncio.get_running_loop()
            if listening.family == socket.AF_UNIX:
                self._servers.append(await loop.create_unix_server(factory, sock=listening))
            else:
                self._servers.append(await loop.create_server(factory, sock=listening))


def _behind_tls(context: ssl.SSLContext, factory: ProtocolFactory) -> ProtocolFactory:
    return lambda: TlsDoor(context, factory)


def has_passed_sockets() -> bool:
    """Whether systemd started this very process with sockets."""
    return os.environ.get("LISTEN_PID") == str(os.getpid())


def passed_sockets(name: str) -> list[socket.socket]:
    """Sockets that systemd passed (sd_listen_fds(3)): all of them, or those of one name or number.

    Raises `InvalidParameter` when there is none.
    """
    if not has_passed_sockets():
        raise InvalidParameter(
            "no sockets found via socket activation: make sure the service was started by systemd"
        )
    count = int(os.environ.get("LISTEN_FDS", "0"))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    chosen = []
    for index in range(count):
        fd = _FIRST_PASSED_FD + index
        wanted = name in ("", "*", str(fd)) or (index < len(names) and names[index] == name)
        if wanted:
            os.set_inheritable(fd, False)
            chosen.append(socket.socket(fileno=fd))
    if not chosen:
        raise InvalidParameter(f"no sockets found via socket activation for fd://{name}")
    return chosen


def tls_context(config: EngineConfig) -> ssl.SSLContext:
    """The server side's TLS, with clients verified when `tlsverify` asks for it. Raises `InvalidParameter`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Over HTTP/2 there is gRPC only: who offers both wants the API. gRPC's clients offer nothing else, and insist on an answer.
    context.set_alpn_protocols(["http/1.1", "h2"])
    certificates = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    cert = config.tlscert or str(certificates / "cert.pem")
    key = config.tlskey or str(certificates / "key.pem")
    ca = config.tlscacert or str(certificates / "ca.pem")
    try:
        context.load_cert_chain(cert, key)
        if config.tlsverify:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise InvalidParameter(
            f"invalid TLS configuration: {error} (cert {cert}, key {key}, CA {ca})"
        ) from error
    return context


async def _remove_stale_socket(path: Path) -> None:
    """Remove the file of an engine that is gone; refuse when one answers."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SystemFailure(f"can't create unix socket {path}: a file is in its place")
    except FileNotFoundError:
        return
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        path.unlink(missing_ok=True)
        return
    writer.close()
    raise SystemFailure(f"can't create unix socket {path}: another engine answers there")


def _give_to_group(path: Path, group: str) -> None:
    if not group:
        return
    try:
        gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        os.chown(path, -1, gid)
    except KeyError:
        if group != "docker":
            raise InvalidParameter(f"group {group} not found") from None
    except PermissionError:
        log.warning("cannot give %s to group %s", path, group)


def _unlink_if_ours(path: Path, identity: tuple[int, int]) -> None:
    """Another engine may have put its socket there since: only the very file that we made is removed."""
    try:
        found = path.lstat()
        if (found.st_dev, found.st_ino) == identity:
            path.unlink()
    except FileNotFoundError:
        pass
