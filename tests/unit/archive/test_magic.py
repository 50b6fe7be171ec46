"""Telling archives from other files."""

from __future__ import annotations

import io
import tarfile

import pytest

from sampan.archive.magic import is_archive


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
def test_archives(form: int, kind: str) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=f"w:{kind}", format=form) as archive:
        archive.addfile(tarfile.TarInfo("dir/" + "n" * 98))
    assert is_archive(made.getvalue()[:1024])


def test_an_archive_from_before_there_was_a_magic() -> None:
    header = bytearray(tarfile.TarInfo("old").tobuf(tarfile.USTAR_FORMAT)[:512])
    header[257:512] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert is_archive(bytes(header))


@pytest.mark.parametrize("text", [b"", b"FROM busybox\n", b"#" * 2000, bytes(1024), b"FROM a\n# ustar" * 99])
def test_others(text: bytes) -> None:
    assert not is_archive(text)
