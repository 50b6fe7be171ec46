"""Provenance as SLSA's predicates, as dockerd's builder tells it of the same builds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sampan.attestations.asking import ProvenanceWish
from sampan.attestations.captures import Capture, ImageSource
from sampan.attestations.predicates import Asked, Facts, GraphTold, predicate
from sampan.attestations.purl import image_purl
from sampan.errors import InvalidParameter
from sampan.names.platform import Platform

DIGEST = "6247bda44fac4682135a9ffd0452c6167fef01dd30eb65b438904412a3f9a6cc"
OPTIONS = {
    "filename": "Dockerfile",
    "build-arg:WHO": "you",
    "label:l": "v",
    "force-network-mode": "none",
    "image-resolve-mode": "local",
    "platform": "linux/amd64",
    "attest:provenance": "mode=min",
    "vcs:source": "https://me:word@host/it.git",
    "vcs:revision": "abc",
}
FACTS = Facts(
    invocation="i",
    started_ns=1_000_000_000,
    finished_ns=2_500_000_000,
    builder_platform="linux/amd64",
    frontend_version="1.2.3",
    compatibility=30,
    asked=Asked("dockerfile.v0", OPTIONS),
    root=Asked("", OPTIONS),
)
MIN, MAX = ProvenanceWish(full=False), ProvenanceWish()


def capture() -> Capture:
    image = ImageSource("docker.io/library/busybox:latest", Platform("linux", "amd64"), f"sha256:{DIGEST}")
    return Capture(images=[image], locals={"dockerfile", "context"}, secrets={"token": True}, network=True)


def test_little_is_told_in_the_smaller_mode() -> None:
    args = {"force-network-mode": "none"}
    assert predicate(capture(), FACTS, MIN) == {
        "buildDefinition": {
            "buildType": "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
            "resolvedDependencies": [
                {"uri": "pkg:docker/busybox@latest?platform=linux%2Famd64", "digest": {"sha256": DIGEST}}
            ],
            "externalParameters": {
                "configSource": {"path": "Dockerfile"},
                "request": {
                    "frontend": "dockerfile.v0",
                    "args": args,
                    "locals": [{"name": "context"}, {"name": "dockerfile"}],
                    "root": {
                        "configSource": {"path": "Dockerfile"},
                        "request": {
                            "args": args
                            | {"vcs:source": "https://xxxxx:xxxxx@host/it.git", "vcs:revision": "abc"}
                        },
                    },
                    "compatibilityVersion": 30,
                },
            },
            "internalParameters": {"builderPlatform": "linux/amd64", "dockerfileVersion": "1.2.3"},
        },
        "runDetails": {
            "builder": {"id": ""},
            "metadata": {
                "invocationId": "i",
                "startedOn": "1970-01-01T00:00:01Z",
                "finishedOn": "1970-01-01T00:00:02.5Z",
                "buildkit_metadata": {
                    "vcs": {"source": "https://xxxxx:xxxxx@host/it.git", "revision": "abc"}
                },
                "buildkit_completeness": {"request": False, "resolvedDependencies": False},
            },
        },
    }


def request_of(made: dict[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] = made["buildDefinition"]["externalParameters"]["request"]
    return request


def test_everything_is_told_in_the_larger_one() -> None:
    made = predicate(capture(), FACTS, MAX, GraphTold({"llbDefinition": [1]}, {"layers": {"step0:0": []}}))
    assert request_of(made)["args"] == {
        "build-arg:WHO": "you",
        "force-network-mode": "none",
        "label:l": "v",
    }
    assert request_of(made)["secrets"] == [{"id": "token", "optional": True}]
    assert made["buildDefinition"]["internalParameters"]["buildConfig"] == {"llbDefinition": [1]}
    metadata = made["runDetails"]["metadata"]
    assert metadata["buildkit_metadata"]["layers"] == {"step0:0": []}
    assert metadata["buildkit_completeness"]["request"]


def test_a_repository_is_the_source_with_its_commit() -> None:
    used = Capture(repositories={"https://host/it.git#main": "c" * 40}, network=False)
    options = {"context": "https://host/it.git#main:sub"}
    facts = dataclasses.replace(FACTS, asked=Asked("dockerfile.v0", options), root=None)
    made = predicate(used, facts, MAX)
    external = made["buildDefinition"]["externalParameters"]
    assert external["configSource"] == {
        "uri": "https://host/it.git#main:sub",
        "digest": {"sha1": "c" * 40},
    }
    assert made["buildDefinition"]["resolvedDependencies"] == [
        {"uri": "https://host/it.git#main", "digest": {"sha1": "c" * 40}}
    ]
    assert made["runDetails"]["metadata"]["buildkit_hermetic"]
    assert "root" not in external["request"]


def test_a_file_of_the_web_is_the_source_with_its_digest() -> None:
    used = Capture(files={"https://host/c.tar": f"sha256:{DIGEST}"})
    facts = dataclasses.replace(FACTS, asked=Asked("dockerfile.v0", {"context": "https://host/c.tar"}))
    source = predicate(used, facts, MAX)["buildDefinition"]["externalParameters"]["configSource"]
    assert source == {"uri": "https://host/c.tar", "digest": {"sha256": DIGEST}}


def test_the_same_request_is_not_told_twice() -> None:
    facts = dataclasses.replace(FACTS, root=FACTS.asked)
    assert "root" not in request_of(predicate(capture(), facts, MAX))


def test_a_graph_alone_was_nobodys_request() -> None:
    made = predicate(capture(), dataclasses.replace(FACTS, asked=None, root=None), MAX)
    assert "frontend" not in request_of(made)
    assert not made["runDetails"]["metadata"]["buildkit_completeness"]["request"]


def test_the_older_form_says_the_same() -> None:
    wish = ProvenanceWish(version="v0.2", reproducible=True, builder_id="https://me")
    made = predicate(capture(), FACTS, wish, GraphTold({"llbDefinition": [1]}, {}))
    assert made["builder"] == {"id": "https://me"}
    assert made["buildType"] == "https://mobyproject.org/buildkit@v1"
    assert made["materials"][0]["digest"] == {"sha256": DIGEST}
    assert made["invocation"]["configSource"] == {"entryPoint": "Dockerfile"}
    assert made["invocation"]["environment"] == {"platform": "linux/amd64", "dockerfileVersion": "1.2.3"}
    assert made["buildConfig"] == {"llbDefinition": [1]}
    assert made["metadata"]["completeness"] == {
        "parameters": True,
        "environment": True,
        "materials": False,
    }
    assert made["metadata"]["reproducible"]


def test_who_wants_all_materials_is_told_which_are_not_known() -> None:
    wish = ProvenanceWish(complete=True)
    with pytest.raises(InvalidParameter, match=r"(?s)materials are incomplete.*- context\n    reason: local"):
        predicate(capture(), FACTS, wish)
    predicate(Capture(), FACTS, wish)


def test_an_image_of_no_registry_is_told_so() -> None:
    image = ImageSource(f"store@sha256:{DIGEST}", None, f"sha256:{DIGEST}", True)
    made = predicate(Capture(images=[image]), FACTS, MAX)
    (told,) = made["buildDefinition"]["resolvedDependencies"]
    assert told == {"uri": f"pkg:oci/store?digest=sha256:{DIGEST}", "digest": {"sha256": DIGEST}}


@pytest.mark.parametrize(
    ("reference", "purl"),
    [
        ("busybox", "pkg:docker/busybox@latest"),
        ("docker.io/library/busybox:1.2", "pkg:docker/busybox@1.2"),
        ("me/app:1", "pkg:docker/me/app@1"),
        ("localhost:5000/a/b", "pkg:docker/localhost:5000/a/b@latest"),
        (f"busybox@sha256:{DIGEST}", f"pkg:docker/busybox?digest=sha256:{DIGEST}"),
        (f"busybox:1@sha256:{DIGEST}", f"pkg:docker/busybox@1?digest=sha256:{DIGEST}"),
        (f"sha256:{DIGEST}", f"pkg:docker/image?digest=sha256:{DIGEST}"),
    ],
)
def test_images_are_package_urls(reference: str, purl: str) -> None:
    assert image_purl(reference) == purl
