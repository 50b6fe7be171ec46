"""Content digests: `algorithm:hex`, validated, as the OCI image spec defines them (descriptor.md,
"Digests").
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NewType

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from hashlib import _Hash

Digest = NewType("Digest", str)
"""A digest that has passed `parse_digest` or was computed here; a plain `str` at run time."""

HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
"""Hex digits per algorithm; these three are the registered ones that Docker accepts."""

_SHAPE = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_LOWER_HEX = re.compile(r"[0-9a-f]+")


def parse_digest(text: str) -> Digest:
    """The text as a digest.

    Raises InvalidParameter in the words of Docker's digest library: "invalid checksum digest format",
    "unsupported digest algorithm" or "invalid checksum digest length".
    """
    algorithm, colon, encoded = text.partition(":")
    if not colon or not algorithm or not _SHAPE.fullmatch(text):
        if colon and algorithm in HEX_LENGTH and _LOWER_HEX.fullmatch(encoded):
            raise InvalidParameter("invalid checksum digest length")
        raise InvalidParameter("invalid checksum digest format")
    if algorithm not in HEX_LENGTH:
        raise InvalidParameter("unsupported digest algorithm")
    if len(encoded) != HEX_LENGTH[algorithm]:
        raise InvalidParameter("invalid checksum digest length")
    if not _LOWER_HEX.fullmatch(encoded):
        raise InvalidParameter("invalid checksum digest format")
    return Digest(text)


def is_digest(text: str) -> bool:
    """Whether the text is a digest that `parse_digest` accepts."""
    try:
        parse_digest(text)
    except InvalidParameter:
        return False
    return True


def digest_of(data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
    """The digest of bytes in memory."""
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def hasher_for(digest: Digest) -> _Hash:
    """A fresh hash object of the digest's algorithm, to verify a stream against it."""
    return hashlib.new(algorithm_of(digest))


def algorithm_of(digest: Digest) -> str:
    """`sha256` of `sha256:…`."""
    return digest.partition(":")[0]


def encoded_of(digest: Digest) -> str:
    """The hex digits of a digest."""
    return digest.partition(":")[2]


def short(digest: str) -> str:
    """The first 12 hex digits, as `docker images` shows an id; works on a bare id too."""
    return digest.rpartition(":")[2][:12]
