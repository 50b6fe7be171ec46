"""OCI layouts as a build's client keeps them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from sampan.client.layouts import Layout
from sampan.errors import InvalidParameter, NotFound


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_blobs_are_what_they_are_called(tmp_path: Path) -> None:
    layout, name = Layout(str(tmp_path)), digest(b"content")
    assert layout.size(name) is None
    with pytest.raises(InvalidParameter, match="unexpected commit digest"):
        layout.write(name, iter([b"other"]))
    assert layout.size(name) is None and os.listdir(tmp_path / "blobs" / "sha256") == []
    layout.write(name, iter([b"con", b"tent"]))
    assert layout.size(name) == 7
    assert b"".join(layout.read(name, 3, 3)) == b"ten"
    with pytest.raises(NotFound):
        b"".join(layout.read(digest(b""), 0, 1))


@pytest.mark.parametrize(
    "wrong", ["", "sha256:", "sha256:../../etc/passwd", "md5:" + "0" * 32, "sha256:" + "A" * 64]
)
def test_what_is_no_digest_names_no_file(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid digest"):
        Layout(str(tmp_path)).size(wrong)


def test_names(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    with pytest.raises(NotFound, match="could not find tag"):
        layout.digest("latest")
    layout.name({"digest": digest(b"1"), "size": 1}, "v1")
    assert layout.digest("latest") == layout.digest("v1") == digest(b"1")
    layout.name({"digest": digest(b"2"), "size": 1}, "latest")
    layout.name({"digest": digest(b"3"), "size": 1}, "v1")
    assert (layout.digest("latest"), layout.digest("v1")) == (digest(b"2"), digest(b"3"))
    with pytest.raises(NotFound):
        layout.digest("v2")
    (tmp_path / "index.json").write_text(json.dumps([]))
    with pytest.raises(InvalidParameter, match="no index"):
        layout.digest("v1")
