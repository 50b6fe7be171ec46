"""What a client asks to be attested."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.attestations.asking import ProvenanceWish, SbomWish, Wishes, wishes
from sampan.errors import InvalidParameter, NotSupported, SampanError


def test_nothing_is_asked_for_by_other_options() -> None:
    assert wishes({"build-arg:A": "b", "filename": "Dockerfile"}) == Wishes()


def test_buildx_asks_for_little_by_default() -> None:
    asked = wishes({"attest:provenance": "mode=min,inline-only=true"}).provenance
    assert asked == ProvenanceWish(full=False, inline_only=True)


def test_without_a_mode_everything_is_told() -> None:
    assert wishes({"attest:provenance": ""}).provenance == ProvenanceWish(full=True)
    assert wishes({"build-arg:BUILDKIT_ATTEST_PROVENANCE": "mode=full"}).provenance == ProvenanceWish()


def test_every_attribute_is_read() -> None:
    text = 'version=v0.2,reproducible=true,builder-id=https://me,filename=p.json,complete-materials=1,"x=a,b"'
    assert wishes({"attest:provenance": text}).provenance == ProvenanceWish(
        version="v0.2", reproducible=True, builder_id="https://me", filename="p.json", complete=True
    )


def test_a_scanner_is_an_image() -> None:
    assert wishes({"attest:sbom": ""}).sbom == SbomWish("docker.io/docker/buildkit-syft-scanner:stable-1", {})
    asked = wishes({"attest:sbom": "generator=me/scan,EXTRA=1"}).sbom
    assert asked == SbomWish("docker.io/me/scan:latest", {"EXTRA": "1"})


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("nonsense", "", 'unknown attestation type "nonsense"'),
        ("provenance", "mode=bad", 'invalid mode "bad"'),
        ("provenance", "version=v9", "invalid provenance SLSA version: v9"),
        ("provenance", "version=", "provenance SLSA version cannot be empty"),
        ("provenance", "reproducible=perhaps", 'failed to parse reproducible flag "perhaps"'),
        ("provenance", '"mode=min', "failed to parse provenance"),
        ("sbom", "generator=", "sbom generator cannot be empty"),
        ("sbom", "generator=NO", "failed to parse sbom generator NO"),
    ],
)
def test_mistakes_are_told_as_buildkit_does(kind: str, text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        wishes({f"attest:{kind}": text})


def test_what_nobody_measures_is_refused() -> None:
    with pytest.raises(NotSupported, match="capture-usage"):
        wishes({"attest:provenance": "capture-usage=true"})


@given(st.sampled_from(["provenance", "sbom", "other"]), st.text())
def test_no_text_is_a_crash(kind: str, text: str) -> None:
    try:
        wishes({f"attest:{kind}": text})
    except SampanError:
        pass
