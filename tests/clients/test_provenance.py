"""What `docker buildx` shows of how things were built: in the image, its metadata file and `docker buildx history`."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit_peer import BUILD_SECONDS
from registry_peer import SampanRegistry
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
    assert any(span["operationName"].endswith("RUN echo said you") for span in trace["spans"])
    run("buildx", "history", "export", "-o", str(tmp_path / "exported"))
    with tarfile.open(tmp_path / "exported") as archive:
        assert {"index.json", "oci-layout"} <= set(archive.getnames())
    run("buildx", "build", "-f", "Bad", ".", fails=True)
    shown = said("inspect")
    assert "   2 | >>> RUN echo no && exit 3" in shown and "> no" in shown
    assert len(said("ls", "--format", "{{.Ref}}").split()) == 2
    run("buildx", "history", "rm", "--all")
    assert said("ls", "--format", "{{.Ref}}").split() == []


def index_of(archive: Path) -> tuple[dict[str, Any], Callable[[str], bytes]]:
    """What an archive of an image means, and its blobs."""
    with tarfile.open(archive) as opened:
        held = {each.name: opened.extractfile(each).read() for each in opened if each.isfile()}  # type: ignore[union-attr]

    def blob(digest: str) -> bytes:
        return held["blobs/" + digest.replace(":", "/")]

    (target,) = json.loads(held["index.json"])["manifests"]
    return json.loads(blob(target["digest"])), blob


def statements(archive: Path) -> list[dict[str, Any]]:
    """Those about its images."""
    index, blob = index_of(archive)
    found = []
    for manifest in index.get("manifests", []):
        if manifest.get("annotations", {}).get("vnd.docker.reference.type") == "attestation-manifest":
            assert manifest["platform"] == {"architecture": "unknown", "os": "unknown"}
            subject = manifest["annotations"]["vnd.docker.reference.digest"]
            assert subject in [each["digest"] for each in index["manifests"]]
            layers = json.loads(blob(manifest["digest"]))["layers"]
            found += [json.loads(blob(layer["digest"])) for layer in layers]
    return found


@pytest.mark.parametrize(
    ("flags", "version", "full"),
    [
        ([], "v1", False),
        (["--provenance=true"], "v1", True),
        (["--provenance=mode=max,version=v0.2"], "v0.2", True),
        (["--attest=type=provenance,mode=min,builder-id=https://me"], "v1", False),
        (["--provenance=false"], "", False),
    ],
)
def test_images_carry_how_they_were_made(
    run: Run, context: Callable[..., None], tmp_path: Path, flags: list[str], version: str, full: bool
) -> None:
    context(
        Dockerfile="FROM busybox\nARG WHO\nRUN --mount=type=secret,id=token echo $WHO > /made\n",
        token="correct-horse-battery-staple",
    )
    run("buildx", "build", "-t", "built", *flags, "--build-arg=WHO=you", "--secret=id=token,src=token", ".")
    assert run("run", "--rm", "--net", "none", "built", "cat", "/made").stdout == "you\n"
    run("save", "-o", "built.tar", "built")
    assert b"correct-horse" not in (tmp_path / "built.tar").read_bytes()
    found = statements(tmp_path / "built.tar")
    if not version:
        assert found == []
        return
    (statement,) = found
    assert statement["predicateType"] == f"https://slsa.dev/provenance/{version}"
    assert statement["subject"][0]["name"] == "pkg:docker/built@latest?platform=linux%2Famd64"
    assert ("you" in json.dumps(statement["predicate"])) == full
    assert ("llbDefinition" in json.dumps(statement["predicate"])) == full
    assert ("https://me" in json.dumps(statement["predicate"])) == any("https://me" in each for each in flags)


def test_files_for_the_client_have_it_beside_them_when_it_is_asked_for(
    run: Run, context: Callable[..., None], tmp_path: Path
) -> None:
    context(Dockerfile="FROM scratch\nCOPY a b/c /d/\n", a="hello")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("deep")
    run("buildx", "build", "-o", "plain", ".")
    assert sorted(each.name for each in (tmp_path / "plain").iterdir()) == ["d"]
    run("buildx", "build", "--provenance=mode=min", "-o", "told", ".")
    statement = json.loads((tmp_path / "told" / "provenance.json").read_bytes())
    assert (tmp_path / "told" / "provenance.json").stat().st_mode & 0o777 == 0o600
    assert [(each["name"], each["digest"]["sha256"]) for each in statement["subject"]] == [
        (f"d/{name}", hashlib.sha256(data).hexdigest()) for name, data in (("a", b"hello"), ("c", b"deep"))
    ]
    run("buildx", "build", "--provenance=mode=min", "-o", "type=tar,dest=told.tar", ".")
    with tarfile.open(tmp_path / "told.tar") as archive:
        assert {"provenance.json", "d/a"} <= set(archive.getnames())
    run("buildx", "build", "-o", "type=oci,dest=plain.oci", ".")
    assert "config" in index_of(tmp_path / "plain.oci")[0]
    run("buildx", "build", "--provenance=mode=min", "-o", "type=oci,dest=told.oci", ".")
    assert len(statements(tmp_path / "told.oci")) == 1


def test_each_platform_has_its_own(run: Run, context: Callable[..., None], tmp_path: Path) -> None:
    context(Dockerfile="FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\n", a="hello")
    run("buildx", "build", "--platform=linux/amd64,linux/arm64", "-o", "type=oci,dest=both.oci", ".")
    told = [each["predicate"]["buildDefinition"] for each in statements(tmp_path / "both.oci")]
    platforms = [each["internalParameters"]["targetPlatform"] for each in told]
    assert platforms == ["linux/amd64", "linux/arm64"]
    metadata = "meta.json"
    run("buildx", "build", "--platform=linux/amd64,linux/arm64", "--metadata-file", metadata, ".")
    assert {"buildx.build.provenance/linux/amd64", "buildx.build.provenance/linux/arm64"} <= set(
        json.loads((tmp_path / metadata).read_bytes())
    )


def test_registries_are_given_it(
    run: Run, context: Callable[..., None], server: SampanRegistry, tmp_path: Path
) -> None:
    context(Dockerfile="FROM busybox\nRUN echo made > /made\n")
    name = f"{server.host}/me/built:1"
    run("buildx", "build", "-t", name, "--push", "--provenance=mode=max", ".")
    shown = run("buildx", "imagetools", "inspect", name, "--format", "{{json .Provenance}}").stdout
    assert json.loads(shown)["SLSA"]["buildDefinition"]["resolvedDependencies"][0]["uri"].startswith(
        "pkg:docker/busybox@latest"
    )
    run("rmi", name)
    run("pull", name)
    assert run("run", "--rm", "--net", "none", name, "cat", "/made").stdout == "made\n"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--attest=type=nonsense", 'unknown attestation type "nonsense"'),
        ("--provenance=mode=bad", 'invalid mode "bad"'),
        ("--provenance=version=v9", "invalid provenance SLSA version: v9"),
        ("--provenance=complete-materials=true", "provenance materials are incomplete"),
    ],
)
def test_mistakes_are_told(run: Run, context: Callable[..., None], flag: str, message: str) -> None:
    context(Dockerfile="FROM scratch\nCOPY a /\n", a="hello")
    assert message in run("buildx", "build", flag, ".", fails=True).stderr


SCANNER = r"""#!/bin/sh
set -e
cat "$BUILDKIT_SCAN_SOURCE/made" > /tmp/seen
if touch "$BUILDKIT_SCAN_SOURCE/mine" 2>/dev/null; then exit 9; fi
for name in sbom extra; do
    told='"name":"'"$name $(cat /tmp/seen) $BUILDKIT_SCAN_WORD"'"'
    echo '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{'"$told"'}}' \
        > "$BUILDKIT_SCAN_DESTINATION/$name.spdx.json"
done
"""


def test_a_scanner_says_what_the_result_consists_of(
    run: Run, context: Callable[..., None], tmp_path: Path
) -> None:
    context(
        Dockerfile="FROM busybox\nRUN echo made > /made\n",
        Scanner='FROM busybox\nCOPY --chmod=755 scan /scan\nENTRYPOINT ["/scan"]\n',
        scan=SCANNER,
        Other='FROM busybox\nENTRYPOINT ["sh", "-c", "echo 1 > $BUILDKIT_SCAN_DESTINATION/x"]\n',
    )
    run("buildx", "build", "-t", "me/scanner", "-f", "Scanner", ".")
    run("buildx", "build", "-t", "me/other", "-f", "Other", ".")
    asked = ("--attest", "type=sbom,generator=me/scanner,WORD=told")
    run("buildx", "build", "-t", "built", *asked, ".")
    run("save", "-o", "built.tar", "built")
    found = statements(tmp_path / "built.tar")
    spdx = "https://spdx.dev/Document"
    assert [each["predicateType"] for each in found] == [spdx, spdx, "https://slsa.dev/provenance/v1"]
    assert [each["predicate"]["name"] for each in found[:2]] == ["sbom made told", "extra made told"]
    assert found[0]["subject"] == found[2]["subject"]
    run("buildx", "build", "-o", "told", *asked, ".")
    assert sorted(each.name for each in (tmp_path / "told").glob("*.json")) == [
        "extra.spdx.json",
        "sbom.spdx.json",
    ]
    assert not (tmp_path / "told" / "mine").exists()
    said = run("buildx", "build", "--sbom=generator=me/other", ".", fails=True).stderr
    assert "cannot decode in-toto statement x" in said
    said = run(
        "buildx", "build", "--sbom=true", "--build-arg=BUILDKIT_SBOM_SCAN_CONTEXT=1", ".", fails=True
    ).stderr
    assert "BUILDKIT_SBOM_SCAN_CONTEXT" in said
