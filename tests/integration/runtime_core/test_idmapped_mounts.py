"""Mounts that show other owners (`uidMappings`, `gidMappings`, `idmap`), as runc 1.2 and the specification have them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from oci_bundle import SAMPAN, Bundle, add_namespace

pytestmark = pytest.mark.root

_LIST = "stat -c '%n %u:%g' /data/own /data/other /data/inner/deep"


def mapping(inside: int, outside: int, size: int) -> dict[str, int]:
    return {"containerID": inside, "hostID": outside, "size": size}


@pytest.fixture
def data(bundle: Bundle, tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    (directory / "inner").mkdir(parents=True)
    for name, owner in (("own", 0), ("other", 7), ("inner/deep", 0)):
        (directory / name).write_text(name)
        os.chown(directory / name, owner, owner)
    return directory


def mount(bundle: Bundle, source: Path, **fields: Any) -> None:
    bundle.mount("/data", **{"type": "bind", "source": str(source), "options": ["rbind"], **fields})


def test_owners_by_the_mounts_own_mappings(bundle: Bundle, data: Path) -> None:
    mount(bundle, data, uidMappings=[mapping(0, 1000, 10)], gidMappings=[mapping(0, 2000, 10)])
    done = bundle.script(f"{_LIST}; touch /data/made; echo $?").run()
    # Root itself has no id on that disk.
    assert done.out.splitlines() == [
        "/data/own 1000:2000",
        "/data/other 1007:2007",
        "/data/inner/deep 1000:2000",
        "1",
    ]


def test_files_that_are_made_get_the_disks_owner(bundle: Bundle, data: Path) -> None:
    mount(bundle, data, uidMappings=[mapping(5, 0, 1)], gidMappings=[mapping(6, 0, 1)])
    script = "echo x > /data/inner/made && stat -c %u:%g /data/inner/made"
    assert bundle.script(script).run().code != 0  # the directory's owner has no id in there
    os.chown(data / "inner", 5, 6)
    assert bundle.script(script).run().out == "0:0\n"
    status = (data / "inner/made").stat()
    assert (status.st_uid, status.st_gid) == (5, 6)


def test_by_the_containers_mappings(bundle: Bundle, data: Path) -> None:
    """On disk as without a user namespace: the container's root is the files' owner."""
    add_namespace(bundle.spec, "user")
    for kind in ("uidMappings", "gidMappings"):
        bundle.spec["linux"][kind] = [mapping(0, 100000, 65536)]
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.chown(path, 100000, 100000, follow_symlinks=False)
    mount(bundle, data, options=["rbind", "idmap"])
    done = bundle.script(f"{_LIST}; touch /data/made").run()
    assert done.out.splitlines() == ["/data/own 0:0", "/data/other 7:7", "/data/inner/deep 0:0"], done.err
    assert (data / "made").stat().st_uid == 0


@pytest.mark.parametrize(("option", "owner"), [("idmap", 0), ("ridmap", 1000)])
def test_recursion(bundle: Bundle, tmp_path: Path, option: str, owner: int) -> None:
    """A mount beneath the source is mapped by `ridmap` only."""
    base, beneath = tmp_path / "base", tmp_path / "beneath"
    (base / "inner").mkdir(parents=True)
    beneath.mkdir()
    script = f"""
        mount --bind {beneath} {base}/inner
        exec "$@"
    """
    mount(
        bundle,
        base,
        options=["rbind", option],
        uidMappings=[mapping(0, 1000, 10)],
        gidMappings=[mapping(0, 1000, 10)],
    )
    wrapped = ["unshare", "-m", "sh", "-c", script, "sh"]
    done = bundle.script("stat -c %u /data /data/inner").run(runtime=[*wrapped, *SAMPAN])
    assert done.out.split() == ["1000", str(owner)], done.err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"uidMappings": [mapping(0, 1, 1)]},
            "id-mapped mounts must have both uid and gid mappings specified",
        ),
        ({"options": ["rbind", "idmap"]}, "id-mapped mounts must have both uid and gid mappings specified"),
        (
            {
                "type": "tmpfs",
                "options": [],
                "uidMappings": [mapping(0, 1, 1)],
                "gidMappings": [mapping(0, 1, 1)],
            },
            "id-mapped mounts are only supported for bind-mounts",
        ),
        ({"uidMappings": [mapping(0, 1, 1)], "gidMappings": [mapping(0, 1, 0)]}, "gid mapping"),
    ],
    ids=["uids-only", "no-mappings", "a-file-system", "an-empty-mapping"],
)
def test_mistakes(bundle: Bundle, data: Path, fields: dict[str, Any], message: str) -> None:
    mount(bundle, data, **fields)
    done = bundle.script("true").run()
    assert done.code != 0 and message in done.err
