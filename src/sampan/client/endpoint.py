"""Where an engine is to be found: hosts, contexts and certificates, as Docker's clients name them.

The order is: an explicit host, an explicit context, `DOCKER_HOST`, `DOCKER_CONTEXT`, then Sampan's own socket. The
context that `docker context use` recorded is docker's choice for docker, so it is not followed here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import InvalidParameter, NotFound, NotSupported

if TYPE_CHECKING:
    from collections.abc import Mapping

TLS_PORT, PLAIN_PORT = 2376, 2375


class TlsFiles(NamedTuple):
    """Paths of PEM files; an empty `ca` with `verify` means the system's authorities."""

    ca: str
    cert: str
    key: str
    verify: bool


class Endpoint(NamedTuple):
    """An address that a connection can be opened to."""

    url: str
    """As the user wrote it; messages show this."""
    socket_path: str
    """Path of a unix socket, or empty."""
    address: tuple[str, int]
    """Host and port of a TCP address; ("", 0) for a unix socket."""
    tls: TlsFiles | None
    is_default: bool = False
    """True for the place of the engine that is started on demand, also when DOCKER_HOST names it (`sampan env`)."""


def runtime_directory(environ: Mapping[str, str] | None = None) -> str:
    """Directory of Sampan's sockets: `/run/sampan` for root, `$XDG_RUNTIME_DIR/sampan` for everybody else."""
    environ = os.environ if environ is None else environ
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        return "/run/sampan"
    return os.path.join(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}", "sampan")


def default_host(environ: Mapping[str, str] | None = None) -> str:
    """URL of the engine that `sampan` starts on demand."""
    return "unix://" + runtime_directory(environ) + "/engine.sock"


def resolve(
    host: str | None = None,
    *,
    context: str | None = None,
    tls: TlsFiles | None = None,
    environ: Mapping[str, str] | None = None,
) -> Endpoint:
    """The endpoint that a client is meant to talk to.

    Raises InvalidParameter for a host that is none, NotFound for an unknown context.

    >>> resolve("tcp://10.0.0.5", environ={}).address
    ('10.0.0.5', 2375)
    >>> resolve(environ={"DOCKER_HOST": "unix:///tmp/engine.sock"}).socket_path
    '/tmp/engine.sock'
    """
    environ = os.environ if environ is None else environ
    found = _chosen(host, context, tls, environ)
    return found._replace(is_default=found.url == default_host(environ))


def _chosen(
    host: str | None, context: str | None, tls: TlsFiles | None, environ: Mapping[str, str]
) -> Endpoint:
    """What the user named, in Docker's order: the argument, a context, DOCKER_HOST, the present context, the default."""
    if host:
        return parse(host, tls or tls_from(environ))
    if context and context != "default":
        return _context(context, environ)
    if not context and environ.get("DOCKER_HOST"):
        return parse(environ["DOCKER_HOST"], tls or tls_from(environ))
    chosen = environ.get("DOCKER_CONTEXT", "")
    if not context and chosen and chosen != "default":
        return _context(chosen, environ)
    return parse(default_host(environ), None)


def parse(host: str, tls: TlsFiles | None = None) -> Endpoint:
    """Read `unix://PATH`, `tcp://HOST[:PORT]` (or `http(s)://`); a bare `HOST:PORT` is TCP."""
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "tcp", host
    if scheme == "unix":
        if not rest:
            raise InvalidParameter(
                f"invalid host {host!r}: unix:// needs a path, as in unix:///run/sampan/engine.sock"
            )
        return Endpoint(host, rest, ("", 0), None)
    if scheme == "ssh":
        raise NotSupported(
            f"{host}: ssh:// is not supported; forward the socket instead: "
            "ssh -NL /tmp/engine.sock:/run/sampan/engine.sock USER@HOST, then -H unix:///tmp/engine.sock"
        )
    if scheme not in ("tcp", "http", "https"):
        raise InvalidParameter(f"unable to parse docker host `{host}`")
    if scheme == "https" and tls is None:
        tls = TlsFiles("", "", "", True)
    return Endpoint(host, "", _address(rest.split("/")[0], TLS_PORT if tls else PLAIN_PORT, host), tls)


def _address(text: str, default_port: int, host: str) -> tuple[str, int]:
    name, port = text, ""
    if text.startswith("["):
        name, _, tail = text[1:].partition("]")
        port = tail.removeprefix(":")
    elif text.count(":") == 1:
        name, port = text.split(":")
    if port and not (port.isdecimal() and int(port) < 65536):
        raise InvalidParameter(
            f"unable to parse docker host `{host}`: port {port!r} is not a number below 65536"
        )
    return name or "127.0.0.1", int(port) if port else default_port


def tls_from(environ: Mapping[str, str]) -> TlsFiles | None:
    """TLS as `DOCKER_TLS_VERIFY`, `DOCKER_TLS` and `DOCKER_CERT_PATH` ask for it; None for plain TCP."""
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    if not verify and not environ.get("DOCKER_TLS"):
        return None
    folder = environ.get("DOCKER_CERT_PATH") or config_directory(environ)
    return tls_files(folder, verify)


def tls_files(folder: str, verify: bool) -> TlsFiles:
    """Docker's three file names in a folder; a file that is absent is left out."""
    paths = [os.path.join(folder, name) for name in ("ca.pem", "cert.pem", "key.pem")]
    ca, cert, key = (path if os.path.exists(path) else "" for path in paths)
    return TlsFiles(ca, cert, key, verify)


def config_directory(environ: Mapping[str, str] | None = None) -> str:
    """Docker's client configuration: `$DOCKER_CONFIG` or `~/.docker`."""
    environ = os.environ if environ is None else environ
    return environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")


def _context(name: str, environ: Mapping[str, str]) -> Endpoint:
    import hashlib
    import json

    folder = os.path.join(config_directory(environ), "contexts")
    digest = hashlib.sha256(name.encode()).hexdigest()
    try:
        with open(os.path.join(folder, "meta", digest, "meta.json"), encoding="utf-8") as file:
            docker = json.load(file)["Endpoints"]["docker"]
        host = str(docker["Host"])
    except FileNotFoundError:
        raise NotFound(f'context "{name}": context not found: no such context in {folder}') from None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidParameter(f'context "{name}": its meta.json is malformed: {error!r}') from None
    certificates = os.path.join(folder, "tls", digest, "docker")
    tls = tls_files(certificates, not docker.get("SkipTLSVerify")) if os.path.isdir(certificates) else None
    return parse(host, tls)
