"""`docker load` and `docker save`: forms, compressions, round trips through other tools, hostile archives."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

import image_archives as archives
from image_archives import Layout, digest, docker_archive, member, simple, tar
from image_engine import ImageEngine

pytestmark = pytest.mark.root


def loaded(engine: ImageEngine, archive: bytes) -> str:
    return engine.docker("load", stdin=archive)


def inspect(engine: ImageEngine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.docker("image", "inspect", name))[0]
    return found


def stored(engine: ImageEngine) -> list[str]:
    engine.run(engine.images.housekeeping.settled())
    return [each.digest for each in engine.run(engine.content.walk())]


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, zstandard.ZstdCompressor().compress, lzma.compress, bz2.compress],
    ids=["plain", "gzip", "zstd", "xz", "bz2"],
)
def test_every_compression_gives_the_same_image(
    image_engine: ImageEngine, compress: Callable[[bytes], bytes]
) -> None:
    archive = simple("test:1")
    assert loaded(image_engine, compress(archive)) == "Loaded image: test:1\n"
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        index = json.loads(files.extractfile("index.json").read())  # type: ignore[union-attr]
    assert inspect(image_engine, "test:1")["Id"] == index["manifests"][0]["digest"]


def test_unnamed_images_are_dangling(image_engine: ImageEngine) -> None:
    output = loaded(image_engine, simple(""))
    assert output.startswith("Loaded image ID: sha256:")
    image_id = output.split()[-1]
    assert inspect(image_engine, image_id)["RepoTags"] == []
    listed = image_engine.docker(
        "images", "--no-trunc", "--filter", "dangling=true", "--format", "{{.ID}} {{.Tag}}"
    )
    assert listed == f"{image_id} <none>\n"


def test_several_images_and_names(image_engine: ImageEngine) -> None:
    layout = Layout()
    shared = tar({"shared": b"x" * 5000})
    layout.name(layout.image([shared, tar({"a": b"a"})]), "a:1")
    other = layout.image([shared, tar({"b": b"b"})])
    layout.name(other, "b:1")
    layout.name(other, "b:2")
    assert loaded(image_engine, layout.archive()).splitlines() == [
        f"Loaded image: {name}" for name in ("a:1", "b:1", "b:2")
    ]
    assert inspect(image_engine, "b:1")["RepoTags"] == ["b:1", "b:2"]


def test_docker_archive_with_links_between_layers(image_engine: ImageEngine) -> None:
    """docker 20.10 writes a layer that occurs twice as a symbolic link to the first."""
    layer = tar({"big": b"x" * (2 << 20)})
    files = docker_archive(["old:1"], [layer, layer], ["one/layer.tar", "two/layer.tar"])
    members = [
        member("two/layer.tar", tarfile.SYMTYPE, "../one/layer.tar")
        if name == "two/layer.tar"
        else (tarfile.TarInfo(name), data)
        for name, data in files.items()
    ]
    assert loaded(image_engine, tar(members)) == "Loaded image: old:1\n"
    found = inspect(image_engine, "old:1")
    assert found["RootFS"]["Layers"] == [digest(layer)] * 2
    assert found["Descriptor"]["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"


def test_loading_again_moves_the_name_and_keeps_the_old_image(image_engine: ImageEngine) -> None:
    loaded(image_engine, simple("x:1", {"f": b"1"}))
    first = inspect(image_engine, "x:1")["Id"]
    loaded(image_engine, simple("x:1", {"f": b"2"}))
    assert inspect(image_engine, "x:1")["Id"] != first
    assert inspect(image_engine, first)["RepoTags"] == []


def test_save_is_what_was_loaded(image_engine: ImageEngine, busybox_archive: Path, tmp_path: Path) -> None:
    image_engine.docker("load", "-i", str(busybox_archive))
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    image_engine.docker("save", "-o", str(first), "busybox:latest")
    image_engine.docker("save", "-o", str(second), "busybox:latest")
    assert first.read_bytes() == second.read_bytes()
    before = inspect(image_engine, "busybox")
    image_engine.docker("rmi", "busybox")
    assert loaded(image_engine, first.read_bytes()) == "Loaded image: busybox:latest\n"
    after = inspect(image_engine, "busybox")
    assert after["Id"] == before["Id"] and after["RootFS"] == before["RootFS"]


def test_save_of_a_repository_a_tag_and_an_id(image_engine: ImageEngine) -> None:
    loaded(image_engine, simple("r:1"))
    image_engine.docker("tag", "r:1", "r:2")

    def index(*names: str) -> list[dict[str, Any]]:
        data = image_engine.docker_raw("save", *names).stdout
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found: list[dict[str, Any]] = json.loads(archive.extractfile("index.json").read())["manifests"]  # type: ignore[union-attr]
            return found

    tags = [each["annotations"]["org.opencontainers.image.ref.name"] for each in index("r")]
    assert tags == ["1", "2"]
    assert len(index("r:2")) == 1
    assert "annotations" not in index(inspect(image_engine, "r:1")["Id"])[0]
    assert "No such image: none:latest" in image_engine.docker("save", "none", ok=False)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo: apt-get install skopeo")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_through_skopeo_and_back_every_diff_id_stays(
    image_engine: ImageEngine, busybox_archive: Path, tmp_path: Path, form: str
) -> None:
    image_engine.docker("load", "-i", str(busybox_archive))
    before = inspect(image_engine, "busybox")
    saved, back = tmp_path / "saved.tar", tmp_path / "back.tar"
    image_engine.docker("save", "-o", str(saved), "busybox")
    copy = ["skopeo", "copy", "--insecure-policy", f"docker-archive:{saved}", f"{form}:{back}:other:1"]
    subprocess.run(copy, check=True, capture_output=True, timeout=60)
    image_engine.docker("rmi", "busybox")
    assert "Loaded image: other:1" in image_engine.docker("load", "-i", str(back))
    assert inspect(image_engine, "other:1")["RootFS"] == before["RootFS"]


def multi_platform() -> tuple[Layout, dict[str, Any], dict[str, Any]]:
    layout = Layout()
    amd = {**layout.image([tar({"f": b"amd"})]), "platform": {"os": "linux", "architecture": "amd64"}}
    arm = layout.image([tar({"f": b"arm"})], architecture="arm64")
    arm["platform"] = {"os": "linux", "architecture": "arm64"}
    statement = layout.blob(b'{"predicateType":"p"}', "application/vnd.in-toto+json")
    statement["annotations"] = {"in-toto.io/predicate-type": "p"}
    config = layout.blob(b"{}", "application/vnd.oci.image.config.v1+json")
    document = {"schemaVersion": 2, "config": config, "layers": [statement]}
    attestation = layout.blob(json.dumps(document).encode(), "application/vnd.oci.image.manifest.v1+json")
    attestation["platform"] = {"os": "unknown", "architecture": "unknown"}
    attestation["annotations"] = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": amd["digest"],
    }
    layout.name(layout.nested_index([amd, arm, attestation]), "multi:1")
    return layout, amd, arm


def test_multi_platform_image(image_engine: ImageEngine) -> None:
    layout, amd, arm = multi_platform()
    loaded(image_engine, layout.archive())
    found = inspect(image_engine, "multi:1")
    assert found["Id"] == layout.index[0]["digest"]
    assert found["Architecture"] == "amd64"
    (summary,) = image_engine.run(image_engine.images.summaries(_with_manifests()))
    kinds = [(each.kind, each.available) for each in summary.manifests]  # type: ignore[union-attr]
    assert kinds == [("image", True), ("image", True), ("attestation", True)]
    tree = image_engine.docker("images", "--tree")
    assert "linux/amd64" in tree and "linux/arm64" in tree
    data = image_engine.docker_raw("save", "--platform", "linux/arm64", "multi:1").stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
        index = json.loads(archive.extractfile("index.json").read())  # type: ignore[union-attr]
    assert index["manifests"][0]["digest"] == arm["digest"]
    assert f"blobs/{amd['digest'].replace(':', '/')}" not in names
    error = image_engine.docker("save", "--platform", "linux/riscv64", "multi:1", ok=False)
    assert "does not provide the specified platform (linux/riscv64)" in error


def _with_manifests() -> Any:
    from sampan.images.listing import ListOptions

    return ListOptions(manifests=True)


def test_multi_platform_image_of_which_one_platform_is_here(image_engine: ImageEngine) -> None:
    layout, _, arm = multi_platform()
    del layout.blobs[arm["digest"]]
    loaded(image_engine, layout.archive())
    (summary,) = image_engine.run(image_engine.images.summaries(_with_manifests()))
    assert [each.available for each in summary.manifests] == [True, False, True]  # type: ignore[union-attr]
    error = image_engine.docker("image", "inspect", "--platform", "linux/arm64", "multi:1", ok=False)
    assert "does not provide the specified platform (linux/arm64)" in error


def truncated(archive: bytes) -> bytes:
    return archive[: len(archive) // 2]


def wrong_digest() -> bytes:
    layout = Layout()
    layout.name(layout.image([tar({"f": b"x"})]), "bad:1")
    victim = next(iter(layout.blobs))
    layout.blobs[victim] = layout.blobs[victim][:-1] + b"!"
    return layout.archive()


def wrong_diff_id() -> bytes:
    layout = Layout()
    layer = tar({"f": b"x"})
    target = layout.image([layer], rootfs={"type": "layers", "diff_ids": [digest(b"else")]})
    layout.name(target, "bad:1")
    return layout.archive()


def with_members(*members: archives.Member) -> bytes:
    files = [(tarfile.TarInfo(name), data) for name, data in Layout().files().items()]
    return tar([*members, *files])


def twice() -> bytes:
    return with_members((tarfile.TarInfo("x"), b"1"), (tarfile.TarInfo("x"), b"2"))


def lying(change: Callable[[dict[str, Any]], object]) -> bytes:
    """An image whose manifest was changed before anything named it: only what it says of others is wrong."""
    layout = Layout()
    target = layout.image([tar({"f": b"x" * 1000})])
    manifest = json.loads(layout.blobs.pop(target["digest"]))
    change(manifest)
    layout.name(layout.blob(json.dumps(manifest).encode(), target["mediaType"]), "bad:1")
    return layout.archive()


def lying_index(**claims: object) -> bytes:
    layout = Layout()
    layout.name({**layout.image([tar({"f": b"x"})]), **claims}, "bad:1")
    return layout.archive()


def twice_but_foreign(manifest: dict[str, Any]) -> None:
    manifest["layers"].append({**manifest["layers"][0], "mediaType": "text/plain"})


LIES = {
    "a manifest that is longer": (lambda: lying_index(size=5), "has 5 bytes, but it has"),
    "a manifest that is shorter": (lambda: lying_index(size=10**6), "has 1000000 bytes, but it has"),
    "a negative size": (lambda: lying_index(size=-1), "index.json: negative size -1"),
    "a digest of another kind": (
        lambda: lying_index(digest="md5:" + "a" * 32),
        "unsupported digest algorithm",
    ),
    "a manifest called an index": (
        lambda: lying_index(mediaType="application/vnd.oci.image.index.v1+json"),
        "unexpected field `layers`",
    ),
    "a manifest called a text": (
        lambda: lying_index(mediaType="text/plain"),
        "neither an image nor an index",
    ),
    "a manifest that calls itself an index": (
        lambda: lying(lambda it: it.update(mediaType="application/vnd.oci.image.index.v1+json")),
        "but it calls itself",
    ),
    "a layer that is longer": (
        lambda: lying(lambda it: it["layers"][0].update(size=3)),
        "has 3 bytes, but it has",
    ),
    "a layer that is shorter": (
        lambda: lying(lambda it: it["layers"][0].update(size=2**40)),
        "but it has 10240",
    ),
    "a layer's digest is a path": (
        lambda: lying(lambda it: it["layers"][0].update(digest="../../etc/passwd")),
        "'../../etc/passwd' - at `$.layers[0]`",
    ),
    "a layer called a text": (lambda: lying(twice_but_foreign), "'text/plain', which is none of a layer"),
    "an encrypted layer": (
        lambda: lying(
            lambda it: it["layers"][0].update(mediaType=it["layers"][0]["mediaType"] + "+encrypted")
        ),
        "is encrypted",
    ),
    "a config that is longer": (
        lambda: lying(lambda it: it["config"].update(size=1)),
        "has 1 bytes, but it has",
    ),
    "a config that is a layer": (
        lambda: lying(
            lambda it: it["config"].update(digest=it["layers"][0]["digest"], size=it["layers"][0]["size"])
        ),
        "invalid JSON",
    ),
}
HOSTILE = {
    **LIES,
    "truncated": (lambda: truncated(simple(files={"f": b"x" * 100_000})), "unexpected end of archive"),
    "truncated gzip": (lambda: truncated(gzip.compress(simple())), "damaged gzip stream"),
    "not a tar": (lambda: b"x" * 5000, "invalid tar header"),
    "no image": (lambda: tar({"file": b"x"}), "unrecognized image format"),
    "empty": (lambda: b"", "unrecognized image format"),
    "leads out": (lambda: with_members((tarfile.TarInfo("../up"), b"x")), "'../up'"),
    "absolute": (lambda: with_members((tarfile.TarInfo("/etc/x"), b"x")), "'/etc/x'"),
    "device": (lambda: with_members(member("null", tarfile.CHRTYPE)), "'null'"),
    "twice": (twice, "'x': twice"),
    "bad blob name": (lambda: with_members((tarfile.TarInfo("blobs/sha256/zz"), b"x")), "'blobs/sha256/zz'"),
    "wrong digest": (wrong_digest, "its content has the digest"),
    "wrong diff id": (wrong_diff_id, "but the image says"),
    "link loop": (
        lambda: tar(
            [member("manifest.json", tarfile.SYMTYPE, "b"), member("b", tarfile.SYMTYPE, "manifest.json")]
        ),
        "too many links",
    ),
    "link out": (
        lambda: tar([member("manifest.json", tarfile.SYMTYPE, "../../../etc/passwd")]),
        "no file manifest.json",
    ),
    "index of the wrong shape": (
        lambda: tar(
            {
                "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
                "index.json": b'{"schemaVersion":2,"manifests":[7]}',
            }
        ),
        "index.json",
    ),
    "missing layer": (
        lambda: tar({k: v for k, v in docker_archive(["x:1"], [b"l"]).items() if "layer" not in k}),
        "layer.tar",
    ),
    "hostile layer": (lambda: simple("bad:1", {"../../escape": b"x"}), "../../escape"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing(image_engine: ImageEngine, case: str) -> None:
    make, message = HOSTILE[case]
    error = image_engine.docker("load", stdin=make(), ok=False)
    assert message in error
    assert image_engine.docker("images", "-aq") == ""
    assert stored(image_engine) == []
    assert image_engine.run(image_engine.snapshots.walk()) == []
    assert image_engine.run(image_engine.content.ingests()) == []


def test_a_client_that_goes_away_leaves_nothing(image_engine: ImageEngine) -> None:
    archive = simple(files={"f": b"x" * (8 << 20)})
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(image_engine.socket))
        client.sendall(
            b"POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\n"
            + f"Content-Length: {len(archive)}\r\n\r\n".encode()
        )
        client.sendall(archive[: len(archive) // 2])
        _until(lambda: bool(image_engine.run(image_engine.content.ingests())), "the load to begin")
    _until(lambda: not image_engine.run(image_engine.content.leases.walk()), "the load to end")
    assert stored(image_engine) == []
    assert image_engine.run(image_engine.content.ingests()) == []
    assert [each.name for each in threading.enumerate() if each.name == "request body"] == []


def _until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
