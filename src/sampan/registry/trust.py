"""Which images may be pulled: a policy in the form of containers-policy.json(5), which podman and skopeo read too.

The most specific entry counts: the whole reference, the repository, each namespace above it, the registry, `*.domain`, all
registries, the default. All of its requirements must hold.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.errors import Forbidden, InvalidParameter
from sampan.registry.signatures import is_signed, signatures_of
from sampan.registry.simplesigning import Lookasides, SimpleSignature

if TYPE_CHECKING:
    from sampan.names.reference import Reference
    from sampan.oci.image import Descriptor
    from sampan.registry.repository import Repository
    from sampan.registry.signingkeys import VerifyingKey

Requirement = dict[str, Any]
OpenPgp = Callable[[list[SimpleSignature], list[bytes], str, str, dict[str, str]], Awaitable[bool]]
"""Whether a signature is of one of the OpenPGP keys, for a digest and a reference under an identity rule."""


class Policy:
    """A policy, read."""

    def __init__(self, document: object, name: str) -> None:
        """Raises `InvalidParameter` naming `name`."""
        if not isinstance(document, dict) or not isinstance(document.get("default"), list):
            raise InvalidParameter(f"signature policy {name}: it needs a default")
        self._default: list[Requirement] = document["default"]
        transports = document.get("transports") or {}
        scopes = transports.get("docker") or {} if isinstance(transports, dict) else {}
        self._scopes: dict[str, list[Requirement]] = scopes
        entries = [self._default, *(scopes.values() if isinstance(scopes, dict) else [None])]
        for requirements in entries:
            if not isinstance(requirements, list) or not requirements:
                raise InvalidParameter(f"signature policy {name}: each entry needs requirements")
            if not all(isinstance(each, dict) for each in requirements):
                raise InvalidParameter(f"signature policy {name}: a requirement is an object")

    @classmethod
    def of_file(cls, file: str) -> Policy:
        """Read a file. Blocks. Raises `InvalidParameter`: a policy that cannot be read allows nothing."""
        try:
            return cls(msgspec.json.decode(Path(file).read_bytes()), file)
        except OSError as error:
            raise InvalidParameter(f"signature policy {file}: {(error.strerror or '').lower()}") from None
        except msgspec.DecodeError as error:
            raise InvalidParameter(f"signature policy {file}: {error}") from None

    def requirements(self, reference: Reference) -> list[Requirement]:
        """Those for an image."""
        name = reference.name
        scopes = [str(reference)]
        while name:
            scopes.append(name)
            name = name.rpartition("/")[0]
        host = reference.domain.partition(":")[0]
        while "." in host:
            host = host.partition(".")[2]
            scopes.append(f"*.{host}")
        for scope in (*scopes, ""):
            if scope in self._scopes:
                return self._scopes[scope]
        return self._default


async def check(
    policy: Policy, repository: Repository, reference: Reference, target: Descriptor, openpgp: OpenPgp
) -> None:
    """Raise `Forbidden`, in the words that skopeo's users know, when the policy does not take an image."""
    for requirement in policy.requirements(reference):
        match requirement.get("type"):
            case "insecureAcceptAnything":
                continue
            case "reject":
                raise Forbidden(f"Source image rejected: Running image {reference} is rejected by policy.")
            case "sigstoreSigned":
                signed = await _sigstore_signed(requirement, repository, reference, target)
            case "signedBy":
                signed = await _signed_by(requirement, repository, reference, target, openpgp)
            case other:
                raise InvalidParameter(f"signature policy: unknown requirement {other!r}")
        if not signed:
            raise Forbidden(
                "Source image rejected: A signature was required, but none of a trusted key says that"
                f" {target.digest} is {reference}"
            )


async def _sigstore_signed(
    requirement: Requirement, repository: Repository, reference: Reference, target: Descriptor
) -> bool:
    from sampan.registry.signingkeys import VerifyingKey

    if unknown := requirement.keys() & {"fulcio", "pki", "rekorPublicKeyPath", "rekorPublicKeyData"}:
        raise InvalidParameter(
            f"signature policy: sigstoreSigned: {', '.join(sorted(unknown))} is not supported"
        )
    data = await asyncio.to_thread(_key_data, requirement)
    keys: list[VerifyingKey] = [VerifyingKey(each, "signature policy") for each in data]
    found = await signatures_of(repository, target.checked_digest)
    return is_signed(found, keys, target.digest, reference, requirement.get("signedIdentity") or {})


async def _signed_by(
    requirement: Requirement,
    repository: Repository,
    reference: Reference,
    target: Descriptor,
    openpgp: OpenPgp,
) -> bool:
    if requirement.get("keyType") != "GPGKeys":
        raise InvalidParameter(f"signature policy: signedBy: unknown keyType {requirement.get('keyType')!r}")
    keys = await asyncio.to_thread(_key_data, requirement)
    lookasides = await asyncio.to_thread(Lookasides.configured)
    found = await lookasides.signatures(repository.transport, reference, target.checked_digest)
    identity = requirement.get("signedIdentity") or {}
    return bool(found) and await openpgp(found, keys, target.digest, str(reference), identity)


def _key_data(requirement: Requirement) -> list[bytes]:
    """The keys of a requirement: keyPath, keyPaths, keyData or keyDatas."""
    paths = [*_list(requirement, "keyPath"), *_list(requirement, "keyPaths")]
    texts = [*_list(requirement, "keyData"), *_list(requirement, "keyDatas")]
    try:
        keys = [Path(path).read_bytes() for path in paths]
        keys += [base64.b64decode(text, validate=True) for text in texts]
    except OSError as error:
        raise InvalidParameter(
            f"signature policy: {error.filename}: {(error.strerror or '').lower()}"
        ) from None
    except (binascii.Error, ValueError):
        raise InvalidParameter("signature policy: keyData is no base64") from None
    if not keys:
        raise InvalidParameter("signature policy: a requirement names no key")
    return keys


def _list(requirement: Requirement, key: str) -> list[str]:
    value = requirement.get(key)
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]
