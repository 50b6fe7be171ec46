"""Mount options of the specification, in fstab's words, as flags. mount(8), config.md "Linux mount options"."""

from __future__ import annotations

from typing import NamedTuple

from sampan.linux.mount import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)

_ATTRIBUTES: dict[str, tuple[bool, int]] = {
    "ro": (True, MOUNT_ATTR_RDONLY),
    "rw": (False, MOUNT_ATTR_RDONLY),
    "nosuid": (True, MOUNT_ATTR_NOSUID),
    "suid": (False, MOUNT_ATTR_NOSUID),
    "nodev": (True, MOUNT_ATTR_NODEV),
    "dev": (False, MOUNT_ATTR_NODEV),
    "noexec": (True, MOUNT_ATTR_NOEXEC),
    "exec": (False, MOUNT_ATTR_NOEXEC),
    "nodiratime": (True, MOUNT_ATTR_NODIRATIME),
    "diratime": (False, MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (True, MOUNT_ATTR_NOSYMFOLLOW),
    "symfollow": (False, MOUNT_ATTR_NOSYMFOLLOW),
}
"""Option → (set or clear, attribute); each also exists with the prefix "r", recursive."""

_ACCESS_TIME = {
    "noatime": MOUNT_ATTR_NOATIME,
    "atime": MOUNT_ATTR_RELATIME,
    "relatime": MOUNT_ATTR_RELATIME,
    "norelatime": MOUNT_ATTR_STRICTATIME,
    "strictatime": MOUNT_ATTR_STRICTATIME,
    "nostrictatime": MOUNT_ATTR_RELATIME,
}
"""How access times are kept is one field of the attributes, not a bit."""

_PROPAGATION = {
    "private": MS_PRIVATE,
    "shared": MS_SHARED,
    "slave": MS_SLAVE,
    "unbindable": MS_UNBINDABLE,
}

_SUPERBLOCK = frozenset(
    {"sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand", "silent", "loud"}
    | {"iversion", "noiversion", "acl", "noacl"}
)
"""Flags of the file system, not of the mount."""

_NEGATIVE = {"async", "nolazytime", "nomand", "loud", "noiversion", "noacl", "acl", "silent", "iversion"}
"""Those that state the default, or that the kernel has forgotten: accepted, without effect."""


class Attributes(NamedTuple):
    """What mount_setattr shall set and clear."""

    set: int = 0
    clear: int = 0

    def with_option(self, is_set: bool, attribute: int) -> Attributes:
        """The later of two contradicting options wins, as in mount(8)."""
        if is_set:
            return Attributes(self.set | attribute, self.clear & ~attribute)
        return Attributes(self.set & ~attribute, self.clear | attribute)

    def with_access_time(self, value: int) -> Attributes:
        return Attributes((self.set & ~MOUNT_ATTR__ATIME) | value, self.clear | MOUNT_ATTR__ATIME)


class MountOptions(NamedTuple):
    """One mount's options, sorted by who acts on them."""

    attributes: Attributes
    recursive_attributes: Attributes
    """For the mount and all beneath it."""
    propagation: list[tuple[int, bool]]
    """(MS_PRIVATE…, recursive), in order."""
    bind: bool
    recursive_bind: bool
    superblock: list[str]
    """Flags that concern the whole file system: "sync", "ro"…"""
    data: list[str]
    """Options for the file system itself, `key` or `key=value`."""
    copy_up: bool
    """tmpcopyup: a tmpfs begins as a copy of the directory that it covers."""
    id_mapped: bool = False
    recursive_id_mapped: bool = False

    @property
    def read_only(self) -> bool:
        return bool(self.attributes.set & MOUNT_ATTR_RDONLY)


def known_options() -> list[str]:
    """Every option that has a meaning of its own here, sorted: for the features document."""
    names = {
        *_ATTRIBUTES,
        *_ACCESS_TIME,
        *_SUPERBLOCK,
        "bind",
        "rbind",
        "defaults",
        "remount",
        "tmpcopyup",
        "idmap",
        "ridmap",
    }
    names |= {"r" + name for name in (*_ATTRIBUTES, *_ACCESS_TIME)}
    names |= {*_PROPAGATION, *("r" + name for name in _PROPAGATION)}
    return sorted(names)


def parse_options(options: list[str], fstype: str = "") -> MountOptions:
    """Sort a mount's options; `fstype` "bind" means bind, as Docker and Podman write it."""
    own = Attributes()
    recursive = Attributes()
    propagation: list[tuple[int, bool]] = []
    superblock: list[str] = []
    data: list[str] = []
    bind = fstype in ("bind", "rbind")
    recursive_bind = fstype == "rbind"
    copy_up = False
    id_mapped = recursive_id_mapped = False
    for option in options:
        plain = option[1:] if option.startswith("r") else ""
        if option in _ATTRIBUTES:
            own = own.with_option(*_ATTRIBUTES[option])
        elif option in _ACCESS_TIME:
            own = own.with_access_time(_ACCESS_TIME[option])
        elif option in ("bind", "rbind"):
            bind = True
            recursive_bind = recursive_bind or option == "rbind"
        elif option in _PROPAGATION:
            propagation.append((_PROPAGATION[option], False))
        elif plain in _PROPAGATION:
            propagation.append((_PROPAGATION[plain], True))
        elif plain in _ATTRIBUTES:
            recursive = recursive.with_option(*_ATTRIBUTES[plain])
        elif plain in _ACCESS_TIME:
            recursive = recursive.with_access_time(_ACCESS_TIME[plain])
        elif option in ("idmap", "ridmap"):
            id_mapped, recursive_id_mapped = True, recursive_id_mapped or option == "ridmap"
        elif option == "tmpcopyup":
            copy_up = True
        elif option in _SUPERBLOCK:
            if option not in _NEGATIVE:
                superblock.append(option)
        elif option not in ("defaults", "remount", ""):
            data.append(option)
    return MountOptions(
        own,
        recursive,
        propagation,
        bind,
        recursive_bind,
        superblock,
        data,
        copy_up,
        id_mapped,
        recursive_id_mapped,
    )
