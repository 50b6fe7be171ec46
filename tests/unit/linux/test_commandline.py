"""What is shown is what the kernel reads: in a process of its own, for it cannot be undone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sampan.linux import commandline

SCRIPT = """
import sys
from sampan.linux import commandline

stat = open("/proc/self/stat").read()
arguments, environment = ["/sbin/init", "", "a b", "x" * 9000], {"A": "b", "E": "x" * 9000}
commandline.show(stat, arguments, environment)
grown = [bytes(5000) for _ in range(2000)]  # the heap goes on growing where it is
commandline.show(open("/proc/self/stat").read(), arguments, environment)
said = open("/proc/self/cmdline", "rb").read()
assert said == b"".join(each.encode() + b"\\0" for each in arguments), said
assert open("/proc/self/environ", "rb").read() == b"A=b\\0E=" + b"x" * 9000 + b"\\0"
assert len(grown) == 2000
"""


def test_command_line_and_environment_of_any_length() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_shown_by_a_text_that_is_none() -> None:
    with pytest.raises((OSError, IndexError)):
        commandline.show("nonsense)", ["x"], {})
