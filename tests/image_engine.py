"""The image half of an engine, for tests: real stores, workers and API server on a socket, without containers or networks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from aiohttp import web

from sampan.api import images as image_routes
from sampan.api import registries as registry_routes
from sampan.api.router import Router
from sampan.api.server import ApiServer
from sampan.buildkit.door import BuildkitDoors
from sampan.content.gc import Collector
from sampan.content.local import LocalContentStore
from sampan.content.schema import CONTENT_SCHEMA
from sampan.events import EventBus
from sampan.images.interface import ContainerUse
from sampan.images.records import IMAGES_SCHEMA
from sampan.images.service import ImageService
from sampan.registry.client import RegistryClient
from sampan.registry.settings import RegistrySettings
from sampan.snapshots.probe import start_snapshotter
from sampan.snapshots.records import SNAPSHOT_SCHEMA
from sampan.store import Database
from sampan.zygote.client import Zygote
from sampan.zygote.workers import Workers

T = TypeVar("T")


class ImageEngine:
    """Runs on a loop in a thread of its own. `run` calls into it, `docker` runs the CLI against it."""

    def __init__(
        self, root: Path, socket: Path | None = None, registry: RegistrySettings | None = None
    ) -> None:
        self.root = root
        self.registry_settings = registry or RegistrySettings()
        self.uses: list[ContainerUse] = []
        self._scratch = None if socket else tempfile.TemporaryDirectory(prefix="sampan-images-")
        self.socket = socket or Path(
            self._scratch.name if self._scratch else "", "e.sock"
        )  # short: a socket's address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.run(self._start())

    def close(self) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 100) -> T:
        """Await on the engine's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def docker(self, *arguments: str, stdin: bytes | None = None, ok: bool = True) -> str:
        """Output of the docker CLI; of a failing one (`ok=False`) what it wrote to stderr."""
        result = self.docker_raw(*arguments, stdin=stdin)
        assert (result.returncode == 0) is ok, (arguments, result.stdout[:2000], result.stderr)
        return (result.stdout if ok else result.stderr).decode(errors="replace")

    def docker_raw(self, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        command = ["docker", "-H", f"unix://{self.socket}", *arguments]
        environment = {**os.environ, "DOCKER_CONFIG": str(self.root)}
        return subprocess.run(
            command, input=stdin or b"", capture_output=True, timeout=100, check=False, env=environment
        )

    def docker_started(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The docker CLI, running."""
        return start_docker(self.socket, self.root, arguments)

    async def _start(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.database = await Database.open(
            self.root / "sampan.db", [CONTENT_SCHEMA, SNAPSHOT_SCHEMA, IMAGES_SCHEMA]
        )
        self.content = await LocalContentStore.start(self.database, self.root / "content")
        self.snapshots = await start_snapshotter(self.database, self.root / "snapshots")
        self.zygote = await Zygote.start(preload=["sampan.archive.apply"])
        self.events = EventBus()
        collector = Collector(self.database, self.content.leases, [self.content, self.snapshots])
        workers = Workers(self.zygote)
        self.registry = RegistryClient(self.registry_settings)
        self.images = ImageService(
            self.database, self.content, self.snapshots, workers, collector, self.events, self.registry
        )
        self.images.register_container_uses(self._uses)
        await self.images.recover(set())
        engine = SimpleNamespace(images=self.images)
        self.api = ApiServer(engine, _routes(), BuildkitDoors(engine))  # type: ignore[arg-type]
        self._server = await self._loop.create_unix_server(self.api.protocol, str(self.socket))

    async def _close(self) -> None:
        self._server.close()
        await self.api.close(0.5)
        await self.images.close()
        await self.registry.close()
        await self.snapshots.close()
        await self.zygote.close()
        await self.database.close()

    async def _uses(self) -> list[ContainerUse]:
        return self.uses


class EngineProcess:
    """An image engine in a process of its own, to be killed and started again on the same state."""

    def __init__(self, root: Path, socket: Path) -> None:
        self.root = root
        self.socket = socket
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        command = [sys.executable, __file__, str(self.root), str(self.socket)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def docker(self, *arguments: str) -> subprocess.Popen[bytes]:
        return start_docker(self.socket, self.root, arguments)

    def output(self, *arguments: str) -> str:
        process = self.docker(*arguments)
        output, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        return output.decode()


def start_docker(socket: Path, config: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the docker CLI with a configuration directory of its own."""
    environment = {**os.environ, "DOCKER_CONFIG": str(config)}
    command = ["docker", "-H", f"unix://{socket}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def _routes() -> Router:
    router = Router()
    router.merge(registry_routes.router)
    router.merge(image_routes.router)
    for method, path in (("GET", "/_ping"), ("HEAD", "/_ping")):
        router.add(method, path, _ping)
    return router


async def _ping(call: object) -> web.StreamResponse:
    return web.Response(text="OK")


def main() -> None:
    """`python image_engine.py ROOT SOCKET`: run until SIGTERM; prints a line when it answers. For tests that kill it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    engine = ImageEngine(Path(sys.argv[1]), Path(sys.argv[2]))
    engine.start()
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})
    engine.run(engine.images.housekeeping.settled())
    engine.close()


if __name__ == "__main__":
    main()
