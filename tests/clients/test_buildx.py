"""`docker buildx` and `buildctl`, as their makers build them, against the engine's builder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit_peer import BUILD_SECONDS, buildctl
from registry_peer import SampanRegistry
from running_engine import RunningEngine
from sampan.llb import state
from sampan.llb.execop import Command
from sampan.llb.fileop import Copy
from web_server import publish, served

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * BUILD_SECONDS)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_builder_is_described(run: Run) -> None:
    listed = run("buildx", "ls").stdout
    assert re.search(r"^default\*? +docker", listed, re.MULTILINE)
    assert "running" in listed and "linux/amd64" in listed
    inspected = run("buildx", "inspect").stdout
    assert re.search(r"^BuildKit version: v0\.\d+", inspected, re.MULTILINE)
    assert "Total:" in run("buildx", "du").stdout
    assert "Total:" in run("buildx", "prune", "-f").stdout


def test_a_dockerfile_becomes_an_image_and_is_cached(
    run: Run, context: Callable[..., None], tmp_path: Path
) -> None:
    context(
        Dockerfile="FROM busybox AS made\nARG WHO\nCOPY words /\nRUN echo $(cat /words) $WHO > /out\n"
        'FROM busybox\nCOPY --from=made /out /\nCMD ["cat", "/out"]\n',
        words="hello",
    )
    build = ("buildx", "build", "-t", "built", "--build-arg", "WHO=you", "--provenance=false")
    first = run(*build, "--metadata-file", "meta.json", ".")
    assert run("run", "--rm", "--net", "none", "built").stdout == "hello you\n"
    assert "naming to docker.io/library/built:latest" in first.stderr
    again = run(*build, "--iidfile", "id", ".")
    assert len(re.findall(r"^#\d+ CACHED$", again.stderr, re.MULTILINE)) >= 3
    metadata = json.loads((tmp_path / "meta.json").read_bytes())
    assert metadata["containerimage.digest"] == (tmp_path / "id").read_text()
    assert metadata["image.name"] == "docker.io/library/built:latest"


def test_mistakes_are_shown_where_they_are(run: Run, context: Callable[..., None]) -> None:
    context(Dockerfile="FROM busybox\nRUN echo before && exit 3\nCMD sh\n")
    said = run("buildx", "build", ".", fails=True).stderr
    assert "   2 | >>> RUN echo before && exit 3" in said
    assert 'process "/bin/sh -c echo before && exit 3" did not complete successfully: exit code: 3' in said
    assert re.search(r"^ > \[2/2\] RUN echo before && exit 3:\n[\d.]+ before$", said, re.MULTILINE)
    context(Dockerfile="FROM busybox\nRUNN true\n")
    said = run("buildx", "build", ".", fails=True).stderr
    assert "   2 | >>> RUNN true" in said and "unknown instruction: RUNN (did you mean RUN?)" in said


def test_secrets_reach_the_program_and_nothing_else(
    run: Run, context: Callable[..., None], engine: RunningEngine
) -> None:
    secret = "correct-horse-battery-staple"
    context(
        Dockerfile="FROM busybox\nRUN --mount=type=secret,id=token,required=true wc -c < /run/secrets/token > /size\n",
        token=secret,
    )
    run("buildx", "build", "-t", "built", "--secret", "id=token,src=token", "-f", "Dockerfile", ".")
    assert run("run", "--rm", "--net", "none", "built", "cat", "/size").stdout.strip() == str(len(secret))
    found = subprocess.run(
        ["grep", "-rlF", secret, engine.data_root, engine.exec_root, engine.log_path],
        capture_output=True,
        text=True,
        check=False,
    )
    kept = [each for each in found.stdout.splitlines() if not each.endswith("/token")]
    assert kept == []


def test_only_what_changed_is_sent_again(run: Run, context: Callable[..., None]) -> None:
    context(Dockerfile="FROM scratch\nCOPY . /\n", one="1" * 500_000, two="2" * 300_000)

    def sent() -> float:
        said = run("buildx", "build", ".").stderr
        found = re.findall(r"transferring context: ([\d.]+)(kB|B)", said)
        return max((float(size) * (1000 if unit == "kB" else 1) for size, unit in found), default=0)

    assert sent() > 790_000
    assert sent() < 100_000
    context(two="3" * 300_001)
    assert 290_000 < sent() < 400_000


BAKE = """
group "default" { targets = ["app", "other"] }
target "base" { dockerfile-inline = "FROM busybox\\nENV A=b\\nRUN echo base > /base" }
target "app" {
  contexts = { base = "target:base" }
  dockerfile-inline = "FROM base\\nRUN cat /base > /app && echo $A >> /app"
  tags = ["app"]
}
target "other" {
  contexts = { base = "target:base" }
  dockerfile-inline = "FROM busybox\\nCOPY --from=base /base /copied"
  tags = ["other"]
}
"""


def test_bake_builds_targets_on_targets(run: Run, tmp_path: Path) -> None:
    (tmp_path / "docker-bake.hcl").write_text(BAKE)
    run("buildx", "bake")
    assert run("run", "--rm", "--net", "none", "app", "cat", "/app").stdout == "base\nb\n"
    assert run("run", "--rm", "--net", "none", "other", "cat", "/copied").stdout == "base\n"


def test_what_builds_keep_is_listed_and_let_go(run: Run, context: Callable[..., None]) -> None:
    context(Dockerfile="FROM busybox\nRUN echo kept > /kept\n")
    run("buildx", "build", ".")
    assert "RUN echo kept" in run("buildx", "du", "--verbose").stdout
    gone = run("buildx", "prune", "-f", "--filter", "type=source.local").stdout
    assert "Total:" in gone
    kept = run("buildx", "du", "--verbose").stdout
    assert "source.local" not in kept and "RUN echo kept" in kept
    run("buildx", "prune", "-af")
    assert "RUN echo kept" not in run("buildx", "du", "--verbose").stdout


def test_an_archive_from_standard_input_is_a_context(
    run: Run, context: Callable[..., None], tmp_path: Path, engine: RunningEngine
) -> None:
    context(Dockerfile="FROM scratch\nCOPY . /\n", kept="k", left="l")
    (tmp_path / ".dockerignore").write_text("left\n")
    with tarfile.open(tmp_path / "c.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("Dockerfile", ".dockerignore", "kept", "left"):
            archive.add(tmp_path / name, name)
    with (tmp_path / "c.tar").open("rb") as file:
        done = subprocess.run(
            ["docker", "buildx", "build", "-o", "out", "-"],
            stdin=file,
            env=run.environment,  # type: ignore[attr-defined]
            cwd=tmp_path,
            capture_output=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode() + engine.log[-2000:]
    assert sorted(os.listdir(tmp_path / "out")) == [".dockerignore", "Dockerfile", "kept"]
    assert os.listdir(engine.data_root / "build") == []


def test_a_repository_is_a_context(run: Run, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    (work / "sub" / "Dockerfile").write_text("FROM busybox\nCOPY word /\n")
    (work / "sub" / "word").write_text("of the repository")
    publish(work, tmp_path / "web" / "repo.git")
    with served(tmp_path / "web") as url:
        run("buildx", "build", "-t", "built", f"{url}/repo.git#main:sub")
    assert run("run", "--rm", "--net", "none", "built", "cat", "/word").stdout == "of the repository"


def test_builds_that_were(run: Run, context: Callable[..., None], tmp_path: Path) -> None:
    context(Dockerfile="FROM busybox\nRUN echo spoken\n")
    run("buildx", "build", ".")
    listed = run("buildx", "history", "ls").stdout
    assert re.search(rf"{tmp_path.name} +Completed", listed)
    assert "spoken" in run("buildx", "history", "logs", "--progress", "plain").stderr
    run("buildx", "history", "rm", "--all")
    assert tmp_path.name not in run("buildx", "history", "ls").stdout


def test_a_result_for_the_clients_directory(run: Run, context: Callable[..., None], tmp_path: Path) -> None:
    context(Dockerfile="FROM scratch\nCOPY a /dir/b\n", a="content")
    run("buildx", "build", "-o", "out", ".")
    assert (tmp_path / "out" / "dir" / "b").read_text() == "content"


def test_a_result_as_an_archive(run: Run, context: Callable[..., None], tmp_path: Path) -> None:
    context(Dockerfile="FROM scratch\nCOPY a /dir/b\n", a="content")
    run("buildx", "build", "-o", "type=tar,dest=out.tar", ".")
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.getnames() == ["dir", "dir/b"]
        file = archive.extractfile("dir/b")
        assert file is not None and file.read() == b"content"


def test_images_as_archives_at_a_given_time_are_the_same_bytes(
    run: Run, context: Callable[..., None], tmp_path: Path
) -> None:
    context(Dockerfile="FROM busybox\nRUN echo fixed > /f\nCMD cat /f\n")
    for name in ("one", "two"):
        run(
            "buildx", "build", "--no-cache", "--provenance=false", "--build-arg", "SOURCE_DATE_EPOCH=1700000000",
            "-o", f"type=oci,dest={name}.tar,rewrite-timestamp=true,compression=zstd", "."
        )  # fmt: skip
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
        digest = index["manifests"][0]["digest"].removeprefix("sha256:")
        manifest = json.load(archive.extractfile(f"blobs/sha256/{digest}"))  # type: ignore[arg-type]
        assert manifest["layers"][-1]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    run("buildx", "build", "--provenance=false", "-t", "packed:1", "-o", "type=docker,dest=image.tar", ".")
    run("load", "-i", "image.tar")
    assert run("run", "--rm", "--net", "none", "packed:1").stdout == "fixed\n"


def test_a_result_is_pushed(run: Run, context: Callable[..., None], server: SampanRegistry) -> None:
    name = f"{server.host}/built/app:v1"
    context(Dockerfile="FROM busybox\nRUN echo made > /made\n")
    run("buildx", "build", "--push", "-t", name, ".")
    run("rmi", name)
    assert run("run", "--rm", "--net", "none", name, "cat", "/made").stdout == "made\n"
    assert json.loads(run("buildx", "imagetools", "inspect", "--raw", name).stdout)["schemaVersion"] == 2


def test_buildctl_sends_graphs_of_its_own(engine: RunningEngine, tmp_path: Path) -> None:
    made = state.image("docker.io/library/busybox:latest").run(
        Command(args=["/bin/sh", "-c", "echo made > /made"])
    )
    source = state.local("context")
    done = state.change(made.root, [Copy(source, "/", "/sent/")])
    (tmp_path / "file").write_text("sent")
    command = [
        buildctl(),
        "--addr",
        f"unix://{engine.exec_root}/buildkit.sock",
        "build",
        "--progress=plain",
        f"--local=context={tmp_path}",
        "--output=type=image,name=built",
    ]
    data = state.definition(done).SerializeToString()
    built = subprocess.run(
        [str(each) for each in command], input=data, capture_output=True, timeout=120, check=False
    )
    assert built.returncode == 0, built.stderr.decode() + engine.log[-2000:]
    shown = engine.docker("run", "--rm", "--net", "none", "built", "cat", "/made", "/sent/file")
    assert shown.stdout == "made\nsent"
