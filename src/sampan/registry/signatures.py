"""Signatures beside an image in its repository, as cosign keeps them: an OCI manifest whose layers are payloads.

It refers to the image as its subject (cosign's `oci-1-1` mode) and has the tag `sha256-HEX.sig` (cosign's usual way), so cosign
finds it either way. Each layer's annotation holds the signature over it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.names.digest import Digest, algorithm_of, encoded_of
from sampan.oci.image import (
    MANIFEST_TYPES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    RootFS,
    describe,
    encode,
    parse_index,
    parse_manifest,
)
from sampan.registry.claims import CLAIM_MAX, COSIGN_TYPE, is_named, parse_claim
from sampan.registry.pushing import Pusher

if TYPE_CHECKING:
    from sampan.names.reference import Reference
    from sampan.registry.repository import Repository
    from sampan.registry.signingkeys import VerifyingKey

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
_MANIFESTS_MAX = 32
_SIGNATURES_MAX = 256


class Signature(NamedTuple):
    """A payload and the signature over it."""

    payload: bytes
    signature: bytes


async def signatures_of(repository: Repository, digest: Digest) -> list[Signature]:
    """Every signature of an image that its repository has, none of them verified; what is malformed is passed over."""
    found: dict[bytes, Signature] = {}
    for target in await _manifests(repository, digest):
        try:
            manifest = parse_manifest(await repository.manifest(target), target.digest)
        except InvalidParameter:
            continue
        for layer in manifest.layers[:_SIGNATURES_MAX]:
            if layer.media_type != PAYLOAD or layer.size > CLAIM_MAX or ANNOTATION not in layer.annotations:
                continue
            try:
                signature = base64.b64decode(layer.annotations[ANNOTATION], validate=True)
            except (binascii.Error, ValueError):
                continue
            found[signature] = Signature(await repository.document(layer), signature)
    return list(found.values())


async def attach(repository: Repository, target: Descriptor, signature: Signature) -> Descriptor:
    """Add a signature to an image's; the descriptor of the manifest that holds them all. Raises as pushing does."""
    pusher = Pusher(repository)
    payload = describe(
        signature.payload,
        PAYLOAD,
        annotations={ANNOTATION: base64.b64encode(signature.signature).decode()},
    )
    layers = [*await _attached(repository, target.checked_digest), payload]
    config_data = encode(ImageConfig(rootfs=RootFS(diff_ids=[each.digest for each in layers])))
    config = describe(config_data, OCI_CONFIG)
    await _push(pusher, payload, signature.payload)
    await _push(pusher, config, config_data)
    subject = Descriptor(media_type=target.media_type, digest=target.digest, size=target.size)
    manifest = Manifest(
        schema_version=2,
        media_type=OCI_MANIFEST,
        artifact_type=ARTIFACT,
        config=config,
        layers=layers,
        subject=subject,
    )
    data = encode(manifest)
    attached = describe(data, OCI_MANIFEST, artifact_type=ARTIFACT)
    if not await pusher.manifest(data, OCI_MANIFEST, _tag(target.checked_digest)):
        await _list_as_referrer(repository, pusher, target.checked_digest, attached)
    return attached


def is_signed(
    signatures: list[Signature],
    keys: list[VerifyingKey],
    digest: str,
    reference: Reference,
    identity: dict[str, str],
) -> bool:
    """Whether one of the signatures is of one of the keys, and says that this is the image of that name."""
    for signature in signatures:
        if not any(key.verifies(signature.signature, signature.payload) for key in keys):
            continue
        claim = parse_claim(signature.payload)  # only what is signed is read
        wanted = claim is not None and (claim.kind, claim.digest) == (COSIGN_TYPE, digest)
        if claim is not None and wanted and is_named(claim.reference, reference, identity):
            return True
    return False


async def _manifests(repository: Repository, digest: Digest) -> list[Descriptor]:
    found: dict[str, Descriptor] = {}
    try:
        tagged = await repository.resolve(_tag(digest))
        if tagged.media_type in MANIFEST_TYPES:
            found[tagged.digest] = tagged
    except NotFound:
        pass
    try:
        for each in await repository.referrers(digest, ARTIFACT):
            if each.media_type in MANIFEST_TYPES and len(found) < _MANIFESTS_MAX:
                found.setdefault(each.digest, each)
    except SampanError:
        if not found:  # a registry without referrers answers in many ways; the tag is enough
            raise
    return list(found.values())


async def _attached(repository: Repository, digest: Digest) -> list[Descriptor]:
    """The payloads under the tag: a new signature keeps those of others."""
    try:
        tagged = await repository.resolve(_tag(digest))
    except NotFound:
        return []
    if tagged.media_type not in MANIFEST_TYPES:
        return []
    return parse_manifest(await repository.manifest(tagged), tagged.digest).layers


async def _list_as_referrer(
    repository: Repository, pusher: Pusher, subject: Digest, attached: Descriptor
) -> None:
    """What a client does for a registry without the referrers API (distribution spec, "Referrers Tag Schema")."""
    tag = f"{algorithm_of(subject)}-{encoded_of(subject)}"[:128]
    try:
        target = await repository.resolve(tag)
        listed = parse_index(await repository.manifest(target), target.digest).manifests
    except NotFound:
        listed = []
    kept = [
        each for each in listed if each.artifact_type != ARTIFACT
    ]  # ours holds what the one before it held
    index = Index(schema_version=2, media_type=OCI_INDEX, manifests=[*kept, attached])
    await pusher.manifest(encode(index), OCI_INDEX, tag)


async def _push(pusher: Pusher, descriptor: Descriptor, data: bytes) -> None:
    async def bytes_of(offset: int, length: int) -> AsyncIterator[bytes]:
        yield data[offset : offset + length]

    await pusher.blob(descriptor, bytes_of, [], lambda position: None)


def _tag(digest: Digest) -> str:
    return f"{algorithm_of(digest)}-{encoded_of(digest)}.sig"
