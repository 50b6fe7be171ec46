"""crane and oras, built from the Go module proxy, against `sampan registry serve`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients.conftest import PROGRAM_SECONDS, Play
from image_archives import tar
from registry_peer import SampanRegistry

CRANE = "github.com/google/go-containerregistry/cmd/crane@latest"
ORAS = "oras.land/oras/cmd/oras@latest"

pytestmark = [pytest.mark.root, pytest.mark.timeout(PROGRAM_SECONDS)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SampanRegistry]:
    (tmp_path / "registry").mkdir()
    registry = SampanRegistry(tmp_path / "registry")
    registry.start()
    yield registry
    registry.stop()


@pytest.fixture
def built(play: Play, tmp_path: Path) -> Callable[[str], str]:
    def build(module: str) -> str:
        play("go", "install", module, GOBIN=str(tmp_path / "bin"))
        return str(tmp_path / "bin" / module.rpartition("/")[2].partition("@")[0])

    return build


def test_crane(play: Play, built: Callable[[str], str], server: SampanRegistry, tmp_path: Path) -> None:
    crane, name = built(CRANE), f"{server.host}/crane/app"
    (tmp_path / "layer.tar").write_bytes(tar({"hello": b"world"}))
    play(crane, "append", "--insecure", "-f", str(tmp_path / "layer.tar"), "-t", f"{name}:1")
    play(crane, "copy", "--insecure", f"{name}:1", f"{server.host}/other/app:1")
    play(crane, "validate", "--insecure", "--remote", f"{server.host}/other/app:1")
    assert play(crane, "catalog", "--insecure", server.host).split() == ["crane/app", "other/app"]
    digest = play(crane, "digest", "--insecure", f"{name}:1").strip()
    play(crane, "delete", "--insecure", f"{name}@{digest}")
    assert play(crane, "ls", "--insecure", name).split() == []


def test_oras(play: Play, built: Callable[[str], str], server: SampanRegistry, tmp_path: Path) -> None:
    oras, name = built(ORAS), f"{server.host}/oras/art:1"
    (tmp_path / "art.txt").write_text("hello")
    play(oras, "push", "--plain-http", name, "art.txt:text/plain", cwd=tmp_path)
    play(
        oras,
        "attach",
        "--plain-http",
        "--artifact-type",
        "text/sig",
        name,
        "art.txt:text/plain",
        cwd=tmp_path,
    )
    assert "text/sig" in play(oras, "discover", "--plain-http", name)
    copy = f"{server.host}/oras/copy:1"
    play(oras, "copy", "--from-plain-http", "--to-plain-http", "-r", name, copy)
    assert "text/sig" in play(oras, "discover", "--plain-http", copy)
    play(oras, "pull", "--plain-http", "-o", str(tmp_path / "out"), copy)
    assert (tmp_path / "out" / "art.txt").read_text() == "hello"
