"""Go's `os.FileMode`, in which `docker cp` and fsutil write a file's type and permissions, and the kernel's `st_mode`."""

from __future__ import annotations

import stat
from functools import lru_cache

_TYPES = {
    1 << 31: stat.S_IFDIR,
    1 << 27: stat.S_IFLNK,
    1 << 26: stat.S_IFBLK,
    1 << 26 | 1 << 21: stat.S_IFCHR,
    1 << 25: stat.S_IFIFO,
    1 << 24: stat.S_IFSOCK,
    0: stat.S_IFREG,
}
_NUMBERS = {kind: bits for bits, kind in _TYPES.items()}
_TYPE_BITS = 1 << 31 | 1 << 27 | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19
_SPECIAL = {1 << 23: stat.S_ISUID, 1 << 22: stat.S_ISGID, 1 << 20: stat.S_ISVTX}


@lru_cache(maxsize=1024)
def to_kernel(mode: int) -> int:
    """`st_mode` of a Go mode. Raises `ValueError` for a type that no Unix has."""
    kind = _TYPES.get(mode & _TYPE_BITS)
    if kind is None:
        raise ValueError(f"file mode {mode:#o} is of no known type")
    special = sum(bit for go, bit in _SPECIAL.items() if mode & go)
    return kind | special | mode & 0o777


def from_kernel(mode: int) -> int:
    """The Go mode of an `st_mode`."""
    special = sum(go for go, bit in _SPECIAL.items() if mode & bit)
    return _NUMBERS[stat.S_IFMT(mode)] | special | mode & 0o777


def has_data(mode: int) -> bool:
    """Whether fsutil's sender numbers a file among those whose content can be asked for: it has no type bit at all."""
    return not mode & _TYPE_BITS
