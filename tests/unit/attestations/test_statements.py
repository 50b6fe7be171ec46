"""Statements, and the manifests that carry them."""

from __future__ import annotations

import json

from sampan.attestations.predicates import V1
from sampan.attestations.statements import Statement, Subject, about, document
from sampan.names.digest import digest_of
from sampan.oci.image import OCI_MANIFEST, Descriptor, parse_config, parse_manifest

TARGET = Descriptor(media_type=OCI_MANIFEST, digest="sha256:" + "a" * 64, size=852)
STATEMENT = Statement(V1, b'{"runDetails":{}}')


def test_a_statement_is_about_its_subjects() -> None:
    data = document(STATEMENT, [Subject("pkg:docker/a@1", TARGET.digest)])
    assert json.loads(data) == {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "subject": [{"name": "pkg:docker/a@1", "digest": {"sha256": "a" * 64}}],
        "predicate": {"runDetails": {}},
    }
    assert json.loads(document(STATEMENT, [], indent=2))["subject"] == []


def test_an_index_has_it_as_a_manifest_about_the_image() -> None:
    data = document(STATEMENT, [])
    made = about(TARGET, [(V1, data)])
    manifest = parse_manifest(made.manifest)
    assert manifest.artifact_type == "application/vnd.docker.attestation.manifest.v1+json"
    assert manifest.subject == TARGET
    assert (manifest.config.media_type, manifest.config.size) == ("application/vnd.oci.empty.v1+json", 2)
    (layer,) = manifest.layers
    assert (layer.media_type, layer.digest) == ("application/vnd.in-toto+json", digest_of(data))
    assert layer.annotations == {"in-toto.io/predicate-type": V1}
    assert made.descriptor.annotations == {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": TARGET.digest,
    }
    assert made.descriptor.platform is not None
    assert (made.descriptor.platform.os, made.descriptor.platform.architecture) == ("unknown", "unknown")
    assert made.descriptor.digest == digest_of(made.manifest)
    assert made.blobs == [b"{}", data]


def test_older_registries_take_it_as_an_image_of_no_platform() -> None:
    data = document(STATEMENT, [])
    made = about(TARGET, [(V1, data)], artifact=False)
    manifest = parse_manifest(made.manifest)
    assert not manifest.artifact_type and manifest.subject is None
    config = parse_config(made.blobs[0])
    assert (config.os, config.architecture, config.rootfs.diff_ids) == (
        "unknown",
        "unknown",
        [digest_of(data)],
    )
