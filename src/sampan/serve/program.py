"""From the command line to a serving engine and back to nothing.

Start: configuration, lock, services with recovery, sockets, ready. Ready means that the sockets answer.
End: SIGTERM or SIGINT, or idleness for an engine that was started on demand: sockets close first, containers stop (unless
live-restore keeps them), then services close in the reverse order of their opening.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from sampan.api.routes import all_routes
from sampan.api.server import ApiServer
from sampan.buildkit.door import BuildkitDoors
from sampan.engine.config import EngineConfig, without_credentials
from sampan.engine.engine import Engine
from sampan.engine.userns import data_root, remapping
from sampan.errors import InvalidParameter, SampanError, SystemFailure
from sampan.linux.chroot import ADVICE, in_chroot
from sampan.serve import configuration, flags
from sampan.serve import logging as engine_log
from sampan.serve.listeners import Listeners, default_host, has_passed_sockets
from sampan.serve.surroundings import (
    Lock,
    PidFile,
    choose_surroundings,
    leave_callers_cgroup,
    notify_supervisor,
)
from sampan.version import __version__

log = logging.getLogger(__name__)

IDLE_SECONDS = float(os.environ.get("SAMPAN_IDLE_SECONDS", "30"))
"""How long an engine on demand stays without anything to do."""
PREDECESSOR_SECONDS = 20.0


def main(arguments: list[str] | None = None) -> int:
    """Run the program; the exit code. 0 also after SIGTERM, 1 (as dockerd) for whatever is wrong."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        given = flags.parse(arguments)
    except InvalidParameter as error:
        print(f"{error}\nSee 'sampan serve --help'.", file=sys.stderr)  # noqa: T201
        return 1
    if given.get("help"):
        print(flags.usage())  # noqa: T201
        return 0
    if given.get("version"):
        print(f"Sampan version {__version__}")  # noqa: T201
        return 0
    try:
        loaded = configuration.load(given)
    except SampanError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    if given.get("validate"):
        for warning in loaded.warnings:
            print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
        print("configuration OK", file=sys.stderr)  # noqa: T201
        return 0
    return _run(loaded, given)


def _run(loaded: configuration.Loaded, given: dict[str, Any]) -> int:
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    choose_surroundings()
    if given.get("on-demand") and not has_passed_sockets():
        leave_callers_cgroup()  # a service's cgroup is its own
    config = loaded.config
    engine_log.configure(config.log_level, config.log_format, config.debug)
    for warning in loaded.warnings:
        log.warning(warning)
    _choose_proxies(config)
    try:
        if in_chroot():
            raise SystemFailure(ADVICE)
        if (remapped := remapping(config.userns_remap)) is not None:
            config.data_root = data_root(config.data_root, remapped)
        asyncio.run(Program(config, given).run())
    except SampanError as error:
        log.critical("failed to start engine: %s", error)
        return 1
    return 0


async def _open_builders_own(own: Listeners, config: EngineConfig, builder: BuildkitDoors) -> None:
    """BuildKit's own socket, for `buildctl` and whatever else knows no Docker. Every other socket of the engine takes such
    clients too, so an engine that cannot have it goes on without."""
    path = config.exec_path / "buildkit.sock"
    try:
        await own.open([f"unix://{path}"], config, builder.listener)
    except SampanError as error:
        log.warning("no socket for BuildKit's clients alone: %s", error)


def _choose_proxies(config: EngineConfig) -> None:
    """The configured proxies win over those of the environment, for every request that this process makes."""
    for name, value in (
        ("http_proxy", config.proxies.http_proxy),
        ("https_proxy", config.proxies.https_proxy),
        ("no_proxy", config.proxies.no_proxy),
    ):
        for spelling in (name.upper(), name) if value else ():
            if os.environ.get(spelling, value) != value:
                log.warning("overriding existing proxy variable with value from configuration: %s", spelling)
            os.environ[spelling] = value


def _without_credentials(config: EngineConfig) -> EngineConfig:
    proxies = msgspec.structs.replace(
        config.proxies,
        http_proxy=without_credentials(config.proxies.http_proxy),
        https_proxy=without_credentials(config.proxies.https_proxy),
    )
    return msgspec.structs.replace(config, proxies=proxies)


class Program:
    """One run of the engine."""

    def __init__(self, config: EngineConfig, given: dict[str, Any]) -> None:
        self._config = config
        self._given = given
        self._stop = asyncio.Event()
        self._engine: Engine | None = None

    async def run(self) -> None:
        """Serve until told to stop. Raises `SampanError` when the start fails; then nothing is left open."""
        config = self._config
        locks = await self._take_locks()
        pidfile = PidFile(Path(config.pidfile)) if config.pidfile else None
        listeners, own = Listeners(), Listeners()
        self._handle_signals()
        try:
            engine = self._engine = await Engine.start(config)
            try:
                builder = BuildkitDoors(engine)
                api = ApiServer(engine, all_routes(), builder)
                await listeners.open(config.hosts or [default_host(config)], config, api.protocol)
                await _open_builders_own(own, config, builder)
                self._say_ready(listeners)
                watch = (
                    asyncio.create_task(self._leave_when_idle(engine, api))
                    if self._given.get("on-demand")
                    else None
                )
                await self._stop.wait()
                if watch is not None:
                    watch.cancel()
                notify_supervisor("STOPPING=1")
                await listeners.close()
                await own.close()
                await engine.stop_containers()
                await api.close()
            finally:
                await engine.close()
        finally:
            await listeners.close()
            await own.close()
            if pidfile is not None:
                pidfile.remove()
            for lock in reversed(locks):
                lock.release()

    async def _take_locks(self) -> list[Lock]:
        """The data root and the exec root: two engines in either would take each other's sockets and shims for their own."""
        data = await self._take_lock(self._config.data_path, "--data-root")
        try:
            return [data, await self._take_lock(self._config.exec_path, "--exec-root")]
        except BaseException:
            data.release()
            raise

    async def _take_lock(self, root: Path, flag: str) -> Lock:
        """An engine on demand may meet its predecessor on the way out: that one is gone soon. Another one is an error."""
        patience = PREDECESSOR_SECONDS if self._given.get("on-demand") else 0.0
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            try:
                return Lock(root / "engine.lock", flag)
            except SystemFailure:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(0.05)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _on_stop(self, number: int) -> None:
        log.info("processing signal '%s'", signal.Signals(number).name)
        self._stop.set()

    def _on_reload(self) -> None:
        notify_supervisor(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._reload(configuration.reload(self._config, self._given))
        except SampanError as error:
            log.error("the configuration was not reloaded: %s", error)
        notify_supervisor("READY=1")

    def _reload(self, fresh: EngineConfig) -> None:
        self._config = fresh
        engine_log.set_level(fresh.log_level, fresh.debug)
        log.info("Reloaded configuration: %s", msgspec.json.encode(_without_credentials(fresh)).decode())
        if self._engine is not None:
            self._engine.reload(fresh)

    def _say_ready(self, listeners: Listeners) -> None:
        for host in listeners.hosts:
            log.info("API listen on %s", host)
        notify_supervisor("READY=1")
        ready = self._given.get("ready-fd")
        if ready is not None:
            os.write(ready, b"\n")
            os.close(ready)

    async def _leave_when_idle(self, engine: Engine, api: ApiServer) -> None:
        """Set the stop event after `IDLE_SECONDS` in which the engine had nothing to do and nobody was connected."""
        quiet_since: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            if api.open_connections or not engine.is_idle():
                quiet_since = None
            elif quiet_since is None:
                quiet_since = loop.time()
            elif loop.time() - quiet_since >= IDLE_SECONDS:
                log.info("idle for %d seconds: leaving", IDLE_SECONDS)
                engine.leave_idle()
                self._stop.set()
                return
            await asyncio.sleep(min(1.0, IDLE_SECONDS / 4))
