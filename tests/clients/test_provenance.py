"""What `docker buildx` shows of how things were built: its metadata file and `docker buildx history`."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit_peer import BUILD_SECONDS
from running_engine import RunningEngine

Run = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * BUILD_SECONDS)]


def test_the_metadata_file_says_how_it_was_made(
    run: Run, context: Callable[..., None], tmp_path: Path
) -> None:
    context(Dockerfile="FROM busybox\nARG WHO\nCOPY words /\nRUN echo said $WHO\n", words="hello")
    run("buildx", "build", "--build-arg", "WHO=you", "--metadata-file", "meta.json", ".")
    metadata = json.loads((tmp_path / "meta.json").read_bytes())
    assert metadata["buildx.build.ref"].startswith("default/default/")
    made = metadata["buildx.build.provenance"]
    (base,) = made["materials"]
    assert base["uri"] == "pkg:docker/busybox@latest?platform=linux%2Famd64" and base["digest"]["sha256"]
    invocation = made["invocation"]
    assert invocation["configSource"] == {"entryPoint": "Dockerfile"}
    assert invocation["parameters"]["frontend"] == "dockerfile.v0"
    assert invocation["parameters"]["args"] == {"build-arg:WHO": "you"}
    assert [each["name"] for each in invocation["parameters"]["locals"]] == ["context", "dockerfile"]


def test_history_tells_of_builds_that_were(
    run: Run, context: Callable[..., None], tmp_path: Path, engine: RunningEngine
) -> None:
    def said(*arguments: str) -> str:
        done = run("buildx", "history", *arguments)
        return f"{done.stdout}{done.stderr}"

    run("buildx", "history", "rm", "--all")
    context(
        Dockerfile="FROM busybox\nARG WHO\nRUN echo said $WHO\n", Bad="FROM busybox\nRUN echo no && exit 3\n"
    )
    run("buildx", "build", "-t", "built", "--build-arg", "WHO=you", ".")
    shown = said("inspect")
    assert "BUILD ARG" in shown and "pkg:docker/busybox@latest" in shown
    assert "https://slsa.dev/provenance/v1" in shown and "application/vnd.oci.image." in shown
    made = json.loads(said("inspect", "attachment", "--type", "provenance"))
    steps = made["buildDefinition"]["internalParameters"]["buildConfig"]["llbDefinition"]
    assert steps[0]["op"]["Op"]["source"]["identifier"].startswith("docker-image://docker.io/library/busybox")
    assert "said you" in said("logs")
    trace = json.loads(said("trace"))["data"][0]
    assert any(span["operationName"].endswith("RUN echo said $WHO") for span in trace["spans"])
    run("buildx", "history", "export", "-o", str(tmp_path / "exported"))
    with tarfile.open(tmp_path / "exported") as archive:
        assert {"index.json", "oci-layout"} <= set(archive.getnames())
    run("buildx", "build", "-f", "Bad", ".", fails=True)
    shown = said("inspect")
    assert "   2 | >>> RUN echo no && exit 3" in shown and "> no" in shown
    assert len(said("ls", "--format", "{{.Ref}}").split()) == 2
    run("buildx", "history", "rm", "--all")
    assert said("ls", "--format", "{{.Ref}}").split() == []
