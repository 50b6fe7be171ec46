"""Namespaces: which flags make them, how to visit one and come back, what a new one needs written.

namespaces(7), user_namespaces(7), time_namespaces(7).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.linux import process
from sampan.runtime.container.failure import Step
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from sampan.oci.runtime import IDMapping, Spec, TimeOffset

FLAGS: dict[str, int] = {
    "mount": process.CLONE_NEWNS,
    "cgroup": process.CLONE_NEWCGROUP,
    "uts": process.CLONE_NEWUTS,
    "ipc": process.CLONE_NEWIPC,
    "user": process.CLONE_NEWUSER,
    "pid": process.CLONE_NEWPID,
    "network": process.CLONE_NEWNET,
    "time": process.CLONE_NEWTIME,
}
"""The specification's name → clone flag."""

PROC_NAMES: dict[str, str] = {
    "mount": "mnt", "cgroup": "cgroup", "uts": "uts", "ipc": "ipc", "user": "user", "pid": "pid",
    "network": "net", "time": "time",
}  # fmt: skip
"""The specification's name → file in /proc/PID/ns."""


def flags_of(types: Iterable[str]) -> int:
    """Clone flags of these namespace types."""
    flags = 0
    for name in types:
        flags |= FLAGS[name]
    return flags


def of_spec(spec: Spec) -> tuple[set[str], dict[str, str]]:
    """(types to make, type → path to join) that the spec asks for."""
    new: set[str] = set()
    joined: dict[str, str] = {}
    for namespace in spec.get("linux", {}).get("namespaces", []):
        path = namespace.get("path", "")
        if path:
            joined[namespace["type"]] = path
        else:
            new.add(namespace["type"])
    return new, joined


def open_own(kind: str) -> int:
    """A descriptor of the caller's namespace of this type."""
    return os.open(f"/proc/self/ns/{PROC_NAMES[kind]}", os.O_RDONLY | os.O_CLOEXEC)


def open_path(kind: str, path: str) -> int:
    """A descriptor of the namespace at `path`. Raises LaunchError."""
    with Step(f'opening {kind} namespace "{path}"'):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def is_own(kind: str, descriptor: int) -> bool:
    """Whether the descriptor's namespace is the one that the caller lives in."""
    own = os.stat(f"/proc/self/ns/{PROC_NAMES[kind]}")
    other = os.fstat(descriptor)
    return (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)


class Visit:
    """While inside, children are born in the given namespaces; afterwards the caller is back in its own.

    For a single-threaded parent only, and for namespaces that can be left again: not mount, not user. A parent
    that cannot come back ends itself: it must not go on living inside a container.
    """

    def __init__(self, descriptors: Mapping[str, int], time_offsets: Mapping[str, TimeOffset] | None) -> None:
        self._descriptors = descriptors
        self._time_offsets = time_offsets
        self._own: list[tuple[int, int]] = []

    def __enter__(self) -> None:
        for kind, descriptor in self._descriptors.items():
            self._own.append((open_own(kind), FLAGS[kind]))
            with Step(f"joining the {kind} namespace"):
                process.setns(descriptor, FLAGS[kind])
        if self._time_offsets is not None:
            # Offsets can only be written while the namespace has no process in it; clone would put one in.
            self._own.append((open_own("time"), FLAGS["time"]))
            with Step("making the time namespace"):
                process.unshare(FLAGS["time"])
                write_time_offsets(self._time_offsets)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for descriptor, flag in reversed(self._own):
                process.setns(descriptor, flag)
                os.close(descriptor)
        except OSError:
            os._exit(70)


def write_time_offsets(offsets: Mapping[str, TimeOffset]) -> None:
    """Offsets of the caller's time namespace for children. timens_offsets takes "clock seconds nanoseconds"."""
    text = "".join(
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n" for clock, offset in offsets.items()
    )
    if text:
        descriptor = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def write_id_mappings(pid: int, uids: list[IDMapping], gids: list[IDMapping]) -> None:
    """Give the new user namespace of `pid` its mappings. Raises LaunchError."""
    if not uids or not gids:
        raise LaunchError("user namespaces enabled, but no uid/gid mappings found", "other")
    if os.geteuid() != 0:
        # CVE-2014-8989: without this an ordinary user could drop a group that denies him something.
        with Step("denying setgroups"):
            _write(f"/proc/{pid}/setgroups", "deny")
    with Step("writing the uid mapping"):
        _write(f"/proc/{pid}/uid_map", _mapping(uids))
    with Step("writing the gid mapping"):
        _write(f"/proc/{pid}/gid_map", _mapping(gids))


def _mapping(entries: list[IDMapping]) -> str:
    return "".join(f"{e['containerID']} {e['hostID']} {e['size']}\n" for e in entries)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
