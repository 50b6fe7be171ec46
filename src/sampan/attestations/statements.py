"""Statements about results, as in-toto has them, and the manifest by which an image's index carries them.

https://github.com/in-toto/attestation and BuildKit's docs/attestations/attestation-storage.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from sampan.oci.image import (
    ANNOTATION_REFERENCE_DIGEST,
    ANNOTATION_REFERENCE_TYPE,
    IN_TOTO,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Manifest,
    Platform,
    RootFS,
    describe,
    encode,
)

STATEMENT = "https://in-toto.io/Statement/v1"
SPDX = "https://spdx.dev/Document"
ANNOTATION_PREDICATE = "in-toto.io/predicate-type"
_ARTIFACT = "application/vnd.docker.attestation.manifest.v1+json"
_ABOUT = "attestation-manifest"
_NOWHERE = Platform(architecture="unknown", os="unknown")


class Subject(NamedTuple):
    """What a statement is about."""

    name: str
    digest: str


class Statement(NamedTuple):
    """A predicate of a type, as JSON. Without subjects of its own it is about whatever carries it."""

    predicate_type: str
    predicate: bytes
    subjects: Sequence[Subject] = ()


def document(statement: Statement, subjects: Iterable[Subject], *, indent: int = 0) -> bytes:
    """The statement about its subjects, or these."""
    told: dict[str, Any] = {
        "_type": STATEMENT,
        "predicateType": statement.predicate_type,
        "subject": [
            {"name": each.name, "digest": _set(each.digest)} for each in statement.subjects or subjects
        ],
        "predicate": msgspec.Raw(statement.predicate),
    }
    data = msgspec.json.encode(told)
    return msgspec.json.format(data, indent=indent) if indent else data


def _set(digest: str) -> Mapping[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


class About(NamedTuple):
    """A manifest about another one, and the blobs that it consists of beside itself."""

    descriptor: Descriptor
    """As the index has it."""
    manifest: bytes
    blobs: Sequence[bytes]


def about(target: Descriptor, statements: Sequence[tuple[str, bytes]], *, artifact: bool = True) -> About:
    """The manifest of finished statements (predicate type and document) about `target`.

    `artifact`: in OCI 1.1's form, with the target as its subject; else as an image of no platform, which older registries take.
    """
    layers = []
    for kind, data in statements:
        layer = describe(data, IN_TOTO)
        layers.append(msgspec.structs.replace(layer, annotations={ANNOTATION_PREDICATE: kind}))
    if artifact:
        config = b"{}"
        told = msgspec.structs.replace(describe(config, OCI_EMPTY), data="e30=")
        subject = Descriptor(media_type=target.media_type, digest=target.digest, size=target.size)
    else:
        diff_ids = [each.digest for each in layers]
        config = encode(ImageConfig(architecture="unknown", os="unknown", rootfs=RootFS(diff_ids=diff_ids)))
        told, subject = describe(config, OCI_CONFIG), None
    manifest = encode(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            artifact_type=_ARTIFACT if artifact else "",
            config=told,
            layers=layers,
            subject=subject,
        )
    )
    descriptor = msgspec.structs.replace(
        describe(manifest, OCI_MANIFEST),
        annotations={ANNOTATION_REFERENCE_DIGEST: target.digest, ANNOTATION_REFERENCE_TYPE: _ABOUT},
        platform=_NOWHERE,
    )
    return About(descriptor, manifest, [config, *(data for _, data in statements)])
