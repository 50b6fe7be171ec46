"""Which images may be pulled or loaded: a policy in the form of containers-policy.json(5), which podman and skopeo read too.

The most specific entry counts: the whole reference, the repository, each namespace above it, the registry, `*.domain`, all
registries, the default. All of its requirements must hold.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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


ARCHIVES = ("docker-archive", "oci-archive")
"""Transports of what `load` takes."""
_ACCEPT = '[{"type": "insecureAcceptAnything"}]'


class Entry(NamedTuple):
    """What a policy demands of an image."""

    requirements: list[Requirement]
    policy: str
    """What errors of these requirements begin with."""
    remedy: str
    """For the end of a refusal: where it comes from, and the line that would take the image."""


class Policy:
    """A policy, read."""

    def __init__(self, document: object, file: str = "") -> None:
        """`file` is where it comes from, when somebody can change it there. Raises `InvalidParameter` naming it."""
        self._file = file
        self._name = f"signature policy {file}".rstrip()
        if not isinstance(document, dict) or not isinstance(document.get("default"), list):
            raise InvalidParameter(f"{self._name}: it needs a default")
        self._default: list[Requirement] = document["default"]
        self._has_transports = "transports" in document
        transports = document.get("transports") or {}
        if not isinstance(transports, dict):
            raise InvalidParameter(f"{self._name}: transports is no object")
        self._transports: dict[str, dict[str, list[Requirement]]] = {
            each: transports[each] or {} for each in ("docker", *ARCHIVES) if each in transports
        }
        entries: list[object] = [self._default]
        for scopes in self._transports.values():
            if not isinstance(scopes, dict):
                raise InvalidParameter(f"{self._name}: a transport's scopes are an object")
            entries += scopes.values()
        for requirements in entries:
            if not isinstance(requirements, list) or not requirements:
                raise InvalidParameter(f"{self._name}: each entry needs requirements")
            if not all(isinstance(each, dict) for each in requirements):
                raise InvalidParameter(f"{self._name}: a requirement is an object")

    @classmethod
    def of_file(cls, file: str) -> Policy:
        """Read a file. Blocks. Raises `InvalidParameter`: a policy that cannot be read allows nothing."""
        try:
            return cls(msgspec.json.decode(Path(file).read_bytes()), file)
        except OSError as error:
            raise InvalidParameter(f"signature policy {file}: {(error.strerror or '').lower()}") from None
        except msgspec.DecodeError as error:
            raise InvalidParameter(f"signature policy {file}: {error}") from None

    def of_image(self, reference: Reference) -> Entry:
        """What is demanded of an image at a registry."""
        name = reference.name
        scopes = [str(reference)]
        while name:
            scopes.append(name)
            name = name.rpartition("/")[0]
        host = reference.domain.partition(":")[0]
        while "." in host:
            host = host.partition(".")[2]
            scopes.append(f"*.{host}")
        return self._entry("docker", [*scopes, ""], reference.name)

    def of_archive(self, transport: str) -> Entry:
        """What is demanded of the images of an archive, of a transport of `ARCHIVES`; they have the scope "" alone."""
        return self._entry(transport, [""], "")

    def _entry(self, transport: str, scopes: list[str], wanted: str) -> Entry:
        """The first of the scopes that the policy names. `wanted` is the scope that a line for the image would have."""
        named = self._transports.get(transport, {})
        scope = next((each for each in scopes if each in named), None)
        place = "default" if scope is None else f"transports.{transport}[{_quoted(scope)}]"
        requirements = self._default if scope is None else named[scope]
        return Entry(requirements, self._name, self._remedy(transport, scope, wanted, place))

    def _remedy(self, transport: str, scope: str | None, wanted: str, place: str) -> str:
        if not self._file:
            return ""
        if scope == wanted or (scope or "").startswith((f"{wanted}:", f"{wanted}@")):
            return f" ({place} in {self._file} says so; to take it, put there {_ACCEPT})"
        line = f"{_quoted(wanted)}: {_ACCEPT}"
        where = f"transports.{transport}"
        if transport not in self._transports:
            line, where = f"{_quoted(transport)}: {{{line}}}", "transports"
            if not self._has_transports:
                line, where = f'"transports": {{{line}}}', "it"
        return f" ({place} in {self._file} says so; to take it, add to {where}: {line})"


def check_archive(policy: Policy, transport: str) -> None:
    """Raise `Forbidden` unless a policy takes archives of a form: they hold no signatures, so a requirement of one refuses."""
    entry = policy.of_archive(transport)
    for requirement in entry.requirements:
        match requirement.get("type"):
            case "insecureAcceptAnything":
                continue
            case "reject":
                said = f"Running image {transport}: is rejected by policy."
            case "sigstoreSigned" | "signedBy":
                said = f"A signature was required, but no signature exists in {transport}:"
            case other:
                raise InvalidParameter(f"{entry.policy}: unknown requirement {other!r}")
        raise Forbidden(f"Source image rejected: {said}{entry.remedy}")


async def check(
    policy: Policy, repository: Repository, reference: Reference, target: Descriptor, openpgp: OpenPgp
) -> None:
    """Raise `Forbidden`, in the words that skopeo's users know, when the policy does not take an image."""
    entry = policy.of_image(reference)
    for requirement in entry.requirements:
        match requirement.get("type"):
            case "insecureAcceptAnything":
                continue
            case "reject":
                raise Forbidden(
                    f"Source image rejected: Running image {reference} is rejected by policy.{entry.remedy}"
                )
            case "sigstoreSigned":
                signed = await _sigstore_signed(requirement, entry.policy, repository, reference, target)
            case "signedBy":
                signed = await _signed_by(requirement, entry.policy, repository, reference, target, openpgp)
            case other:
                raise InvalidParameter(f"{entry.policy}: unknown requirement {other!r}")
        if not signed:
            raise Forbidden(
                "Source image rejected: A signature was required, but none of a trusted key says that"
                f" {target.digest} is {reference}{entry.remedy}"
            )


async def _sigstore_signed(
    requirement: Requirement, policy: str, repository: Repository, reference: Reference, target: Descriptor
) -> bool:
    from sampan.registry.signingkeys import VerifyingKey

    if unknown := requirement.keys() & {"fulcio", "pki", "rekorPublicKeyPath", "rekorPublicKeyData"}:
        raise InvalidParameter(f"{policy}: sigstoreSigned: {', '.join(sorted(unknown))} is not supported")
    data = await asyncio.to_thread(_key_data, requirement, policy)
    keys: list[VerifyingKey] = [VerifyingKey(each, policy) for each in data]
    found = await signatures_of(repository, target.checked_digest)
    return is_signed(found, keys, target.digest, reference, requirement.get("signedIdentity") or {})


async def _signed_by(
    requirement: Requirement,
    policy: str,
    repository: Repository,
    reference: Reference,
    target: Descriptor,
    openpgp: OpenPgp,
) -> bool:
    if requirement.get("keyType") != "GPGKeys":
        raise InvalidParameter(f"{policy}: signedBy: unknown keyType {requirement.get('keyType')!r}")
    keys = await asyncio.to_thread(_key_data, requirement, policy)
    lookasides = await asyncio.to_thread(Lookasides.configured)
    found = await lookasides.signatures(repository.transport, reference, target.checked_digest)
    identity = requirement.get("signedIdentity") or {}
    return bool(found) and await openpgp(found, keys, target.digest, str(reference), identity)


def _key_data(requirement: Requirement, policy: str) -> list[bytes]:
    """The keys of a requirement: keyPath, keyPaths, keyData or keyDatas."""
    paths = [*_list(requirement, "keyPath"), *_list(requirement, "keyPaths")]
    texts = [*_list(requirement, "keyData"), *_list(requirement, "keyDatas")]
    try:
        keys = [Path(path).read_bytes() for path in paths]
        keys += [base64.b64decode(text, validate=True) for text in texts]
    except OSError as error:
        raise InvalidParameter(f"{policy}: {error.filename}: {(error.strerror or '').lower()}") from None
    except (binascii.Error, ValueError):
        raise InvalidParameter(f"{policy}: keyData is no base64") from None
    if not keys:
        raise InvalidParameter(f"{policy}: a requirement names no key")
    return keys


def _list(requirement: Requirement, key: str) -> list[str]:
    value = requirement.get(key)
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
