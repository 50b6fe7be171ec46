"""The same command line to `sampan` and to `docker`: same output, same exit code."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import subprocess

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

COMMANDS = [
    "ps -a",
    "ps -aq --no-trunc",
    "ps -a --format json",
    "ps -a --format 'table {{.Names}}\t{{.Image}}'",
    "ps --format {{.Foo}}",
    "images",
    "images --no-trunc",
    "images --format {{.Repository}},{{.Tag}},{{.ID}},{{.Size}},{{.CreatedAt}},{{.Digest}}",
    "history busybox",
    "inspect one",
    "inspect --format {{.Name}} one nope",
    "inspect nope",
    "network ls --no-trunc",
    "volume ls",
    "logs one",
    "logs nope",
    "top one -o pid,args",
    "port one",
    "port one 80",
    "diff one",
    "exec one sh -c 'echo out; exit 3'",
    "exec one nope",
    "rm nope",
    "stop nope nope2",
    "start nope",
    "attach nope",
    "rename one one",
    "cp one:/nope .",
    "cp a b",
    "run --rm --network none busybox sh -c 'exit 7'",
    "run --rm --network none busybox nope",
    "run -p 99999:1 busybox",
    "run --foo",
    "run",
    "ps a",
    "volume ls --help",
    "volume",
    "network",
    "ps --filter foo=bar",
    "ps -a --format '{{.Names}} {{.Platform}} {{.State}} {{.Label \"a\"}}'",
    "images --format json",
    "images --filter foo=bar",
    "images nope",
    "history nope",
    "network inspect nope",
    "network create bridge",
    "network connect nope one",
    "volume inspect nope",
    "volume create 'bad name'",
    "system df",
    "system df --format '{{.Type}} {{.TotalCount}} {{.Size}}'",
    "logs --tail x one",
    "logs --since bad one",
    "kill -s NOPE one",
    "update one",
    "commit one BAD",
    "tag busybox BAD",
    "rmi nope",
    "save nope",
    "export nope",
    "import /nonexistent",
    "load -i /nonexistent",
    "exec -u nobodyx one true",
    "exec -w /nope one pwd",
    "stop -t x one",
    "create",
    "create --name one busybox",
    "create --foo busybox",
    "run -v /a:/b:c:d busybox",
    "run -p a:b busybox true",
    "run --restart foo busybox",
    "run --cpus x busybox",
    "inspect --type image one",
    "inspect --format '{{.Nope}}' one",
    "foo",
    "container foo",
]

REASON = "sampan: nope: it was not found in the image\n"
"""What our command says beside Docker's message."""


@pytest.mark.parametrize("command", COMMANDS)
def test_same(engine: RunningEngine, command: str) -> None:
    engine.docker(
        "run", "-d", "--name", "one", "--network", "none", "busybox", "sh", "-c", "echo hi; sleep 100"
    )
    for _ in range(200):
        if engine.docker("logs", "one").stdout:
            break  # both are to see it
    words = shlex.split(command)
    theirs, ours = engine.docker(*words, check=False), engine.sampan(*words, check=False)
    assert ours.returncode == theirs.returncode
    assert _told(command, ours.stdout.replace("sampan", "docker")) == _told(command, theirs.stdout)
    assert ours.stderr.replace(REASON, "").replace("sampan", "docker") == theirs.stderr


def test_disk_usage_of_images_with_common_layers(engine: RunningEngine) -> None:
    """What a used image shares with others counts as reclaimable, in Docker's arithmetic."""
    engine.docker("run", "--name", "one", "--network", "none", "busybox", "touch", "/made")
    engine.docker("commit", "one", "beside:1")
    try:
        assert engine.sampan("system", "df").stdout == engine.docker("system", "df").stdout
    finally:
        engine.docker("rmi", "beside:1")


def _told(command: str, text: str) -> list[str]:
    """The lines. Between the two commands a second may have passed, or a minute; and docker shows several repositories of one image
    in the order of a Go map, that is in none."""
    ages = r"Less than a second|About a minute|\d+ (?:seconds?|minutes)"
    lines = re.sub(r" {2,}", "  ", re.sub(ages, "<age>", text)).splitlines()
    return sorted(lines) if command.startswith("images") else lines


@pytest.mark.parametrize(
    "command", ["attach shell", "exec -it shell sh", "run -it --network none busybox sh"]
)
def test_detaching(engine: RunningEngine, command: str) -> None:
    """`attach` and `exec` say so and end with 1; `run` leaves as if nothing had happened."""
    engine.docker("run", "-dit", "--name", "shell", "--network", "none", "busybox", "sh")
    words = shlex.split(command)
    theirs = _detached(["docker", "-H", engine.host, *words])
    ours = _detached([engine.python, "-m", "sampan.cli", "-H", engine.host, *words])
    assert ours == theirs


def _detached(command: list[str]) -> tuple[int, bool]:
    """Run it in a terminal, type the detach keys once it answers; (exit code, whether it said that it detached)."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
    )
    os.close(follower)
    said = b""
    os.write(leader, b"echo a''nswer\n")
    with contextlib.suppress(OSError):  # what a terminal's last user leaves behind
        while piece := os.read(leader, 4096):
            if b"answer" in piece and b"answer" not in said:
                os.write(leader, b"\x10\x11")
            said += piece
    os.close(leader)
    return process.wait(), b"read escape sequence" in said
