"""Session keyrings: a container must not share its creator's keys. keyctl(2)."""

from __future__ import annotations

import ctypes
import os

from sampan.linux.libc import syscall, syscall_number

_GET_KEYRING_ID = 0
_JOIN_SESSION_KEYRING = 1
_DESCRIBE = 6
_SETPERM = 5
_SESSION_KEYRING = -3


def join_session_keyring(name: str) -> int:
    """Leave the inherited session keyring for a fresh one of this name; its serial number. May raise ENOSYS,
    EDQUOT.
    """
    return syscall(
        syscall_number("keyctl"), _JOIN_SESSION_KEYRING, ctypes.c_char_p(os.fsencode(name)), 0, 0, 0
    )


def session_keyring() -> int:
    """Serial number of this thread's session keyring."""
    return syscall(syscall_number("keyctl"), _GET_KEYRING_ID, _SESSION_KEYRING, 0, 0, 0)


def set_permissions(serial: int, mask: int) -> None:
    """Replace a key's permission mask (possessor, user, group, other: a byte each)."""
    syscall(syscall_number("keyctl"), _SETPERM, serial, mask, 0, 0)


def permissions(serial: int) -> int:
    """A key's permission mask."""
    buffer = ctypes.create_string_buffer(512)
    length = syscall(syscall_number("keyctl"), _DESCRIBE, serial, buffer, len(buffer), 0)
    # "type;uid;gid;perm;description"
    return int(buffer.raw[: length - 1].split(b";")[3], 16)
