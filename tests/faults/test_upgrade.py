"""Shims of an older package: an engine of another version takes their containers over, and everything about them works."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import sampan
from engine_audit import assert_settled
from running_engine import RunningEngine

pytestmark = pytest.mark.root

SOURCE = Path(sampan.__file__).parent
COUNTING = "trap 'exit 9' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"


class Installation:
    """The package once more, with an interpreter of its own that knows it, and the dependencies of this one."""

    def __init__(self, place: Path) -> None:
        self.package = place / "source" / "sampan"
        shutil.copytree(SOURCE, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = place / "lib" / version / "site-packages"
        site.mkdir(parents=True)
        # Paths of a .pth file have their own .pth files left alone: this sampan is the only one to be found.
        (site / "paths.pth").write_text(f"{self.package.parent}\n{sysconfig.get_path('purelib')}\n")
        (place / "bin").mkdir()
        self.python = place / "bin" / "python"
        self.python.symlink_to(Path(sys.executable).resolve())
        (place / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")

    def replace(self) -> None:
        """Put a version in its place of which not one line can be executed."""
        shutil.rmtree(self.package)
        shutil.copytree(SOURCE, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        for path in self.package.rglob("*.py"):
            path.write_text("raise SystemExit('code of another version')\n")


@pytest.fixture
def engine(tmp_path: Path, busybox: bytes) -> Iterator[RunningEngine]:
    """Started by an older package, with containers of all kinds, and killed; that package is another one now."""
    old = Installation(tmp_path / "old")
    running = RunningEngine(tmp_path, ["--add-runtime", f"theirs={shutil.which('runc')}"])
    running.python = str(old.python)
    running.start()
    try:
        with running.client() as client:
            client.images.load(busybox)
        running.docker("network", "create", "net")
        running.docker("run", "-d", "--name", "plain", "-p", "127.0.0.1::80", "busybox", "sh", "-c", COUNTING)
        running.docker("run", "-dit", "--name", "terminal", "busybox", "sh")
        running.docker(
            *("run", "-d", "--name", "checked", "--health-cmd", "test -e /tmp/well"),
            *("--health-interval", "100ms", "--health-retries", "1"),
            *("busybox", "sh", "-c", "touch /tmp/well; sleep 1000"),
        )
        running.docker(
            *("run", "-d", "--name", "flooding", "--log-opt", "max-size=10k", "--log-opt", "max-file=3"),
            *("--log-opt", "compress=true", "busybox", "sh", "-c", "while :; do seq 1 100; sleep 0.02; done"),
        )
        running.docker("run", "-d", "--name", "ending", "busybox", "sh", "-c", "sleep 2; echo end; exit 5")
        running.docker("run", "-d", "--name", "foreign", "--runtime", "theirs", "busybox", "sleep", "1000")
        assert _package_of(running) == old.package
        running.kill()
        old.replace()
        running.python = sys.executable
        running.start()
        yield running
    finally:
        running.python = sys.executable
        running.close()


def _package_of(engine: RunningEngine) -> Path:
    code = "import sampan; print(sampan.__path__[0])"
    done = subprocess.run([engine.python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def test_everything_goes_on(engine: RunningEngine, tmp_path: Path) -> None:
    docker = engine.docker
    assert docker("exec", "plain", "echo", "hi").stdout == "hi\n"
    assert docker(
        "exec", "-u", "nobody", "-w", "/tmp", "-e", "A=b", "plain", "sh", "-c", "id -un; pwd; echo $A"
    ).stdout == ("nobody\n/tmp\nb\n")
    assert engine.shell("docker exec -i plain cat < /etc/hostname", tmp_path).returncode == 0
    assert engine.shell("script -qec 'docker exec -it plain stty size' /dev/null", tmp_path).returncode == 0
    assert docker("exec", "plain", "missing", check=False).returncode == 127
    assert docker("stats", "--no-stream", "--format", "{{.Name}}", "plain").stdout == "plain\n"
    assert "sleep" in docker("top", "plain").stdout
    docker("pause", "plain")
    docker("unpause", "plain")
    docker("update", "--cpu-shares", "100", "plain")
    docker("cp", "plain:/etc/passwd", str(tmp_path))
    docker("network", "connect", "net", "plain")
    docker("network", "disconnect", "net", "plain")
    docker("commit", "plain", "made")
    typed = "(sleep 0.3; echo 'echo $((6*7))'; echo exit)"
    attached = engine.shell(f"{typed} | timeout 20 script -qec 'docker attach terminal' /dev/null", tmp_path)
    assert "42" in attached.stdout
    assert docker("wait", "terminal").stdout == "0\n"
    assert docker("wait", "ending").stdout == "5\n"
    assert docker("logs", "ending").stdout == "end\n"
    assert docker("inspect", "-f", "{{.State.Health.Status}}", "checked").stdout == "healthy\n"
    docker("exec", "checked", "rm", "/tmp/well")
    engine.shell("until docker ps | grep -q unhealthy; do sleep 0.1; done", tmp_path, timeout=20)
    lines = [int(line) for line in docker("logs", "plain").stdout.split()]
    assert lines == list(range(len(lines)))
    folder = engine.data_root / "containers" / docker("inspect", "-f", "{{.Id}}", "flooding").stdout.strip()
    assert list(folder.glob("*.gz"))
    docker("stop", "plain")
    assert docker("wait", "plain").stdout == "9\n"
    docker("start", "plain")
    docker("restart", "-t", "0", "flooding")
    assert docker("exec", "foreign", "echo", "theirs").stdout == "theirs\n"
    docker("rm", "-f", "plain", "terminal", "checked", "flooding", "ending", "foreign")
    docker("rmi", "made")
    docker("network", "rm", "net")
    assert_settled(engine)
