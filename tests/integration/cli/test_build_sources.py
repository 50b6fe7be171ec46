"""Where `sampan build` takes files from, and where it leaves cache."""

from __future__ import annotations

import io
import os
import random
import socket
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from registry_peer import SampanRegistry, free_port
from running_engine import RunningEngine
from sampan.cli.buildagents import agents
from sampan.errors import InvalidParameter
from web_server import publish, served

pytestmark = pytest.mark.root


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The directory `web`, served."""
    with served(tmp_path / "web") as url:
        yield url


def shown(engine: RunningEngine, image: str, script: str) -> str:
    return engine.sampan("run", "--rm", "--net", "none", image, "sh", "-c", script).stdout


def archive(**files: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


def compressed(data: bytes, kind: str) -> bytes:
    if kind == "zstd":
        return zstandard.compress(data)
    return subprocess.run([kind], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("kind", ["cat", "gzip", "bzip2", "xz", "zstd"])
def test_an_archive_in_each_compression(engine: RunningEngine, tmp_path: Path, web: str, kind: str) -> None:
    data = archive(
        Other=f"FROM busybox\nCOPY word /\n#{kind}\n", word="packed", **{".dockerignore": "Other\n"}
    )
    packed = compressed(data, kind)
    command = [
        sys.executable,
        "-m",
        "sampan.cli",
        "-H",
        engine.host,
        "build",
        "-q",
        "-t",
        "packed",
        "-f",
        "Other",
    ]
    subprocess.run([*command, "-"], input=packed, check=True, capture_output=True, timeout=60)
    assert shown(engine, "packed", "cat /word") == "packed"
    (tmp_path / "web" / "context").write_bytes(packed)
    engine.sampan("build", "-q", "-t", "fetched", "-f", "Other", f"{web}/context")
    assert shown(engine, "fetched", "cat /word") == "packed"


def test_dockerfiles_of_the_web(engine: RunningEngine, tmp_path: Path, web: str) -> None:
    (tmp_path / "web" / "Alone").write_text("FROM busybox\nRUN echo alone > /word\n")
    engine.sampan("build", "-q", "-t", "alone", f"{web}/Alone")
    assert shown(engine, "alone", "cat /word") == "alone\n"
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "word").write_text("beside")
    (tmp_path / "web" / "With").write_text("FROM busybox\nCOPY word /\n")
    engine.sampan("build", "-q", "-t", "beside", "-f", f"{web}/With", str(tmp_path / "app"))
    assert shown(engine, "beside", "cat /word") == "beside"
    for words in ((f"{web}/Missing",), ("-f", f"{web}/Missing", str(tmp_path / "app"))):
        failed = engine.sampan("build", *words, check=False)
        assert failed.returncode == 1 and "404" in failed.stderr


def test_a_repository(engine: RunningEngine, tmp_path: Path, web: str) -> None:
    (tmp_path / "work" / "sub").mkdir(parents=True)
    (tmp_path / "work" / "sub" / "Dockerfile").write_text("FROM busybox\nCOPY word /\n")
    (tmp_path / "work" / "sub" / "word").write_text("committed")
    publish(tmp_path / "work", tmp_path / "web" / "r.git")
    engine.sampan("build", "-q", "-t", "cloned", f"{web}/r.git#main:sub")
    assert shown(engine, "cloned", "cat /word") == "committed"
    other = "FROM busybox\nCOPY word /other\n"
    engine.sampan("build", "-q", "-t", "cloned", "-f", "-", f"{web}/r.git#main:sub", input=other)
    assert shown(engine, "cloned", "cat /other") == "committed"


def test_named_contexts(engine: RunningEngine, tmp_path: Path, web: str) -> None:
    for name, text in (("d/f", "of a directory"), ("g/f", "of a repository"), ("web/f", "of the web")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    publish(tmp_path / "g", tmp_path / "web" / "g.git")
    made = "FROM busybox\nRUN echo laid out > /f\nENV LAID=out\n"
    engine.sampan("build", "-t", "laid:v1", "-o", f"type=oci,dest={tmp_path}/l.tar", "-", input=made)
    with tarfile.open(tmp_path / "l.tar") as tar:
        tar.extractall(tmp_path / "layout", filter="data")
    dockerfile = (
        "FROM laid\nRUN echo $LAID > /env\nCOPY --from=d f /1\nCOPY --from=g f /2\nCOPY --from=w context /3\n"
        "COPY --from=example.org/i /bin/busybox /4\n"
    )
    contexts = {
        "d": str(tmp_path / "d"),
        "g": f"{web}/g.git",
        "w": f"{web}/f",
        "example.org/i:latest": "docker-image://busybox",
        "laid": f"oci-layout://{tmp_path}/layout:v1",
    }
    flags = [word for name, value in contexts.items() for word in ("--build-context", f"{name}={value}")]
    engine.sampan("build", "-q", "-t", "many", *flags, "-", input=dockerfile)
    assert shown(engine, "many", "cat /f /env") == "laid out\nout\n"
    found = shown(engine, "many", "for n in 1 2 3; do cat /$n; echo; done; test -x /4 && echo there")
    assert found == "of a directory\nof a repository\nof the web\nthere\n"
    missing = f"laid=oci-layout://{tmp_path}/layout:v2"
    assert (
        "could not find tag"
        in engine.sampan("build", "--build-context", missing, "-", check=False, input="").stderr
    )


def test_cache_in_a_directory(engine: RunningEngine, tmp_path: Path) -> None:
    dockerfile = (
        f"FROM busybox\nRUN head -c 9 /dev/urandom | md5sum > /r  # {random.random()}\nRUN cp /r /s\n"
    )
    place = f"{tmp_path}/cache"
    warned = engine.sampan("build", "-q", "--cache-from", f"type=local,src={place}", "-", input=dockerfile)
    assert "WARNING: local cache import at" in warned.stderr
    engine.sampan("builder", "prune", "-af")
    exported = f"type=local,dest={place},mode=max"
    engine.sampan("build", "-t", "first", "--cache-to", exported, "-", input=dockerfile)
    first = shown(engine, "first", "cat /r")
    engine.sampan("builder", "prune", "-af")
    imported = ("--cache-from", f"type=local,src={place}")
    said = engine.sampan("build", "--progress=plain", "-t", "second", *imported, "-", input=dockerfile).stderr
    assert said.count("CACHED") >= 2
    assert shown(engine, "second", "cat /s") == first
    wrong = engine.sampan("build", "--cache-to", "type=gha", "-", input=dockerfile, check=False)
    assert "cache exporter 'gha' is not in this version" in wrong.stderr


def test_an_agent_for_keys(tmp_path: Path) -> None:
    for name in ("one", "two"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    with agents([f"git={tmp_path}/one,{tmp_path}/two"]) as found:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(found["git"])
            asking.sendall(struct.pack(">IB", 1, 11))  # which identities?
            answer = asking.recv(65536)
        assert answer[4] == 12 and struct.unpack(">I", answer[5:9]) == (2,)
    assert not os.path.exists(os.path.dirname(found["git"]))
    (tmp_path / "none").write_text("no key")
    (tmp_path / "none").chmod(0o600)
    with pytest.raises(InvalidParameter, match="failed to parse"), agents([f"default={tmp_path}/none"]):
        pass


def test_over_tcp_and_pushed(make_engine: Callable[..., RunningEngine], tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    engine = make_engine("-H", address)
    registry = SampanRegistry(tmp_path / "registry")
    registry.start()
    try:
        (tmp_path / "app").mkdir()
        (tmp_path / "app" / "Dockerfile").write_text("FROM busybox\nCOPY word /\n")
        (tmp_path / "app" / "word").write_text("over tcp")
        name = f"{registry.host}/app:v1"
        command = [sys.executable, "-m", "sampan.cli", "-H", address]
        build = [*command, "build", "-q", "--push", "-t", name, str(tmp_path / "app")]
        subprocess.run(build, check=True, capture_output=True, timeout=60)
        engine.sampan("rmi", name)
        assert shown(engine, name, "cat /word") == "over tcp"
    finally:
        registry.stop()
