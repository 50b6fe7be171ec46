"""The README's two commands on a Debian 12 that has Python and nothing else; and what they say where something is missing."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bare.root import CHROOT, Bare, fresh

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    """Shared by the tests of this file, which build on each other in their order."""
    with fresh(CHECKOUT, tmp_path_factory.mktemp("bare")) as made:
        yield made


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_without_root_one_line_says_so(machine: Bare) -> None:
    done = machine.run("bin/quickstart", user=1000)
    assert (done.returncode, done.stdout) == (1, "bin/quickstart: root is needed: sudo bin/quickstart\n")


@pytest.mark.parametrize("program", ["bin/quickstart", "bin/test"])
def test_without_the_venv_module_one_line_says_so(machine: Bare, program: str) -> None:
    done = machine.run(program)
    assert done.returncode != 0
    assert last_line(done.stdout) == "bin/venv: the venv module is missing: apt-get install python3-venv"


def test_quickstart_and_again_in_two_seconds(machine: Bare) -> None:
    done = machine.run(
        "sh", "-c", "apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv"
    )
    assert done.returncode == 0, done.stdout
    started = time.monotonic()
    # One machine for both runs: the engine of the first serves the second, as on a real one.
    script = (
        f"export PORT={free_port()};"
        "bin/quickstart && date +%s.%N > /tmp/between && echo AGAIN && bin/quickstart && date +%s.%N > /tmp/end;"
        "cat /tmp/between /tmp/end"
    )
    done = machine.run("sh", "-c", script)
    assert done.returncode == 0, done.stdout
    first, _, second = done.stdout.partition("AGAIN")
    for output in (first, second):
        assert "\nHello from a container.\n" in output and "\n<h1>Bulletin board</h1>\n" in output, (
            done.stdout
        )
        assert re.search(r"^#\d+ \[5/6\] RUN sh vendor/install", output, re.M), done.stdout
    shown = recorded_terminal()
    assert shown == [line for line in plain(first) if line in shown], (
        "the README's terminal is not what it prints"
    )
    between, end = (float(line) for line in second.splitlines()[-2:])
    assert end - between < 2 * _slowness(), (end - between, time.monotonic() - started)
    assert (
        re.search(r"^\+ .venv/bin/sampan image bootstrap busybox$", first, re.M) and "bootstrap" not in second
    )


def recorded_terminal() -> list[str]:
    """What the README shows of bin/quickstart."""
    text = (CHECKOUT / "README.md").read_text().partition("$ sudo bin/quickstart\n")[2].partition("\n\n")[0]
    return plain(text)


def plain(text: str) -> list[str]:
    """Lines without the numbers that each run has of its own."""
    return re.sub(r"(0\.1:|-p )\d+", r"\1N", text).splitlines()


def free_port() -> int:
    """Of this machine, whose network the trial shares."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _slowness() -> float:
    """How many of us share a processor: two seconds are meant for a machine that has nothing else to do."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def test_system_check_finds_nothing_missing(machine: Bare) -> None:
    done = machine.run(".venv/bin/sampan", "system", "check")
    assert done.returncode == 0, done.stdout
    assert last_line(done.stdout) == "This machine can run containers."
    for line in done.stdout.splitlines()[:-1]:
        assert re.match(r"(ok|limited) {2,}\S|\s+→ ", line), line


def test_a_chroot_is_named_as_what_is_wrong(machine: Bare) -> None:
    done = machine.run(".venv/bin/sampan", "run", "busybox", "true", by=CHROOT)
    assert done.returncode == 125
    assert "failed to start engine: this is a chroot, in which no container can be started" in done.stdout
    done = machine.run(".venv/bin/sampan", "system", "check", by=CHROOT)
    assert done.returncode == 1
    assert re.search(r"^MISSING  root directory +a chroot\n +→ this is a chroot", done.stdout, re.M), (
        done.stdout
    )


def test_bin_test_gets_what_it_needs(machine: Bare) -> None:
    """A file of each kind: the whole takes its time."""
    done = machine.run("bin/test", "tests/unit/serve", "tests/integration/client")
    assert done.returncode == 0, done.stdout[-4000:]


def test_images_are_copied_where_overlay_cannot_be(machine: Bare) -> None:
    """This root is an overlay, and an overlay on an overlay is refused by the kernel."""
    flags = "--data-root /data --exec-root /run/x -H unix:///run/x.sock --bridge none"
    script = f"""
        set -e
        .venv/bin/sampan serve {flags} >/tmp/log 2>&1 &
        sampan="$PWD/.venv/bin/sampan -H unix:///run/x.sock"
        until [ -S /run/x.sock ]; do sleep 0.1; done
        $sampan image bootstrap busybox
        $sampan info --format '{{{{.Driver}}}}'
        $sampan run --rm --net none busybox echo hello
        kill %1; wait %1
    """
    done = machine.run("bash", "-c", script)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-2:] == ["native", "hello"]
