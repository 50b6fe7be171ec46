"""What a signature of an image says: which image, under which name (containers-signature(5); cosign's payload is a kin of it)."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec

from sampan.errors import InvalidParameter
from sampan.names.reference import Reference, parse_normalized
from sampan.version import __version__

COSIGN_TYPE = "cosign container image signature"
SIMPLE_TYPE = "atomic container signature"
CLAIM_MAX = 1 << 20


class Claim(NamedTuple):
    """The critical part of a payload."""

    kind: str
    reference: str
    digest: str


class _Identity(msgspec.Struct):
    reference: str = msgspec.field(name="docker-reference")


class _Image(msgspec.Struct):
    digest: str = msgspec.field(name="docker-manifest-digest")


class _Critical(msgspec.Struct, forbid_unknown_fields=True):
    identity: _Identity
    image: _Image
    kind: str = msgspec.field(name="type")


class _Payload(msgspec.Struct):
    critical: _Critical


def parse_claim(payload: bytes) -> Claim | None:
    """Read a payload whose signature was verified; None for one of another shape, or with critical parts unknown here."""
    try:
        critical = msgspec.json.decode(payload, type=_Payload).critical
    except (msgspec.DecodeError, RecursionError):
        return None
    return Claim(critical.kind, critical.identity.reference, critical.image.digest)


def cosign_payload(reference: str, digest: str) -> bytes:
    """What cosign signs."""
    return msgspec.json.encode({"critical": _critical(COSIGN_TYPE, reference, digest), "optional": None})


def simple_payload(reference: str, digest: str) -> bytes:
    """What skopeo signs."""
    optional = {"creator": f"sampan {__version__}", "timestamp": int(time.time())}
    return msgspec.json.encode({"critical": _critical(SIMPLE_TYPE, reference, digest), "optional": optional})


def _critical(kind: str, reference: str, digest: str) -> dict[str, object]:
    return {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": digest},
        "type": kind,
    }


def is_named(claimed: str, pulled: Reference, rule: dict[str, str]) -> bool:
    """Whether a claim's name is one that the policy takes for what is pulled (`signedIdentity`, containers-policy.json(5)).

    Raises `InvalidParameter` for a rule of an unknown type.
    """
    try:
        signed = parse_normalized(claimed)
    except InvalidParameter:
        return False
    kind = rule.get("type", "matchRepoDigestOrExact")
    if kind == "remapIdentity":
        prefix, other = rule.get("prefix", ""), rule.get("signedPrefix", "")
        name = pulled.name
        if name == prefix or name.startswith(f"{prefix}/"):
            pulled = parse_normalized(str(pulled).replace(prefix, other, 1))
        kind = "matchRepoDigestOrExact"
    match kind:
        case "matchExact":
            return bool(pulled.tag) and (signed.name, signed.tag) == (pulled.name, pulled.tag)
        case "matchRepoDigestOrExact":
            same = signed.name == pulled.name
            return same and (
                signed.tag == pulled.tag if pulled.tag and not pulled.digest else bool(pulled.digest)
            )
        case "matchRepository":
            return signed.name == pulled.name
        case "exactReference":
            return str(signed) == str(parse_normalized(rule.get("dockerReference", "")))
        case "exactRepository":
            return signed.name == parse_normalized(rule.get("dockerRepository", "")).name
    raise InvalidParameter(f"signature policy: unknown signedIdentity {kind!r}")
