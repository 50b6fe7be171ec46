"""A container that fails at once: Docker's message and code, and beside them one line that says why."""

from __future__ import annotations

import pytest

from busybox_image import busybox_archive
from running_engine import RunningEngine

pytestmark = pytest.mark.root

FILES = {
    "script": b"#!/no/such/interpreter\n",
    "crlf": b"#!/bin/sh\r\necho hi\r\n",
    "text": b"echo hi\n",
}


@pytest.mark.parametrize(
    ("command", "code", "message", "reason"),
    [
        (("/nosuch",), 127, "no such file or directory", "/nosuch: it was not found in the image"),
        (("nosuch",), 127, "executable file not found in $PATH", "nosuch: it was not found in the image"),
        (("/etc/passwd",), 126, "permission denied", "/etc/passwd: it is not executable"),
        (("/etc",), 126, "is a directory", "/etc: it is a directory"),
        (
            ("/script",),
            127,
            "no such file or directory",
            'its interpreter "/no/such/interpreter" is not in the image',
        ),
        (("/crlf",), 127, "no such file or directory", "its first line ends with a carriage return"),
        (("/text",), 126, "exec format error", "it is a text without #!"),
        (("sh", "-c", "nosuch"), 127, "not found", "nosuch was not found in the image"),
        (("tail", "/dev/zero"), 137, "", "killed by the kernel: out of memory (see --memory)"),
        (("sh", "-c", "sh -c 'kill -SEGV $$'; exit $?"), 139, "", "segmentation fault"),
        (("false",), 1, "", ""),
    ],
)
def test_reasons(
    engine: RunningEngine, command: tuple[str, ...], code: int, message: str, reason: str
) -> None:
    with engine.client() as client:
        client.images.load(busybox_archive("failing:latest", FILES))
    flags = ("--network", "none", "--memory", "20m", "--memory-swap", "20m")
    for more in ((), ("--rm",)):
        done = engine.sampan("run", *more, "--name", "failing", *flags, "failing", *command, check=False)
        assert done.returncode == code
        assert message in done.stderr and reason in done.stderr
        if not reason:
            assert done.stderr == ""
        if not more:
            status = engine.sampan("ps", "-a", "--no-trunc", "--format", "{{.Status}}").stdout
            assert reason in status
            # Docker's own words are Docker's.
            assert ": " not in engine.docker("ps", "-a", "--format", "{{.Status}}").stdout
            engine.docker("rm", "failing")
    if "exec format" in message:
        code = 125  # of docker's own command, which knows 126 by other words
    assert engine.docker("run", "--rm", *flags, "failing", *command, check=False).returncode == code
    engine.docker("rmi", "failing")
