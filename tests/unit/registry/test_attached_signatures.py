"""Signatures in a repository: found wherever they are kept, bounded, and never trusted for being there."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hostile_registry import HostileRegistry, digest
from sampan.names.digest import Digest
from sampan.names.reference import parse_normalized
from sampan.oci.image import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from sampan.registry.claims import cosign_payload
from sampan.registry.client import RegistryClient
from sampan.registry.credentials import ANONYMOUS
from sampan.registry.repository import Repository
from sampan.registry.settings import RegistrySettings
from sampan.registry.signatures import (
    ANNOTATION,
    ARTIFACT,
    PAYLOAD,
    Signature,
    attach,
    is_signed,
    signatures_of,
)
from sampan.registry.signingkeys import VerifyingKey


@asynccontextmanager
async def repository_at(server: HostileRegistry) -> AsyncIterator[Repository]:
    client = RegistryClient(RegistrySettings(attempts=1, retry_delay=0.01))
    try:
        yield client.repository(parse_normalized(f"{server.host}/app"), ANONYMOUS)
    finally:
        await client.close()


@pytest.mark.parametrize("knows_subjects", [True, False])
async def test_attached_and_found_again(knows_subjects: bool) -> None:
    """Under cosign's tag; in the list of referrers where there is none but the fallback tag."""
    async with HostileRegistry() as server, repository_at(server) as repository:

        async def understood(request: web.Request) -> web.StreamResponse | None:
            if request.method != "PUT" or "/manifests/" not in request.path or not knows_subjects:
                return None
            data = await request.read()
            server.manifest(data, OCI_MANIFEST, request.path.rpartition("/")[2])
            subject = json.loads(data)["subject"]["digest"]
            return web.Response(status=201, headers={"OCI-Subject": subject})

        server.behave(understood)
        image = server.image([b"layer"])
        target = Descriptor(media_type=image["mediaType"], digest=image["digest"], size=image["size"])
        await attach(repository, target, Signature(b"one", b"1"))
        await attach(repository, target, Signature(b"two", b"2"))
        found = await signatures_of(repository, target.checked_digest)
        assert found == [Signature(b"one", b"1"), Signature(b"two", b"2")]
        assert f"sha256-{image['digest'][7:]}.sig" in server.manifests
        fallback = server.manifests.get(f"sha256-{image['digest'][7:]}")
        if knows_subjects:
            assert fallback is None
        else:
            assert fallback is not None
            assert fallback[0] == OCI_INDEX
            (listed,) = json.loads(fallback[1])["manifests"]
            assert listed["artifactType"] == ARTIFACT


async def test_what_is_there_is_not_trusted_for_being_there() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    keys = [VerifyingKey(pem, "test")]
    name = parse_normalized("r.example/app:1")
    one, other = digest(b"one"), digest(b"other")
    payload = cosign_payload(str(name), one)
    from cryptography.hazmat.primitives.hashes import SHA256

    signature = private.sign(payload, ec.ECDSA(SHA256()))
    assert is_signed([Signature(payload, signature)], keys, one, name, {})
    # Another image's signature, a payload that was changed, another name, no signature, no key.
    assert not is_signed([Signature(payload, signature)], keys, other, name, {})
    assert not is_signed([Signature(cosign_payload(str(name), other), signature)], keys, other, name, {})
    assert not is_signed([Signature(payload, signature)], keys, one, parse_normalized("r.example/b:1"), {})
    assert not is_signed([], keys, one, name, {})
    assert not is_signed([Signature(payload, signature)], [], one, name, {})


async def test_malformed_signatures_are_passed_over() -> None:
    async with HostileRegistry() as server, repository_at(server) as repository:
        image = server.image([b"layer"])
        good = server.blob(b"payload", PAYLOAD)
        layers = [
            {**good, "annotations": {ANNOTATION: base64.b64encode(b"signature").decode()}},
            {**good, "annotations": {ANNOTATION: "no base64!"}},
            good,
            {**good, "mediaType": "text/plain", "annotations": {ANNOTATION: "AAAA"}},
            {**good, "size": 1 << 30, "annotations": {ANNOTATION: "AAAA"}},
        ]
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": server.blob(b"{}", OCI_CONFIG),
            "layers": layers,
        }
        tag = f"sha256-{image['digest'][7:]}.sig"
        server.manifest(json.dumps(document).encode(), OCI_MANIFEST, tag)
        found = await signatures_of(repository, Digest(image["digest"]))
        assert found == [Signature(b"payload", b"signature")]
        server.manifest(b'{"schemaVersion":2,"layers":"none"}', OCI_MANIFEST, tag)
        assert await signatures_of(repository, Digest(image["digest"])) == []
