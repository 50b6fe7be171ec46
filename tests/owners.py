"""Whose is what is left over on the machine: the test session's, or somebody's who works beside it; and who holds it.

Read when something is left over only, so it may take its time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

_MARK = re.compile(r"sampan-([0-9a-f]{8})")


class Owners:
    """The processes of this moment. `mark`: NAME=VALUE in the environment of the session's own."""

    def __init__(self, mark: str) -> None:
        self._parents: dict[int, int] = {}
        self._commands: dict[int, str] = {}
        self._marked: set[int] = set()
        for pid in _pids():
            try:
                place = Path("/proc", str(pid))
                self._parents[pid] = int(place.joinpath("stat").read_text().rpartition(")")[2].split()[1])
                self._commands[pid] = " ".join(
                    place.joinpath("cmdline").read_bytes().decode(errors="replace").split("\0")
                ).strip()
                if mark.encode() in place.joinpath("environ").read_bytes().split(b"\0"):
                    self._marked.add(pid)
            except (OSError, IndexError):
                continue
        self._holders = self._read_holders()

    def ours(self, pid: int) -> bool:
        """The session started it, or something that the session started did."""
        while pid > 1:
            if pid in self._marked or pid == os.getpid():
                return True
            pid = self._parents.get(pid, 0)
        return False

    def somebody_elses(self, kind: str, item: str) -> bool:
        """True when a living process that is not the session's has it."""
        if kind == "links":
            link = _link(item)
            master = _link(str(link["master"])) if link.get("master") else {}
            return any(
                self._foreign_engine(str(each.get("ifalias", "")), str(each.get("ifname", "")))
                for each in (link, master)
            )
        if kind == "firewall":
            return self._foreign_engine(item, "")
        if kind == "cgroups":
            users = _cgroup_users(item)
            return bool(users) and not any(self.ours(pid) for pid in users)
        if kind in ("files", "mounts"):
            return self._used_by_others(item)
        return False

    def describe(self, kind: str, item: str) -> str:
        """The item and who holds it, as one line."""
        if kind == "links":
            return f"{item} ({self._about_link(item)})"
        if kind == "cgroups":
            return f"{item} ({self._named(_cgroup_users(item)) or 'no process in it'})"
        if kind in ("files", "mounts"):
            users = {pid for pid, text in self._texts() if _beneath(item, text)}
            return f"{item} ({self._named(users) or 'used by no process'})"
        return item

    # --- engines --------------------------------------------------------------------------------------------------------

    def _foreign_engine(self, text: str, interface: str) -> bool:
        """A living engine outside the session has marked it, or has the interface as its bridge."""
        found = _MARK.search(text)
        for pid, command in self._commands.items():
            if "sampan.serve" not in command or self.ours(pid):
                continue
            root = re.search(r"--data-root[ =](\S+)", command)
            mark = hashlib.sha256((root[1] if root else "/var/lib/sampan").encode()).hexdigest()[:8]
            if (found and found[1] == mark) or (interface and f"--bridge {interface}" in command):
                return True
        return False

    # --- links ------------------------------------------------------------------------------------------------------------

    def _about_link(self, name: str) -> str:
        link = _link(name)
        if not link:
            return "gone meanwhile"
        kind = link.get("linkinfo", {}).get("info_kind", "link")  # type: ignore[attr-defined]
        words = [str(kind), f"alias {link.get('ifalias', 'none')}", f"master {link.get('master', 'none')}"]
        index = link.get("link_index")
        if "link_netnsid" in link and isinstance(index, int):
            words.append(self._about_peer(index, int(str(link["ifindex"]))))
        connections = subprocess.run(["ss", "-Htanp"], capture_output=True, text=True, check=False).stdout
        odd = [line for line in connections.splitlines() if not line.startswith(("LISTEN", "ESTAB"))]
        if odd:
            words.append(
                "connections ending on the host: " + "; ".join(" ".join(each.split()) for each in odd)
            )
        return ", ".join(words)

    def _about_peer(self, index: int, ours: int) -> str:
        """Who holds the namespace in which the other end of a veth pair is."""
        for namespace, holders in self._holders.items():
            inside = [pid for pid in holders if _netns(pid) == namespace]
            if not inside:
                continue
            done = subprocess.run(
                ["nsenter", "-t", str(inside[0]), "-n", "ip", "-j", "link"],
                capture_output=True,
                text=True,
                check=False,
            )
            for link in json.loads(done.stdout or "[]"):
                if link.get("ifindex") == index and link.get("link_index") == ours:
                    return f"its peer {link['ifname']} is in {namespace} of {self._named(holders)}"
        nowhere = [
            f"{namespace} held by {self._named(holders)}"
            for namespace, holders in self._holders.items()
            if all(_netns(pid) != namespace for pid in holders)
        ]
        return "its peer is in a namespace without a process: an orphaned socket or a descriptor keeps it" + (
            f" (descriptors: {'; '.join(nowhere)})" if nowhere else ""
        )

    def _read_holders(self) -> dict[str, set[int]]:
        """Processes by the network namespace that they are in or have a descriptor of, the own one aside."""
        found: dict[str, set[int]] = {}
        for pid in self._parents:
            for name in (_netns(pid), *(text for text in _descriptors(pid) if text.startswith("net:["))):
                if name:
                    found.setdefault(name, set()).add(pid)
        found.pop(_netns(os.getpid()), None)
        return found

    # --- files ------------------------------------------------------------------------------------------------------------

    def _used_by_others(self, path: str) -> bool:
        users = {pid for pid, text in self._texts() if _beneath(path, text)}
        return bool(users) and not any(self.ours(pid) for pid in users)

    def _texts(self) -> Iterator[tuple[int, str]]:
        """Every path that a process has open, stands in or was started with."""
        for pid, command in self._commands.items():
            for word in command.split():
                yield pid, word.rpartition("=")[2]
            yield pid, _readlink(f"/proc/{pid}/cwd")
            for text in _descriptors(pid):
                yield pid, text

    def _named(self, pids: set[int]) -> str:
        return ", ".join(f"{pid} {self._commands.get(pid, '')[:80]}" for pid in sorted(pids))


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def _netns(pid: int) -> str:
    return _readlink(f"/proc/{pid}/ns/net")


def _descriptors(pid: int) -> list[str]:
    try:
        return [_readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


def _readlink(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _beneath(folder: str, path: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _cgroup_users(path: str) -> set[int]:
    found: set[int] = set()
    for folder, _, _ in os.walk(path):
        try:
            found.update(int(each) for each in Path(folder, "cgroup.procs").read_text().split())
        except OSError:
            continue
    return found


def _link(name: str) -> dict[str, object]:
    done = subprocess.run(
        ["ip", "-j", "-d", "link", "show", name], capture_output=True, text=True, check=False
    )
    found: list[dict[str, object]] = json.loads(done.stdout or "[]")
    return found[0] if found else {}
