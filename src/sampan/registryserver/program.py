"""`sampan registry serve [CONFIG]` and `sampan registry garbage-collect`: from the command line to sockets and back."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import os
import signal
import ssl
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from sampan.engine.config import default_data_root
from sampan.errors import InvalidParameter, SampanError
from sampan.registry.client import RegistryClient
from sampan.registryserver.access import Access, Passwords
from sampan.registryserver.app import Observer, RegistryApp
from sampan.registryserver.cache import PullThrough, cache_settings
from sampan.registryserver.collection import GRACE, Collector
from sampan.registryserver.configuration import ServerConfig, load, seconds
from sampan.registryserver.enginecontent import EngineContent
from sampan.registryserver.index import ListIndex
from sampan.registryserver.observing import Metrics, Webhook
from sampan.registryserver.repositories import Repositories
from sampan.registryserver.rights import rights_of
from sampan.registryserver.slowness import PatientServer

log = logging.getLogger("sampan.registry")


def main(arguments: list[str] | None = None) -> int:
    """Run the program; the exit code. 0 after SIGTERM and SIGINT."""
    given = _arguments().parse_args(arguments)
    try:
        config = load(Path(given.config) if given.config else None, os.environ, default_root())
        if given.root:
            config.root = given.root
        config.index = given.index
        config.grace = seconds(given.grace)
        if given.verb == "garbage-collect":
            return _collect_now(config, untagged=given.delete_untagged, dry_run=given.dry_run)
        config.from_engine = given.from_engine or ""
        if given.listen:
            config.address = given.listen
        if given.collect_every:
            config.collect_every = seconds(given.collect_every)
        _set_up_logging(config)
        for warning in config.warnings:
            log.warning("%s", warning)
        asyncio.run(_serve(config, given.ready_fd))
    except SampanError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except OSError as error:
        print(f"{error.filename or 'registry'}: {error.strerror or error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _collect_now(config: ServerConfig, *, untagged: bool, dry_run: bool) -> int:
    """`garbage-collect`: once, also beside a registry that serves the same directory."""
    done = Collector(_repositories(config), config.grace).collect(untagged=untagged, dry_run=dry_run)
    if done is None:
        print("another program is collecting garbage there", file=sys.stderr)  # noqa: T201
        return 1
    would = "would remove" if dry_run else "removed"
    print(f"{would} {done.manifests} manifests and {done.blobs} blobs, {done.bytes} bytes")  # noqa: T201
    return 0


def _repositories(config: ServerConfig) -> Repositories:
    """The content, where the configuration has it. Raises `InvalidParameter`."""
    if config.from_engine:
        return EngineContent(Path(config.from_engine))
    if not config.s3:
        index = ListIndex(_index_file(config))
        return Repositories(Path(config.root), config.grace, index=index, urls=config.urls)
    from sampan.registryserver.objectstorage import (
        ObjectStorage,
    )  # its library is only loaded where it is needed

    storage = ObjectStorage(config.s3, redirect=config.redirect)
    return Repositories(Path(config.root), config.grace, storage, ListIndex(_index_file(config)), config.urls)


def _index_file(config: ServerConfig) -> Path:
    """Where the index is. It may be removed at any time."""
    if config.index:
        return Path(config.index)
    if not config.s3:
        return Path(config.root) / "sampan-index.sqlite"
    home = "/var/cache" if os.geteuid() == 0 else os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    place = f"{config.s3.get('regionendpoint') or ''} {config.s3['bucket']} {config.root}"
    name = f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.sqlite"
    return Path(home).expanduser() / "sampan-registry" / name


def default_root() -> Path:
    """Where a registry without configuration keeps its content."""
    if os.geteuid() == 0:
        return Path("/var/lib/sampan-registry")
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "sampan-registry"


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sampan registry", description="A registry for container images.")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND", dest="verb")
    serve = verbs.add_parser(
        "serve", help="serve a registry; without CONFIG for this machine alone, on 127.0.0.1:5000"
    )
    collect = verbs.add_parser("garbage-collect", help="remove blobs that no manifest names")
    for verb in (serve, collect):
        verb.add_argument("config", nargs="?", help="distribution's config.yml")
        verb.add_argument(
            "--index", default="", metavar="FILE", help="where lists are remembered (beside the content)"
        )
        verb.add_argument("--root", default="", metavar="DIRECTORY", help="where the content is")
        verb.add_argument(
            "--grace",
            default=f"{GRACE:.0f}s",
            metavar="DURATION",
            help="keep what was used within this time (1h)",
        )
    serve.add_argument("--listen", default="", metavar="ADDRESS", help="address and port (http.addr)")
    serve.add_argument(
        "--collect-every", default="", metavar="DURATION", help="collect garbage while serving"
    )
    serve.add_argument(
        "--from-engine",
        nargs="?",
        const=default_data_root(),
        metavar="DATA-ROOT",
        help="serve the images of an engine on this machine, read-only and without a copy (--from-engine=DIRECTORY)",
    )
    serve.add_argument("--ready-fd", type=int, default=-1, help=argparse.SUPPRESS)
    collect.add_argument("-d", "--dry-run", action="store_true", help="say what would go, and remove nothing")
    collect.add_argument(
        "-m", "--delete-untagged", action="store_true", help="manifests that no tag leads to go too"
    )
    return parser


async def _serve(config: ServerConfig, ready: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as closing:
        await start(config, closing)
        log.info(
            "listening on %s%s, content in %s",
            config.address,
            ", tls" if config.certificate else "",
            f"s3://{config.s3['bucket']}/{config.root}" if config.s3 else config.root,
        )
        if ready >= 0:
            os.write(ready, b"1")
            os.close(ready)
        await stop.wait()


class Listening(NamedTuple):
    """The ports of a registry."""

    port: int
    debug_port: int
    """0 without `http.debug.addr`."""


async def start(config: ServerConfig, closing: AsyncExitStack) -> Listening:
    """Open a registry whose end is `closing`'s. Raises `SampanError`, `OSError`."""
    repositories = _repositories(config)
    config.read_only = config.read_only or bool(config.from_engine)
    closing.callback(repositories.index.close)
    closing.callback(repositories.uploads.close)
    if not config.read_only:
        directories = [repositories.paths.blobs, repositories.paths.repositories]
        await asyncio.to_thread(repositories.storage.prepare, directories)
    metrics = Metrics()
    observers: list[Observer] = [metrics]
    for settings in config.endpoints:
        if not settings.get("disabled"):
            hook = Webhook(settings)
            observers.append(hook)
            _beside(closing, hook.run(), "notifications")
    upstream = None
    if config.upstreams:
        client = RegistryClient(cache_settings())
        closing.push_async_callback(client.close)
        upstream = PullThrough(config, repositories, client)
    access: Access = Passwords(config.htpasswd, config.realm, rights_of(config.rights))
    if config.token:
        from sampan.registryserver.bearer import TokenAccess  # cryptography is only loaded where it is needed

        access = TokenAccess(config.token)
    app = RegistryApp(config, repositories, access, observers, upstream, metrics.answered)
    runner = web.ServerRunner(PatientServer(app.handle, config.silence, 1 << 20), shutdown_timeout=5)
    await runner.setup()
    closing.push_async_callback(runner.cleanup)
    port = await _listen(config, runner, closing)
    debug_port = 0
    if config.debug_address:
        debug_port = await _serve_debug(config, repositories, metrics, closing)
    _beside(closing, _purge(config, repositories), "purge uploads")
    _beside(closing, _collect(config, repositories), "collect garbage")
    return Listening(port, debug_port)


async def _listen(config: ServerConfig, runner: web.ServerRunner, closing: AsyncExitStack) -> int:
    """Open the registry's door; its port, 0 for a socket with a path."""
    if config.network == "tcp":
        host, port = _address(config.address)
        await web.TCPSite(runner, host, port, ssl_context=_tls(config), backlog=1024).start()
        return int(runner.addresses[0][1])
    socket = Path(config.address)
    if socket.is_socket():
        socket.unlink()  # a killed registry's
    await web.UnixSite(runner, socket, ssl_context=_tls(config), backlog=1024).start()
    closing.callback(socket.unlink, missing_ok=True)
    return 0


def _beside(closing: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
    """Work that goes on beside the serving, until the end."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    closing.callback(task.cancel)


async def _serve_debug(
    config: ServerConfig, repositories: Repositories, metrics: Metrics, closing: AsyncExitStack
) -> int:
    """`http.debug.addr`: health, and metrics where they are enabled; the port."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/debug/health":
            found = await asyncio.to_thread(repositories.storage.healthy, repositories.paths.blobs)
            return web.json_response({"storage": found} if found else {}, status=503 if found else 200)
        if request.path == config.metrics_path and config.metrics:
            return web.Response(text=metrics.text())
        return web.Response(status=404)

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    closing.push_async_callback(runner.cleanup)
    host, port = _address(config.debug_address)
    await web.TCPSite(runner, host, port).start()
    return int(runner.addresses[0][1])


async def _collect(config: ServerConfig, repositories: Repositories) -> None:
    """From time to time, when it was asked for, free what nothing needs."""
    while config.collect_every and not config.read_only:
        await asyncio.sleep(config.collect_every)
        try:
            done = await asyncio.to_thread(Collector(repositories, config.grace).collect)
        except Exception:
            log.exception("garbage was not collected; it is tried again in %g s", config.collect_every)
            continue
        if done is not None and done.blobs:
            log.info("collected %d blobs, %d bytes", done.blobs, done.bytes)


async def _purge(config: ServerConfig, repositories: Repositories) -> None:
    """From time to time, remove uploads that were given up."""
    while config.upload_age and not config.read_only:
        try:
            names = await asyncio.to_thread(repositories.all_names)
            removed = await asyncio.to_thread(repositories.uploads.purge, names, config.upload_age)
            if removed:
                log.info("removed %d uploads that were given up", removed)
        except Exception:
            log.exception("uploads were not purged; it is tried again in %g s", config.upload_interval)
        await asyncio.sleep(config.upload_interval)


def _address(text: str) -> tuple[str | None, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InvalidParameter(f"invalid address {text!r}: it must be HOST:PORT or :PORT")
    return host.strip("[]") or None, int(port)


def _tls(config: ServerConfig) -> ssl.SSLContext | None:
    if not config.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if config.minimum_tls == "tls1.3":  # what is older than 1.2 is not spoken at all
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(config.certificate, config.key)
        for file in config.client_authorities:
            context.load_verify_locations(file)
            optional = config.client_auth == "verify-client-cert-if-given"
            context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise InvalidParameter(f"cannot read the certificates of http.tls: {error}") from None
    return context


class _Json(logging.Formatter):
    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            **self._fields,
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _set_up_logging(config: ServerConfig) -> None:
    handler = logging.StreamHandler(sys.stderr)
    beside = "".join(f" {key}={value}".replace("%", "%%") for key, value in config.log_fields.items())
    text = logging.Formatter(f"%(asctime)s %(levelname)s %(message)s{beside}")
    handler.setFormatter(_Json(config.log_fields) if config.log_format == "json" else text)
    log.addHandler(handler)
    log.propagate = False
    level = {"error": "ERROR", "warn": "WARNING", "info": "INFO", "debug": "DEBUG"}.get(
        config.log_level, "INFO"
    )
    log.setLevel(level)
