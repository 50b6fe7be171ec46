"""A Sampan engine of its own for tests: own state, own socket, own bridge, beside whatever else runs on the machine."""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import sampan
from sampan.errors import Conflict, NotFound

READY_SECONDS = 120  # emulated machines take half a minute

ENGINE_MARK = "SAMPAN_TEST_ENGINE"
"""In the environment of an engine, its zygote, shims and workers: the name of its bridge."""


class RunningEngine:
    """An engine process, and how to talk to it.

    `start` returns when it answers; `stop` ends it as a user would (SIGTERM), `kill` as a crash would. A killed engine is
    started again on the same state with `start`.
    """

    def __init__(self, root: Path, flags: Sequence[str] = (), prefix: Sequence[str] = ()) -> None:
        """`prefix`: a command that executes the engine's, which follows it (`unshare -m …`)."""
        name = secrets.token_hex(3)
        number = int(name, 16)
        self.data_root = root / "data"
        self.exec_root = root / "run"
        self.log_path = root / "engine.log"
        self.socket = root / "e.sock"
        if len(str(self.socket)) > 100:  # sun_path holds 108
            self.socket = Path("/run", f"sampan-test-{name}.sock")
        self.host = f"unix://{self.socket}"
        self.bridge = f"sp{name}"
        self.bip = f"10.{200 + number % 40}.{number // 40 % 256}.1/24"
        self.python = sys.executable
        """The interpreter that runs it; another one's may have another version of the package."""
        self._flags = list(flags)
        self._prefix = list(prefix)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the engine was not started"
        return self._process.pid

    @property
    def log(self) -> str:
        """What the engine logged, over all its starts."""
        return self.log_path.read_text(errors="replace")

    def start(self, *flags: str) -> None:
        """Start it, and wait until its socket answers. Fails with the log's end when it does not."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        ready, ready_in_engine = os.pipe()
        arguments = [
            *self._prefix,
            *(
                self.python,
                "-m",
                "sampan.serve",
                "--data-root",
                self.data_root,
                "--exec-root",
                self.exec_root,
            ),
            *("-H", self.host, "--bridge", self.bridge, "--bip", self.bip, f"--ready-fd={ready_in_engine}"),
            *("--pidfile", self.log_path.parent / "engine.pid", *self._flags, *flags),
        ]
        try:
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    [str(argument) for argument in arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(ready_in_engine,),
                    env={**os.environ, ENGINE_MARK: self.bridge},
                    start_new_session=True,
                )
        finally:
            os.close(ready_in_engine)
        try:
            answered = select.select([ready], [], [], READY_SECONDS)[0] and os.read(ready, 1)
        finally:
            os.close(ready)
        if not answered:
            self.kill()
            raise AssertionError("the engine did not start:\n" + self.log[-3000:])

    @contextmanager
    def holding(self, archive: bytes, *flags: str) -> Iterator[Self]:
        """Started, and with the archive's image loaded, while the block lasts; closed after it."""
        self.start(*flags)
        try:
            with self.client() as client:
                client.images.load(archive)
            yield self
        finally:
            self.close()

    def stop(self, timeout: float = 30) -> int:
        """SIGTERM; the exit status. Containers stop with it."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL: containers run on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def client(self) -> sampan.Engine:
        """The Python client."""
        return sampan.connect(self.host)

    def docker(
        self, *arguments: str, check: bool = True, input: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run the real docker CLI against it."""
        return self._run(["docker", "-H", self.host, *arguments], check, input, timeout)

    def sampan(
        self, *arguments: str, check: bool = True, input: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run the sampan CLI against it."""
        return self._run(
            [sys.executable, "-m", "sampan.cli", "-H", self.host, *arguments], check, input, timeout
        )

    def _run(
        self, command: list[str], check: bool, input: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command[3:])}: exit {done.returncode}\n{done.stdout}{done.stderr}\n--- engine log\n{self.log[-3000:]}"
            )
        return done

    def shell(self, script: str, directory: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell script in `directory` whose `docker` talks to this engine."""
        return subprocess.run(
            ["bash", "-c", script],
            cwd=directory,
            env={**os.environ, "DOCKER_HOST": self.host},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def wait_dead(self, timeout: float) -> bool:
        """True when the engine's process has ended, or does within `timeout` seconds."""
        assert self._process is not None
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def remove_everything(self) -> None:
        """Remove all containers, own networks and volumes (images stay)."""
        with self.client() as engine:
            for container in engine.containers.list(all=True):
                try:
                    container.remove(force=True, volumes=True)
                except NotFound:
                    pass  # it went by itself
                except Conflict as error:
                    if "already in progress" not in str(error):
                        raise
                    container.wait("removed")  # it is about to go by itself
            engine.networks.prune()
            engine.volumes.prune(all=True)

    def close(self) -> None:
        """End it with everything that it runs; usable in whatever state a failed test left it."""
        if self._process is None:
            return
        if self._process.poll() is not None:
            self.start()  # what a killed engine left running can only be removed by its successor
        try:
            self.remove_everything()
        finally:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                raise
