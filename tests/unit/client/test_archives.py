"""What a container sends cannot leave the directory that it is copied to."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from sampan.client import archives
from sampan.errors import InvalidParameter


class Body:
    """A response with a body, as archives reads it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_block(self) -> bytes:
        data, self._data = self._data, b""
        return data

    def close(self) -> None: ...


def archive(*members: tuple[str, bytes, bytes | str]) -> Body:
    """(name, type, content or link target) each."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if isinstance(content, str):
                member.linkname = content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return Body(buffer.getvalue())


@pytest.mark.parametrize(
    "members",
    [
        [("../out", tarfile.REGTYPE, b"x")],
        [("link", tarfile.SYMTYPE, ".."), ("link/out", tarfile.REGTYPE, b"x")],
        [("hard", tarfile.LNKTYPE, "../secret")],
        [("link", tarfile.SYMTYPE, ".."), ("hard", tarfile.LNKTYPE, "link/secret")],
        [("node", tarfile.CHRTYPE, b"")],
    ],
    ids=["dotdot", "through-link", "hard-link-out", "hard-link-through-link", "device"],
)
def test_escapes_are_refused(tmp_path: Path, members: list[tuple[str, bytes, bytes | str]]) -> None:
    (tmp_path / "secret").write_text("secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(InvalidParameter):
        archives.unpack(archive(*members), inside)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "secret"]


def test_a_file_replaces_a_link_instead_of_following_it(tmp_path: Path) -> None:
    secret, inside = tmp_path / "secret", tmp_path / "inside"
    secret.write_text("secret")
    inside.mkdir()
    body = archive(("a", tarfile.SYMTYPE, str(secret)), ("a", tarfile.REGTYPE, b"new"))
    archives.unpack(body, inside)  # type: ignore[arg-type]
    assert secret.read_text() == "secret"
    assert (inside / "a").read_bytes() == b"new"


def test_a_tree_and_back_under_another_name(tmp_path: Path) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    (tree / "sub").mkdir(parents=True)
    out.mkdir()
    (tree / "sub/file").write_bytes(b"content" * 9999)
    (tree / "link").symlink_to("/etc")
    data = b"".join(archives.pack_tree(tree))
    archives.unpack(Body(data), out, ("tree", "copy"))  # type: ignore[arg-type]
    assert (out / "copy/sub/file").read_bytes() == b"content" * 9999
    assert (out / "copy/link").readlink() == Path("/etc")
