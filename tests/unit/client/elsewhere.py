"""Run by test_elsewhere.py: Sampan's client on what looks like another operating system.

python elsewhere.py PLATFORM WORD...    runs `sampan WORD...`; the modules and functions that PLATFORM lacks are gone
"""

from __future__ import annotations

import os
import socket
import sys

platform, words = sys.argv[1], sys.argv[2:]
LACKING = {
    "darwin": ([], [(os, "pidfd_open"), (os, "setresuid"), (os, "memfd_create")]),
    "win32": (
        ["fcntl", "grp", "pwd", "pty", "resource", "termios", "tty"],
        [
            (os, "fork"),
            (os, "geteuid"),
            (os, "getuid"),
            (os, "uname"),
            (os, "pidfd_open"),
            (socket, "AF_UNIX"),
        ],
    ),
}
modules, attributes = LACKING[platform]
sys.platform = platform
for name in modules:
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails
for owner, name in attributes:
    if hasattr(owner, name):
        delattr(owner, name)

import sampan  # noqa: E402
from sampan.cli.main import run  # noqa: E402

assert sampan.connect and sampan.__version__
sys.exit(run(words))
