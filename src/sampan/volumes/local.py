"""The driver `local`: a directory per volume, on which options can mount something else.

`<root>/<name>/_data` holds the data. The options are those of mount(8): `type`, `o`, `device`; `size` is a quota, which
needs project quotas that Sampan does not have, and is refused in Docker's words.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from sampan.errors import InvalidParameter, SystemFailure, reason_of
from sampan.linux import mount as mnt
from sampan.names.addresses import is_address
from sampan.names.units import parse_memory

DRIVER = "local"
DATA = "_data"

_OPTIONS = ("type", "o", "device", "size")
_REQUIRED = {"device": ("type",), "type": ("device",), "o": ("device", "type")}

_FLAGS: dict[str, tuple[bool, int]] = {
    "defaults": (False, 0),
    "async": (True, mnt.MS_SYNCHRONOUS),
    "atime": (True, mnt.MS_NOATIME),
    "bind": (False, mnt.MS_BIND),
    "dev": (True, mnt.MS_NODEV),
    "diratime": (True, mnt.MS_NODIRATIME),
    "dirsync": (False, mnt.MS_DIRSYNC),
    "exec": (True, mnt.MS_NOEXEC),
    "mand": (False, mnt.MS_MANDLOCK),
    "noatime": (False, mnt.MS_NOATIME),
    "nodev": (False, mnt.MS_NODEV),
    "nodiratime": (False, mnt.MS_NODIRATIME),
    "noexec": (False, mnt.MS_NOEXEC),
    "nomand": (True, mnt.MS_MANDLOCK),
    "norelatime": (True, mnt.MS_RELATIME),
    "nostrictatime": (True, mnt.MS_STRICTATIME),
    "nosuid": (False, mnt.MS_NOSUID),
    "private": (False, mnt.MS_PRIVATE),
    "rbind": (False, mnt.MS_BIND | mnt.MS_REC),
    "relatime": (False, mnt.MS_RELATIME),
    "remount": (False, mnt.MS_REMOUNT),
    "ro": (False, mnt.MS_RDONLY),
    "rprivate": (False, mnt.MS_PRIVATE | mnt.MS_REC),
    "rshared": (False, mnt.MS_SHARED | mnt.MS_REC),
    "rslave": (False, mnt.MS_SLAVE | mnt.MS_REC),
    "runbindable": (False, mnt.MS_UNBINDABLE | mnt.MS_REC),
    "rw": (True, mnt.MS_RDONLY),
    "shared": (False, mnt.MS_SHARED),
    "slave": (False, mnt.MS_SLAVE),
    "strictatime": (False, mnt.MS_STRICTATIME),
    "suid": (True, mnt.MS_NOSUID),
    "sync": (False, mnt.MS_SYNCHRONOUS),
    "unbindable": (False, mnt.MS_UNBINDABLE),
}
"""Words of `o` that are flags of mount(2): (clears, flag). Everything else is the file system's own."""

_ATTRIBUTES = (
    (mnt.MS_RDONLY, mnt.MOUNT_ATTR_RDONLY),
    (mnt.MS_NOSUID, mnt.MOUNT_ATTR_NOSUID),
    (mnt.MS_NODEV, mnt.MOUNT_ATTR_NODEV),
    (mnt.MS_NOEXEC, mnt.MOUNT_ATTR_NOEXEC),
)

_PROPAGATION = mnt.MS_PRIVATE | mnt.MS_SHARED | mnt.MS_SLAVE | mnt.MS_UNBINDABLE


def check_options(options: Mapping[str, str]) -> None:
    """Refuse what could never be mounted. Raises InvalidParameter in Docker's words."""
    for name in options:
        if name not in _OPTIONS:
            raise InvalidParameter(f'invalid option: "{name}"')
    if options.get("type") == "cifs" and _port(options.get("device", "")):
        raise InvalidParameter("port not allowed in CIFS device URL, include 'port' in 'o='")
    if "size" in options and parse_memory(options["size"]) > 0:
        raise InvalidParameter("quota size requested but no quota support")
    for name, required in _REQUIRED.items():
        if name in options:
            for other in required:
                if other not in options:
                    raise InvalidParameter(f'missing required option: "{other}"')


def parse_mount_options(text: str) -> tuple[int, str]:
    """Flags of mount(2) and the rest, for the file system."""
    flags = 0
    data: list[str] = []
    for word in text.split(","):
        if word in _FLAGS:
            clears, flag = _FLAGS[word]
            flags = flags & ~flag if clears else flags | flag
        elif word:
            data.append(word)
    return flags, ",".join(data)


def mount_data(options: Mapping[str, str], target: str) -> None:
    """Mount what the options say on the volume's data directory. Raises SystemFailure; passwords are not shown."""
    device, kind, text = options.get("device", ""), options.get("type", ""), options.get("o", "")
    if not device:
        raise SystemFailure("missing device in volume options")
    if kind in ("nfs", "cifs"):
        device, text = _resolve_addresses(device, kind, text)
    flags, data = parse_mount_options(text)
    try:
        _mount(device, target, kind, flags, data)
    except OSError as error:
        shown = f"mount {device}:{target}" + (f", flags: {flags:#x}" if flags else "")
        shown += f", data: {data}" if data else ""
        reason = f"failed to mount local volume: {shown}: {reason_of(error)}"
        message = f"error while mounting volume '{target}': {reason}"
        raise SystemFailure(_without_password(message, text)) from None


def unmount_data(target: str) -> None:
    """Undo `mount_data`; fine when nothing is mounted. Raises SystemFailure when the kernel refuses."""
    try:
        mnt.umount(target)
    except OSError as error:
        if os.path.ismount(target):
            raise SystemFailure(f"unmount {target}: {reason_of(error)}") from error


def _mount(device: str, target: str, kind: str, flags: int, data: str) -> None:
    """As mount(8) does: one option can need several calls of mount(2)."""
    plain = flags & ~(_PROPAGATION | (0 if flags & mnt.MS_BIND else mnt.MS_REC))
    if flags & mnt.MS_BIND and flags & mnt.MS_RDONLY:
        _bind_read_only(device, target, plain)
    else:
        mnt.mount(device, target, kind, plain, data or None)
    try:
        if flags & _PROPAGATION:
            mnt.mount("", target, "", flags & (_PROPAGATION | mnt.MS_REC))
    except OSError:
        mnt.umount(target, mnt.MNT_DETACH)
        raise


def _bind_read_only(device: str, target: str, flags: int) -> None:
    """A bind mount that is read-only from its first moment.

    Shims' mount namespaces get a copy of it when it is attached; a later remount would change this one only, and the
    container could write.
    """
    tree = mnt.clone_mount(device, recursive=bool(flags & mnt.MS_REC))
    try:
        attributes = sum(attribute for flag, attribute in _ATTRIBUTES if flags & flag)
        mnt.mount_setattr(tree, set_attributes=attributes)
        mnt.move_mount(tree, mnt.AT_FDCWD, target)
    finally:
        os.close(tree)


def _resolve_addresses(device: str, kind: str, options: str) -> tuple[str, str]:
    """The kernel's NFS and CIFS clients want addresses where users write names."""
    address = next((word[5:] for word in options.split(",") if word.startswith("addr=")), "")
    if address and not is_address(address):
        return device, options.replace(f"addr={address}", f"addr={_resolve(address)}", 1)
    if kind == "cifs":
        url = urlsplit(device)
        if url.hostname and not is_address(url.hostname):
            device = urlunsplit(url._replace(netloc=url.netloc.replace(url.hostname, _resolve(url.hostname))))
    return device, options


def _resolve(name: str) -> str:
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise SystemFailure(
            f"error resolving passed in network volume address: lookup {name}: {error}"
        ) from error


def _port(device: str) -> bool:
    try:
        return urlsplit(device).port is not None
    except ValueError as error:
        raise InvalidParameter(f"error parsing mount device url: {error}") from None


def _without_password(message: str, options: str) -> str:
    for word in options.split(","):
        if word.startswith("password=") and word != "password=":
            message = message.replace(word, "password=********")
    return message
