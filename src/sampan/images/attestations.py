"""Attestations: in-toto statements that a builder attached to an image (BuildKit, "Attestation storage")."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from sampan.engineapi.image import AttestationStatement
from sampan.images.parts import Parts
from sampan.names.platform import Platform
from sampan.oci.image import IN_TOTO

_PREDICATE = "in-toto.io/predicate-type"


async def attestations(
    parts: Parts, text: str, platform: Platform | None, types: list[str], with_statements: bool
) -> list[AttestationStatement]:
    """The statements about one platform of an image, all or those of the given predicate types.

    Raises `NotFound` for the image or its platform.
    """
    record = await parts.resolver.record(text)
    chosen = await parts.resolver.manifest(record, text, platform)
    found: list[AttestationStatement] = []
    for each in await parts.documents.manifests(record.target):
        if each.attests != chosen.descriptor.digest or each.manifest is None or not each.available:
            continue
        for layer in each.manifest.layers:
            predicate = layer.annotations.get(_PREDICATE, "")
            if layer.media_type == IN_TOTO and (not types or predicate in types):
                statement = (
                    msgspec.Raw(await parts.content.read(layer.checked_digest)) if with_statements else UNSET
                )
                found.append(AttestationStatement(layer, predicate, statement))
    return found
