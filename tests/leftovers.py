"""What a machine holds that containers make: taken before and after the tests, it must be the same."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from owners import Owners

GRACE_SECONDS = 120.0
"""Longer than whatever the kernel clears away by itself: namespaces wait for their last socket (an orphaned connection has 100 s,
tcp_orphan_retries), cgroups for their last process. Reached only when something is left over."""

MARK = "SAMPAN_TEST_SESSION"
"""In the environment of every process that the tests start (an engine keeps SAMPAN_ variables)."""


class Machine(NamedTuple):
    """A snapshot; each member a set of descriptions."""

    mounts: frozenset[str]
    links: frozenset[str]
    namespaces: frozenset[str]
    cgroups: frozenset[str]
    firewall: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]

    def beyond(self, before: Machine) -> list[tuple[str, str]]:
        """(kind, item) of what is here now and was not before."""
        return [
            (kind, item)
            for kind, now, then in zip(self._fields, self, before, strict=True)
            for item in sorted(now - then)
        ]


def take() -> Machine:
    """The machine's state now."""
    return Machine(
        mounts=frozenset(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        links=frozenset(os.listdir("/sys/class/net")),
        namespaces=frozenset(_listing("/run/netns") + _listing("/var/run/netns")),
        cgroups=frozenset(_cgroups()),
        firewall=frozenset(_firewall()),
        processes=frozenset(_processes()),
        files=frozenset(_files()),
    )


def wait_for(before: Machine, grace: float = GRACE_SECONDS) -> list[str]:
    """What the session left over after a bounded wait, one line each with who holds it; empty when all is gone.

    What a living process of somebody else has is not ours: other engines, or a developer, may be at work beside the tests.
    """
    deadline = time.monotonic() + grace
    while found := take().beyond(before):
        owners = Owners(f"{MARK}={os.environ.get(MARK, '')}")
        found = [each for each in found if not owners.somebody_elses(*each)]
        if not found:
            break
        if time.monotonic() >= deadline:
            return [f"{kind}: {owners.describe(kind, item)}" for kind, item in found]
        time.sleep(0.5)
    return []


def _listing(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _cgroups() -> list[str]:
    """All but the parent that the containers of all engines share: whoever starts the first one makes it, and it stays."""
    return [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if not folder.endswith("/docker")]


def _firewall() -> list[str]:
    """Tables of nftables, and the rules of those that others own (Docker's FORWARD may get marked accepts of ours)."""
    try:
        done = subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    table, rules = "", []
    for line in done.stdout.splitlines():
        if line.startswith("table "):
            table = line.removesuffix(" {")
            rules.append(table)
        elif line.strip() not in ("", "}"):
            rules.append(f"{table}: {line.strip()}")
    return rules


def _processes() -> list[str]:
    """Processes that this test session started, however deep: they carry its mark."""
    mark = f"{MARK}={os.environ.get(MARK, '')}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            if mark in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                command = (
                    Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                found.append(f"{entry} {command.strip()}")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def _files() -> list[str]:
    """Entries of the directories that programs leave things in; pytest's own are its own to rotate."""
    kept = ("pytest-of-", "pymp-", "uv-")
    return [
        f"{folder}/{name}"
        for folder in ("/tmp", "/run", "/var/lib", "/dev/shm")
        for name in _listing(folder)
        if not name.startswith(kept)
    ]
