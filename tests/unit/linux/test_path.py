"""Paths resolved beneath a root: whatever links the tree holds, nothing outside is reached or made."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.linux import path as paths

_names = st.sampled_from(["a", "b", "link", "..", ".", ""])
_paths = st.lists(_names, max_size=5).map("/".join)
_targets = st.one_of(_paths, _paths.map(lambda path: "/" + path), _paths.map(lambda path: "../../" + path))


@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.tuples(_paths, _targets), max_size=4), wanted=_paths)
def test_making_directories_never_leaves_the_root(places: list[tuple[str, str]], wanted: str) -> None:
    with tempfile.TemporaryDirectory() as outside:
        root = Path(outside) / "x/root"
        (root / "a/b").mkdir(parents=True)
        for place, target in places:
            at = root / place.replace("..", "a").strip("/") / "link"
            if (
                (
                    at.parent.is_dir()
                    and target
                    and root.resolve() in [at.parent.resolve(), *at.parent.resolve().parents]
                )
                and not at.is_symlink()
                and not at.exists()
            ):
                at.symlink_to(target)
        directory = os.open(root, os.O_PATH)
        try:
            made = paths.make_directories(directory, wanted)
        except OSError:
            pass
        else:
            assert (paths.descriptor_path(made) + "/").startswith(f"{root}/")
            os.close(made)
        finally:
            os.close(directory)
        assert os.listdir(outside) == ["x"]
        assert os.listdir(f"{outside}/x") == ["root"]


def test_beneath_refuses_what_in_root_confines(tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").write_text("inside")
    (tmp_path / "root/link").symlink_to("/etc/passwd")
    root = os.open(tmp_path / "root", os.O_PATH)
    descriptor = paths.open_in_root(root, "link", os.O_RDONLY)
    assert os.read(descriptor, 100) == b"inside"
    for refused in ("link", "../root/etc/passwd", "/etc/passwd"):
        with pytest.raises(OSError, match="cross-device"):
            paths.open_beneath(root, refused)
    os.close(descriptor)
    os.close(root)


def test_a_file_at_the_end_of_a_dangling_link_is_made_inside(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to("/deep/er/file")
    root = os.open(tmp_path / "root", os.O_PATH)
    os.close(paths.make_file(root, "link"))
    os.close(root)
    assert (tmp_path / "root/deep/er/file").is_file()


def test_procfs_is_genuine_and_links_in_it_are_refused() -> None:
    descriptor = paths.open_procfs("self/status", os.O_RDONLY)
    assert os.read(descriptor, 5) == b"Name:"
    os.close(descriptor)
    with pytest.raises(OSError, match="symbolic links"):
        paths.open_procfs("self/cwd", os.O_PATH)
