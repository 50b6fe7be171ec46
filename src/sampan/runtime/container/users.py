"""Users and groups of the image, from its own /etc/passwd and /etc/group, never from the host's NSS.

CVE-2019-14271: asking the C library inside a container's root loads the image's libnss into a privileged
process. So the files are parsed here, opened beneath the root's descriptor.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from sampan.linux.path import open_in_root
from sampan.runtime.interface import LaunchError

MAX_ID = (1 << 31) - 1
_MAX_FILE = 16 << 20
"""Bytes of passwd or group that are read: a hostile image must not fill our memory."""


class Identity(NamedTuple):
    """A resolved user."""

    uid: int
    gid: int
    additional: list[int]
    home: str


def read_lines(root: int, path: str) -> list[list[str]]:
    """The lines of a file in the image, split at colons; none when there is no such regular file."""
    try:
        # O_NONBLOCK: the image may have put a FIFO there, on which we would wait for ever.
        descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return []
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return []
        data = b""
        while len(data) < _MAX_FILE and (part := os.read(descriptor, 1 << 16)):
            data += part
    finally:
        os.close(descriptor)
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    # Neither file has more fields than eight: a line of colons is not to become millions of strings.
    return [line.split(":", 7) for line in lines if line.strip()]


def home_of(root: int, uid: int) -> str:
    """The home directory of `uid` as the image has it; "/" when it does not say."""
    for fields in read_lines(root, "etc/passwd"):
        if len(fields) >= 6 and _number(fields[2]) == uid:
            return fields[5]
    return "/"


def resolve(root: int, user: str, groups: list[str]) -> Identity:
    """Docker's USER syntax, `name|uid[:group|gid]`, and `--group-add` names or numbers, by the image's files.

    Without a group, the user's own and all groups that list the user's name. Raises LaunchError in Docker's
    words for a name that does not exist and for numbers beyond 2**31-1 (CVE-2024-40635: larger ones wrapped
    around to root).
    """
    name, colon, group = user.partition(":")
    passwd = read_lines(root, "etc/passwd")
    entry = _find_user(passwd, name)
    uid = _id(name) if entry is None else int(entry[2])
    gid = _number(entry[3]) or 0 if entry is not None else 0
    home = entry[5] if entry is not None and len(entry) >= 6 else "/"
    table = read_lines(root, "etc/group") if group or groups or entry is not None else []
    additional: list[int] = []
    if colon and group:
        gid = _group_id(table, group)
    elif entry is not None:
        additional = [
            int(fields[2])
            for fields in table
            if len(fields) >= 4 and _number(fields[2]) is not None and entry[0] in fields[3].split(",")
        ]
    # The primary group as well: a program that drops it must not keep, or regain, what a missing entry hides
    # (CVE-2022-36109). Groups named twice stay twice, as dockerd passes them.
    additional = [gid, *additional, *(_group_id(table, extra) for extra in groups)]
    for number in (uid, gid, *additional):
        _check_range(number)
    return Identity(uid, gid, additional, home)


def _find_user(passwd: list[list[str]], name: str) -> list[str] | None:
    wanted = _number(name) if name else 0
    for fields in passwd:
        if len(fields) < 4 or _number(fields[2]) is None:
            continue
        if fields[0] == name or (wanted is not None and int(fields[2]) == wanted):
            return fields
    return None


def _id(name: str) -> int:
    if not name:
        return 0
    number = _number(name)
    if number is None:
        raise LaunchError(f"unable to find user {name}: no matching entries in passwd file", "other")
    return number


def _group_id(table: list[list[str]], name: str) -> int:
    number = _number(name)
    for fields in table:
        if len(fields) >= 3 and fields[0] == name and _number(fields[2]) is not None:
            return int(fields[2])
    if number is None:
        raise LaunchError(f"unable to find group {name}: no matching entries in group file", "other")
    return number


def _number(text: str) -> int | None:
    if not text.isascii():
        return None
    return int(text) if text.removeprefix("-").isdigit() and len(text) < 20 else None


def _check_range(number: int) -> None:
    if not 0 <= number <= MAX_ID:
        raise LaunchError("uids and gids must be in range 0-2147483647", "other")
