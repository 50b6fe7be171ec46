"""Real dockerds to hold Sampan against, each with state of its own below a temporary directory.

`docker.io` is Debian's package (20.10); `dockerd` is the current engine, built from the Go module proxy together with its runc,
running on Debian's containerd. Both want the packages `docker.io` and `containerd` for their helpers; nothing of the machine's own
dockerd is used.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

CURRENT = ("github.com/moby/moby/v2/cmd/dockerd", "v2.0.0-beta.24")
PROXY = ("github.com/moby/moby/v2/cmd/docker-proxy", CURRENT[1])
"""Its own: Debian's knows nothing of listening sockets that are passed on, so no port could be published."""
RUNC = ("github.com/opencontainers/runc", "latest")
PEERS = ("docker.io", "dockerd")
READY_SECONDS = 60


def cache() -> Path:
    """Where built peers are kept between runs."""
    return Path(os.environ.get("SAMPAN_TEST_CACHE") or Path.home() / ".cache" / "sampan-tests")


def build_current() -> Path:
    """The current dockerd with its proxy and runc, built once; the directory that holds them."""
    target = cache() / f"dockerd-{CURRENT[1]}"
    for (module, version), tags in ((CURRENT, []), (PROXY, []), (RUNC, ["-tags", "seccomp"])):
        name = module.rsplit("/", 1)[-1]
        if (target / name).exists():
            continue
        target.mkdir(parents=True, exist_ok=True)
        command = ["go", "install", *tags, f"{module}@{version}"]
        print("+", " ".join(command), flush=True)
        subprocess.run(command, env={**os.environ, "GOBIN": str(target)}, check=True)
    return target


@contextlib.contextmanager
def running(peer: str, prefix: Sequence[str] = ()) -> Iterator[str]:
    """A started peer; yields its socket's path. Ends with nothing of it left.

    `prefix` is a program that becomes dockerd, in a network namespace of its own: no bridge is then left on the host.
    """
    root = Path(tempfile.mkdtemp(prefix="parity-"))
    path = os.environ["PATH"]
    proxy: list[str] = []
    if peer == "dockerd":
        path = f"{build_current()}:{path}"
        proxy = ["--userland-proxy-path", str(build_current() / "docker-proxy")]
    program = shutil.which("dockerd", path=path)
    if program is None:
        raise SystemExit(f"the peer {peer} needs dockerd: apt-get install docker.io")
    socket = root / "d.sock"
    command = [
        *prefix,
        program,
        *(
            "--data-root",
            str(root / "data"),
            "--exec-root",
            str(root / "run"),
            "--pidfile",
            str(root / "pid"),
        ),
        *proxy,
        *("-H", f"unix://{socket}", "--bip", "172.31.255.1/24", "--config-file", str(root / "daemon.json")),
    ]
    (root / "daemon.json").write_text("{}")
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "PATH": path}, start_new_session=True
        )
    try:
        _wait_until_ready(process, socket, root / "log")
        yield str(socket)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _remove(root, bridge=not prefix)


def _wait_until_ready(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        probe = subprocess.run(
            ["docker", "-H", f"unix://{socket}", "version"], capture_output=True, timeout=20, check=False
        )
        if probe.returncode == 0:
            return
        time.sleep(0.2)
    raise SystemExit("the peer did not start:\n" + log.read_text(errors="replace")[-3000:])


def _remove(root: Path, *, bridge: bool) -> None:
    """Unmount what a dockerd left mounted below its root, remove its bridge if it is the host's, then the files."""
    mounts = [
        line.split()[1]
        for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[1].startswith(str(root))
    ]
    for mount in sorted(mounts, reverse=True):
        subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
    if bridge:
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
    shutil.rmtree(root, ignore_errors=True)
