"""`--userns-remap`: which ids of the host the containers' users get, and where such an engine keeps its state.

user_namespaces(7), subuid(5). The ranges are root's to give: /etc/subuid and /etc/subgid name them per user. Every mapping has a
data root of its own, `UID.GID` beneath the configured one, as with dockerd.
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter, SampanError, SystemFailure
from sampan.oci.remapping import Remapping

if TYPE_CHECKING:
    from sampan.oci.runtime import IDMapping
    from sampan.zygote.workers import Workers

DEFAULT_USER = "dockremap"
_SUBUID, _SUBGID = Path("/etc/subuid"), Path("/etc/subgid")
_FIRST, _SIZE = 100_000, 65_536
"""Where ranges of users begin, and how many ids one gets, as with useradd(8)."""


def remapping(setting: str) -> Remapping | None:
    """The mappings that `default`, `user`, `uid`, `user:group`… stands for; None without a setting, or for root.

    `default` makes user and group `dockremap` with ranges of their own when there are none. Raises
    `InvalidParameter` and `SystemFailure` in dockerd's words.
    """
    if not setting:
        return None
    user, group = _user_and_group(setting)
    if user == "root":
        return None  # root as itself: user namespaces are off
    uids = _ranges(_SUBUID, user, pwd.getpwnam(user).pw_uid)
    gids = _ranges(_SUBGID, group, grp.getgrnam(group).gr_gid) or _ranges(
        _SUBGID, user, pwd.getpwnam(user).pw_uid
    )
    for kind, found, file in (("uid", uids, _SUBUID), ("gid", gids, _SUBGID)):
        if not found:
            raise SystemFailure(
                f'Can\'t create ID mappings: no sub{kind} ranges found for user "{user}" in {file}'
            )
    return Remapping(uids, gids)


def data_root(configured: str, remapped: Remapping) -> str:
    """The directory of this mapping's state. The containers' root may pass the outer one, and read neither."""
    uid, gid = remapped.root
    outer = Path(configured)
    outer.mkdir(mode=0o711, parents=True, exist_ok=True)
    inner = outer / f"{uid}.{gid}"
    inner.mkdir(mode=0o710, exist_ok=True)
    os.chown(inner, 0, gid)
    inner.chmod(0o710)
    return str(inner)


async def check_kernel(workers: Workers, directory: Path, remapped: Remapping) -> None:
    """Raises `SystemFailure` when the images' layers cannot be shown to containers under other owners."""
    scratch = directory / ".idmap-check"
    arguments = {"directory": str(scratch), **remapped._asdict()}
    try:
        await workers.run("sampan.runtime.container.idmapped:check_job", arguments)
    except SampanError as error:
        raise SystemFailure(
            f"--userns-remap needs id-mapped layers, which Linux 5.19 has on ext4, xfs and btrfs: {error}"
        ) from error


def _user_and_group(setting: str) -> tuple[str, str]:
    """Names, from names and numbers."""
    parts = setting.split(":")
    if len(parts) > 2:
        raise InvalidParameter(f'Invalid user/group specification in --userns-remap: "{setting}"')
    if parts[0].isdecimal():
        user = _name_of_uid(int(parts[0]))
        group = _name_of_gid(int(parts[0])) if len(parts) == 1 else ""
    else:
        user = group = DEFAULT_USER if parts[0] == "default" else parts[0]
        if not _exists(pwd.getpwnam, user):
            if parts[0] != "default":
                raise InvalidParameter(
                    f'Error during uid lookup for "{user}": no such user: there is none in /etc/passwd'
                )
            _make_user(user)
        if len(parts) == 1 and not _exists(grp.getgrnam, group):
            raise InvalidParameter(
                f'Error during gid lookup for "{group}": no such group: there is none in /etc/group'
            )
    if len(parts) == 2:
        group = _name_of_gid(int(parts[1])) if parts[1].isdecimal() else parts[1]
        if not _exists(grp.getgrnam, group):
            raise InvalidParameter(
                f'Error during groupname lookup for "{group}": no such group: there is none in /etc/group'
            )
    return user, group


def _name_of_uid(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise InvalidParameter(f"Uid {uid} has no entry in /etc/passwd: no such user") from None


def _name_of_gid(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        raise InvalidParameter(f"Gid {gid} has no entry in /etc/group: no such group") from None


def _exists(look_up: object, name: str) -> bool:
    assert callable(look_up)
    try:
        look_up(name)
    except KeyError:
        return False
    return True


def _ranges(file: Path, name: str, number: int) -> list[IDMapping]:
    """The lines of a user, by name or number, one after the other from id 0 on."""
    found: list[IDMapping] = []
    inside = 0
    for owner, first, size in _lines(file):
        if owner in (name, str(number)):
            found.append({"containerID": inside, "hostID": first, "size": size})
            inside += size
    return found


def _lines(file: Path) -> list[tuple[str, int, int]]:
    lines: list[tuple[str, int, int]] = []
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
            lines.append((parts[0], int(parts[1]), int(parts[2])))
    return lines


def _make_user(name: str) -> None:
    """A system user with ranges that nobody else has."""
    _run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", name)
    for file, option in ((_SUBUID, "--add-subuids"), (_SUBGID, "--add-subgids")):
        lines = _lines(file)
        if not any(owner == name for owner, _, _ in lines):
            first = max([_FIRST, *(start + size for _, start, size in lines)])
            _run("usermod", option, f"{first}-{first + _SIZE - 1}", name)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemFailure(f'Error during "{DEFAULT_USER}" user creation: {command[0]}: {error}') from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise SystemFailure(f'Error during "{DEFAULT_USER}" user creation: {command[0]}: {said}')
