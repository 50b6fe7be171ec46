"""The layer between image and container: what is mounted on, `/.dockerenv` and `/etc/mtab`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sampan.images.scaffold import PLACES, scaffold_job

pytestmark = pytest.mark.root


def make(target: Path, *parents: Path) -> int:
    return scaffold_job(
        {"target": str(target), "whiteouts": "overlay", "parents": [str(each) for each in parents]}, []
    )


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_everything_is_made_for_an_empty_image(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "top").mkdir()
    assert make(tmp_path / "top", tmp_path / "image") == len(PLACES)
    assert tree(tmp_path / "top") == sorted(path for path, _, _ in PLACES)
    assert os.readlink(tmp_path / "top/etc/mtab") == "/proc/mounts"
    assert os.stat(tmp_path / "top/.dockerenv").st_mode & 0o777 == 0o755


def test_what_the_image_has_stays_and_directories_keep_their_attributes(tmp_path: Path) -> None:
    image, top = tmp_path / "image", tmp_path / "top"
    (image / "etc").mkdir(parents=True, mode=0o710)
    os.chown(image / "etc", 7, 8)
    (image / "etc/hosts").write_text("mine")
    top.mkdir()
    make(top, image)
    assert not (top / "etc/hosts").exists()
    status = os.stat(top / "etc")
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o710, 7, 8)


def test_a_layer_that_deleted_a_place_hides_it(tmp_path: Path) -> None:
    lower, upper, top = tmp_path / "lower", tmp_path / "upper", tmp_path / "top"
    (lower / "etc").mkdir(parents=True)
    (lower / "etc/hosts").touch()
    (upper / "etc").mkdir(parents=True)
    subprocess.run(["mknod", upper / "etc/hosts", "c", "0", "0"], check=True)
    top.mkdir()
    make(top, upper, lower)
    assert (top / "etc/hosts").exists()


def test_nothing_is_made_through_an_images_link(tmp_path: Path) -> None:
    image, top, outside = tmp_path / "image", tmp_path / "top", tmp_path / "outside"
    outside.mkdir()
    image.mkdir()
    (image / "etc").symlink_to(outside)
    (image / "dev").write_text("a file")
    top.mkdir()
    make(top, image)
    assert tree(outside) == []
    assert not {"etc", "dev"} & set(tree(top))
