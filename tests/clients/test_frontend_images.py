"""Frontends that are images: Docker's own, under another name, so that it is run and not replaced by the one here. And what
`buildx debug` does with a frontend's containers."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from buildkit_peer import BUILD_SECONDS
from running_engine import RunningEngine

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * BUILD_SECONDS)]

SYNTAX = "# syntax=foreign/frontend:1\n"
SECONDS = 120


class Buildx:
    """`docker buildx …` in a directory."""

    def __init__(self, engine: RunningEngine, configuration: Path, directory: Path) -> None:
        self._engine = engine
        self._environment = {
            **os.environ,
            "DOCKER_HOST": engine.host,
            "DOCKER_CONFIG": str(configuration),
            "BUILDKIT_PROGRESS": "plain",
            "BUILDX_EXPERIMENTAL": "1",
            "BUILDX_BAKE_ENTITLEMENTS_FS": "0",
        }
        self.directory = directory

    def __call__(
        self, *arguments: str, fails: bool = False, input: bytes | None = None, **environment: str
    ) -> str:
        """What it prints, both streams."""
        done = subprocess.run(
            ["docker", "buildx", *arguments],
            env={**self._environment, **environment},
            cwd=self.directory,
            input=input,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        said = done.stdout.decode()
        assert bool(done.returncode) == fails, said + self._engine.log[-2000:]
        return said

    def write(self, **files: str) -> None:
        for name, content in files.items():
            (self.directory / name).write_text(content)

    def talk(self, *arguments: str) -> Terminal:
        """On a terminal of its own."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.directory)
            os.execvpe("docker", ["docker", "buildx", *arguments], self._environment)
        return Terminal(pid, terminal)


class Terminal:
    """A program at the other end of a terminal."""

    def __init__(self, pid: int, terminal: int) -> None:
        self._pid = pid
        self._terminal = terminal
        self._end = time.monotonic() + SECONDS

    def until(self, word: str) -> str:
        """All that it says up to a word."""
        said = b""
        while word.encode() not in said:
            assert select.select([self._terminal], [], [], max(0, self._end - time.monotonic()))[0], said
            try:
                said += os.read(self._terminal, 65536)
            except OSError:  # EIO: the other end is closed
                raise AssertionError(said.decode(errors="replace")) from None
        return said.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def close(self) -> None:
        """Wait for its end."""
        try:
            while os.read(self._terminal, 65536):
                pass
        except OSError:
            pass
        os.close(self._terminal)
        os.waitpid(self._pid, 0)


@pytest.fixture
def buildx(engine: RunningEngine, configuration: Path, tmp_path: Path) -> Buildx:
    return Buildx(engine, configuration, tmp_path)


BAKE = """
target "base" {
  dockerfile-inline = "FROM busybox\\nRUN echo base > /base"
}
target "app" {
  contexts = { base = "target:base", more = "more", image = "docker-image://busybox" }
  dockerfile-inline = <<X
# syntax=foreign/frontend:1
FROM base
COPY --from=more f /f
COPY --from=image /bin/busybox /b
RUN cat /base /f > /app
X
  tags = ["app"]
}
"""


@pytest.mark.usefixtures("frontend_image")
def test_a_frontend_image_builds_what_ours_would(buildx: Buildx, engine: RunningEngine) -> None:
    buildx.write(
        secret="hidden",
        word="hello",
        Dockerfile=SYNTAX
        + "FROM busybox AS made\nARG WHO\nCOPY word /\nRUN --mount=type=cache,target=/c cat /word > /out; echo $WHO >> /out\n"
        "FROM busybox\nCOPY --from=made --chown=1:2 /out /\n"
        "RUN --mount=type=secret,id=s,env=S test $S = hidden\nRUN <<X\necho heredoc >> /out\nX\nCMD cat /out\n",
    )
    words = ("build", "-t", "built", "--build-arg", "WHO=you", "--secret", "id=s,src=secret", ".")
    said = buildx(*words)
    assert "resolve image config for docker-image://docker.io/foreign/frontend:1" in said
    assert engine.docker("run", "--rm", "--net", "none", "built").stdout == "helloyou\nheredoc\n"
    assert buildx(*words).count("CACHED") >= 5
    (buildx.directory / "more").mkdir()
    (buildx.directory / "more" / "f").write_text("more")
    (buildx.directory / "docker-bake.hcl").write_text(BAKE)
    buildx("bake", "app")
    assert engine.docker("run", "--rm", "--net", "none", "app", "cat", "/app").stdout == "base\nmore"


@pytest.mark.usefixtures("frontend_image")
def test_a_frontend_image_builds_for_several_platforms(buildx: Buildx) -> None:
    (buildx.directory / "Dockerfile").write_text(
        SYNTAX + "FROM scratch\nARG TARGETARCH\nCOPY for-$TARGETARCH /for\n"
    )
    for name in ("amd64", "arm64"):
        (buildx.directory / f"for-{name}").write_text(name)
    buildx("build", "--platform", "linux/amd64,linux/arm64", "-o", "out", ".")
    for name in ("amd64", "arm64"):
        assert (buildx.directory / "out" / f"linux_{name}" / "for").read_text() == name


@pytest.mark.usefixtures("frontend_image")
def test_a_frontend_image_reads_an_archive(buildx: Buildx) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in {
            "Dockerfile": SYNTAX.encode() + b"FROM scratch\nCOPY . /\n",
            ".dockerignore": b"left\n",
            "kept": b"k",
            "left": b"l",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    buildx("build", "-o", "out", "-", input=packed.getvalue())
    assert sorted(os.listdir(buildx.directory / "out")) == [".dockerignore", "Dockerfile", "kept"]


@pytest.mark.usefixtures("frontend_image")
def test_mistakes_and_questions_go_through(buildx: Buildx) -> None:
    buildx.write(Dockerfile=SYNTAX + "FROM busybox AS one\nARG A=b\nRUN exit 3\n")
    assert "   4 | >>> RUN exit 3" in buildx("build", ".", fails=True)
    assert "A           b" in buildx("build", "--call=outline", ".")
    assert "one (default)" in buildx("build", "--call=targets", ".")
    buildx.write(Dockerfile=SYNTAX + "FROM busybox\nRUNN true\n")
    said = buildx("build", ".", fails=True)
    assert "   3 | >>> RUNN true" in said and "unknown instruction: RUNN (did you mean RUN?)" in said
    buildx.write(Dockerfile="# syntax=busybox\nFROM x\n")
    assert 'exec: "/run"' in buildx("build", ".", fails=True)
    buildx.write(Dockerfile="# syntax=docker/dockerfile:1\nFROM busybox\n")
    assert "resolve image config" not in buildx("build", ".")


def test_debug_opens_a_shell_on_a_step_that_failed(buildx: Buildx) -> None:
    buildx.write(Dockerfile="FROM busybox\nRUN echo left > /left && exit 4\n")
    terminal = buildx.talk("debug", "--invoke=/bin/sh", "build", ".")
    terminal.until("/ # ")
    terminal.type("cat /left && exit\n")
    said = terminal.until("(buildx) ")
    assert "left\r" in said
    terminal.type("exit\n")
    terminal.close()


def test_source_policies_deny_and_convert(buildx: Buildx, engine: RunningEngine) -> None:
    engine.docker("tag", "busybox", "other/base:1")
    buildx.write(Dockerfile="FROM missing/base:1\nCOPY f /f\n", f="f")

    def build(fails: bool, *rules: str) -> str:
        buildx.write(policy=f'{{"version": 1, "rules": [{",".join(rules)}]}}')
        return buildx("build", ".", fails=fails, EXPERIMENTAL_BUILDKIT_SOURCE_POLICY="policy")

    to_base = (
        '{"action": 2, "selector": {"identifier": "docker-image://docker.io/missing/*"},'
        ' "updates": {"identifier": "docker-image://docker.io/other/$1"}}'
    )
    said = build(False, to_base)
    assert "docker.io/other/base:1@sha256:" in said
    denied = '{"action": 1, "selector": {"identifier": "other/base", "match_type": 2}}'
    said = build(True, to_base, denied)
    assert "denied by policy" in said and "docker.io/other/base:1" in said
    said = build(True, '{"action": 1, "selector": {"identifier": "local://context"}}', to_base)
    assert 'source "local://context" denied by policy' in said


@pytest.mark.usefixtures("frontend_image")
def test_every_door_runs_the_frontend_that_a_file_asks_for(engine: RunningEngine, tmp_path: Path) -> None:
    """`POST /build` of both versions, and `sampan build`. `RUN --mount` is beyond the classic builder."""
    step = "RUN --mount=type=tmpfs,target=/t cp /word /made && echo said so\n"
    (tmp_path / "Dockerfile").write_text(
        f"{SYNTAX}FROM busybox\nARG WHO\nCOPY . /\nRUN echo $WHO >> /word\n{step}"
    )
    (tmp_path / ".dockerignore").write_text("left\n")
    for name in ("word", "left"):
        (tmp_path / name).write_text(name)

    def shown(image: str) -> str:
        script = "ls /left 2>&1; cat /made"
        return engine.docker("run", "--rm", "--net", "none", image, "sh", "-c", script).stdout

    expected = "ls: /left: No such file or directory\nword"
    words = ["docker", "-H", engine.host, "build", "-t", "classic", "--build-arg", "WHO=old", str(tmp_path)]
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    built = subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert shown("classic") == f"{expected}old\n"
    assert "said so" in built.stdout and "resolve image config for docker-image://" in built.stdout
    assert built.stdout.splitlines()[-1] == "Successfully tagged classic:latest"
    engine.sampan("build", "-q", "-t", "ours", "--build-arg", "WHO=new", str(tmp_path))
    assert shown("ours") == f"{expected}new\n"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(tmp_path, ".")
    with engine.client() as client:
        query = {"version": "2", "t": ["posted"], "buildargs": '{"WHO": "posted"}'}
        told = list(client.api.request("POST", "/build", query, packed.getvalue()).json_stream())
    assert [each["id"] for each in told if "error" not in each][-1] == "moby.image.id", told[-1]
    assert shown("posted") == f"{expected}posted\n"
