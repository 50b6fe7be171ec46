"""What a stream is, by its first bytes. Light: command lines look here too."""

from __future__ import annotations

_BLOCK = 512
_CHECKSUM = slice(148, 156)
_MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bz2"),
)


def detect(start: bytes) -> str:
    """`gzip`, `zstd`, `xz`, `bz2` or `none`, by the first bytes (zstd's skippable frames included)."""
    for magic, name in _MAGICS:
        if start.startswith(magic):
            return name
    if len(start) >= 4 and start[0] & 0xF0 == 0x50 and start[1:4] == b"\x2a\x4d\x18":
        return "zstd"
    return "none"


def is_archive(start: bytes) -> bool:
    """Whether it is a tar or something compressed: what stands for files where a single file could be meant as well.

    A tar is known by its first header's checksum (of 512 bytes), which old ones without a magic have too.
    """
    if detect(start) != "none":
        return True
    if len(start) < _BLOCK:
        return False
    header = bytearray(start[:_BLOCK])
    told = bytes(header[_CHECKSUM]).split(b"\0")[0].strip()
    header[_CHECKSUM] = b" " * 8
    try:
        return any(start[:_BLOCK]) and int(told, 8) == sum(header)
    except ValueError:
        return False
