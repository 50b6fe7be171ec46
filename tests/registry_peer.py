"""distribution's registry (Debian's 2.8, or another program) as a peer, each with its own storage and port."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path


class DockerRegistry:
    """A registry process on 127.0.0.1. `environment` are further `REGISTRY_…` variables of its configuration."""

    def __init__(
        self,
        root: Path,
        environment: Mapping[str, str] | None = None,
        program: str = "docker-registry",
        prefix: Sequence[str] = (),
    ) -> None:
        """`prefix` is a command that starts the program's (nsenter)."""
        self._program = program
        self._prefix = prefix
        self.storage = root / "storage"
        self._configuration = root / "config.yml"
        self._environment = dict(environment or {})
        self._log = root / "registry.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        self._write_configuration()

        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, self._program, "serve", str(self._configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "OTEL_TRACES_EXPORTER": "none", **self._environment},
            )
        if self._prefix:
            self._wait_for_log()  # it may be where nobody else reaches it
        else:
            self._wait()

    def _write_configuration(self) -> None:
        self.storage.mkdir(parents=True, exist_ok=True)
        self._configuration.write_text(
            f"version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {self.storage}\n"
            f"  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{self.port}\n"
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    @property
    def pid(self) -> int:
        assert self._process is not None, "it was not started"
        return self._process.pid

    def blob_path(self, digest: str) -> Path:
        """Where the registry keeps a blob."""
        encoded = digest.partition(":")[2]
        return self.storage / "docker/registry/v2/blobs/sha256" / encoded[:2] / encoded / "data"

    def _wait_for_log(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 30
        while "listening on" not in self.log:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)  # it has no other way to say that it is ready

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://{self.host}/v2/", timeout=5):
                    return
            except urllib.error.HTTPError:
                return  # it wants a login: it answers
            except OSError:
                assert self._process.poll() is None, self.log
                time.sleep(0.05)  # it has no way to say that it is ready
        raise AssertionError("docker-registry did not start: " + self.log)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class SampanRegistry(DockerRegistry):
    """`sampan registry serve` with the same configuration in its place."""

    def start(self) -> None:
        self._write_configuration()
        ready, ready_in_server = os.pipe()
        command = [sys.executable, "-m", "sampan.registryserver", "serve", str(self._configuration)]
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [*command, f"--ready-fd={ready_in_server}"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self._environment},
                    pass_fds=(ready_in_server,),
                )
        finally:
            os.close(ready_in_server)
        try:
            assert select.select([ready], [], [], 30)[0], "the registry did not start: " + self.log
            assert os.read(ready, 1), "the registry did not start: " + self.log
        finally:
            os.close(ready)
