"""Removes what engines that were killed on this machine have left, so that the tests find it as a new machine would be.

A CI machine may have been used before: whoever worked on it is ended without a word, and their bridges go on holding
address ranges, their mounts directories. Does nothing, and says so, while an engine or a dockerd runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"(br-[0-9a-f]{12}|docker0|sampan0|veth[0-9a-f]{7}|sp[0-9a-f]{6}|spdr\d*)$")
"""Names that Docker, Sampan and Sampan's tests give to links."""

STATE = ("/tmp/", "/run/docker/", "/run/sampan/", "/var/lib/docker/", "/var/lib/sampan/")
"""Where engines and tests mount."""


def said(*command: str) -> str:
    """What a command prints; "" when there is no such command, or when it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""


def engines() -> list[str]:
    """Command lines of the engines that run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if words[0].rpartition("/")[2] in ("dockerd", "containerd") or "sampan.serve" in words:
                found.append(" ".join(words).strip())
    return found


def sweep() -> list[str]:
    """Remove links, tables, mounts and empty cgroups; what was done, a line each."""
    done = []
    for name in sorted(os.listdir("/sys/class/net")):
        if LINK.match(name):
            said("ip", "link", "delete", name)
            done.append(f"link {name}")
    for line in said("nft", "list", "tables").splitlines():
        _, family, table = line.split()
        if table.startswith("sampan-") or "DOCKER" in said("nft", "list", "table", family, table):
            said("nft", "delete", "table", family, table)
            done.append(f"table {family} {table}")
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split()[4].replace("\\040", " ")
        if target.startswith(STATE):
            said("umount", "-l", target)
            done.append(f"mount {target}")
    for top in Path("/sys/fs/cgroup").glob("*/docker"):
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue  # somebody lives there
    return done


def main() -> None:
    """Sweep unless an engine runs."""
    if running := engines():
        print("not swept, engines run here:", *running, sep="\n  ")
    elif os.geteuid() == 0 and sys.platform == "linux":
        print("swept:", ", ".join(sweep()) or "nothing was left")


main()
