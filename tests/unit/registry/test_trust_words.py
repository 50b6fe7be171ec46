"""The trust policy's own words: which entry counts, which names a signature may carry, what payloads are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import Forbidden, InvalidParameter
from sampan.names.reference import parse_normalized
from sampan.registry.claims import Claim, cosign_payload, is_named, parse_claim, simple_payload
from sampan.registry.signingkeys import SigningKey, VerifyingKey
from sampan.registry.trust import Policy, check_archive

DIGEST = "sha256:" + "a" * 64


def test_the_most_specific_entry_counts() -> None:
    scopes = {
        "r.example:5000/a/b:1": "reference",
        "r.example:5000/a/b": "repository",
        "r.example:5000/a": "namespace",
        "r.example:5000": "registry",
        "*.example": "wildcard",
        "docker.io/library": "official",
        "": "all",
    }
    policy = Policy(
        {
            "default": [{"type": "default"}],
            "transports": {"docker": {key: [{"type": value}] for key, value in scopes.items()}},
        },
        "test",
    )

    def found(text: str) -> str:
        (requirement,) = policy.of_image(parse_normalized(text)).requirements
        return str(requirement["type"])

    assert found("r.example:5000/a/b:1") == "reference"
    assert found("r.example:5000/a/b:2") == "repository"
    assert found("r.example:5000/a/c:1") == "namespace"
    assert found("r.example:5000/ab/c:1") == "registry"
    assert found("other.example/x:1") == "wildcard"
    assert found("busybox:1") == "official"
    assert found("me/busybox:1") == "all"


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"default": []},
        {"default": "reject"},
        {"default": ["reject"]},
        {"default": [{"type": "reject"}], "transports": {"docker": {"x": []}}},
        {"default": [{"type": "reject"}], "transports": {"docker": []}},
    ],
)
def test_a_malformed_policy_is_refused(document: object) -> None:
    if document == {"default": [{"type": "reject"}], "transports": {"docker": []}}:
        Policy(document, "test")  # an empty list says nothing
        return
    with pytest.raises(InvalidParameter, match="signature policy test"):
        Policy(document, "test")


@pytest.mark.parametrize(
    ("claimed", "pulled", "rule", "taken"),
    [
        ("r.example/a:1", "r.example/a:1", {}, True),
        ("r.example/a:2", "r.example/a:1", {}, False),
        ("r.example/b:1", "r.example/a:1", {}, False),
        ("r.example/a", f"r.example/a@{DIGEST}", {}, True),
        ("r.example/b", f"r.example/a@{DIGEST}", {}, False),
        ("r.example/a", "r.example/a:1", {}, False),
        ("r.example/a", "r.example/a:1", {"type": "matchRepository"}, True),
        ("r.example/a:1", "r.example/a:1", {"type": "matchExact"}, True),
        ("r.example/a", f"r.example/a@{DIGEST}", {"type": "matchExact"}, False),
        (
            "vendor.example/x:1",
            "r.example/a:1",
            {"type": "exactReference", "dockerReference": "vendor.example/x:1"},
            True,
        ),
        (
            "vendor.example/x:7",
            "r.example/a:1",
            {"type": "exactRepository", "dockerRepository": "vendor.example/x"},
            True,
        ),
        (
            "vendor.example/ns/a:1",
            "mirror.example/ns/a:1",
            {"type": "remapIdentity", "prefix": "mirror.example", "signedPrefix": "vendor.example"},
            True,
        ),
        ("No Name", "r.example/a:1", {"type": "matchRepository"}, False),
    ],
)
def test_names(claimed: str, pulled: str, rule: dict[str, str], taken: bool) -> None:
    assert is_named(claimed, parse_normalized(pulled), rule) is taken


def test_an_unknown_rule_is_no_permission() -> None:
    with pytest.raises(InvalidParameter, match="unknown signedIdentity"):
        is_named("r.example/a:1", parse_normalized("r.example/a:1"), {"type": "matchAnything"})


def test_payloads() -> None:
    assert parse_claim(cosign_payload("r.example/a:1", DIGEST)) == Claim(
        "cosign container image signature", "r.example/a:1", DIGEST
    )
    claim = parse_claim(simple_payload("r.example/a:1", DIGEST))
    assert claim is not None
    assert claim.kind == "atomic container signature"
    # Something critical that is not understood makes the whole worthless (containers-signature(5)).
    document = json.loads(cosign_payload("r.example/a:1", DIGEST))
    document["critical"]["expires"] = "yesterday"
    assert parse_claim(json.dumps(document).encode()) is None


@given(st.binary(max_size=200))
def test_any_payload_can_be_read(data: bytes) -> None:
    parse_claim(data)


def test_keys_of_every_kind(tmp_path: Path) -> None:
    kinds: list[tuple[Any, str]] = [
        (ec.generate_private_key(ec.SECP256R1()), ""),
        (rsa.generate_private_key(65537, 2048), "password"),
        (ed25519.Ed25519PrivateKey.generate(), ""),
    ]
    for number, (private, password) in enumerate(kinds):
        protection = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        file, public = tmp_path / "private.pem", tmp_path / f"{number}.pem"
        file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
        public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        signature = SigningKey(file, password).sign(b"data")
        assert VerifyingKey.of_file(public).verifies(signature, b"data")
        assert not VerifyingKey.of_file(public).verifies(signature, b"Data")
        assert not VerifyingKey.of_file(public).verifies(b"nonsense", b"data")
        for other in range(number):
            assert not VerifyingKey.of_file(tmp_path / f"{other}.pem").verifies(signature, b"data")
    with pytest.raises(InvalidParameter, match="no usable private key"):
        SigningKey(public)
    with pytest.raises(InvalidParameter, match="no usable public key"):
        VerifyingKey.of_file(file)
    with pytest.raises(InvalidParameter, match="cannot read"):
        VerifyingKey.of_file(tmp_path / "absent")


ACCEPT, REJECT = {"type": "insecureAcceptAnything"}, {"type": "reject"}
SIGNED = {"type": "sigstoreSigned", "keyPath": "/absent"}


@pytest.mark.parametrize(
    ("default", "transports", "said"),
    [
        (ACCEPT, {}, ""),
        (ACCEPT, {"docker": {"": [REJECT]}}, ""),
        (REJECT, {"docker": {"": [ACCEPT]}}, "is rejected by policy"),
        (REJECT, {"oci-archive": {"": [ACCEPT]}}, ""),
        (REJECT, {"docker-archive": {"": [ACCEPT]}}, "is rejected by policy"),
        (REJECT, {"oci-archive": {"/some/path": [ACCEPT]}}, "is rejected by policy"),
        (ACCEPT, {"oci-archive": {"": [SIGNED]}}, "no signature exists"),
        (ACCEPT, {"oci-archive": {"": [ACCEPT, REJECT]}}, "is rejected by policy"),
    ],
)
def test_archives(default: dict[str, Any], transports: dict[str, Any], said: str) -> None:
    policy = Policy({"default": [default], "transports": transports}, "test")
    if said:
        with pytest.raises(Forbidden, match=said):
            check_archive(policy, "oci-archive")
    else:
        check_archive(policy, "oci-archive")


@pytest.mark.parametrize(
    ("transports", "said"),
    [
        (
            None,
            'default in FILE says so; to take it, add to it: "transports": {"docker": {"a.b/c": [ACCEPT]}}',
        ),
        ({}, 'default in FILE says so; to take it, add to transports: "docker": {"a.b/c": [ACCEPT]}'),
        (
            {"docker": {"a.b": [REJECT]}},
            'transports.docker["a.b"] in FILE says so; to take it, add to transports.docker: "a.b/c": [ACCEPT]',
        ),
        (
            {"docker": {"a.b/c:1": [REJECT]}},
            'transports.docker["a.b/c:1"] in FILE says so; to take it, put there [ACCEPT]',
        ),
    ],
)
def test_a_refusal_names_the_file_and_the_line_to_add(transports: dict[str, Any] | None, said: str) -> None:
    document: dict[str, Any] = {"default": [REJECT]}
    if transports is not None:
        document["transports"] = transports
    entry = Policy(document, "FILE").of_image(parse_normalized("a.b/c:1"))
    assert entry.requirements == [REJECT]
    assert entry.remedy == f" ({said.replace('ACCEPT', json.dumps(ACCEPT))})"
