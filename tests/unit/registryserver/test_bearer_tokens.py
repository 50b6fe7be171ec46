"""Tokens of an external issuer: what is let in, and what is not."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk, jws, jwt

from certificates import Authority
from registry_requests import digest, registry
from sampan.errors import InvalidParameter
from sampan.registryserver.bearer import TokenAccess

REALM, SERVICE, ISSUER = "https://auth.example/token", "registry.example", "issuer.example"


@pytest.fixture(scope="module")
def key() -> jwk.ECKey:
    return jwk.ECKey.generate_key("P-256", {"kid": "trusted"})


@pytest.fixture
def settings(tmp_path: Path, key: jwk.ECKey) -> dict[str, Any]:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    return {"realm": REALM, "service": SERVICE, "issuer": ISSUER, "jwks": str(file)}


def signed(
    key: jwk.Key, *access: tuple[str, str], header: dict[str, Any] | None = None, **claims: Any
) -> str:
    """An Authorization header with rights (repository, actions)."""
    entries = [
        {"type": "repository", "name": name, "actions": actions.split(",")} for name, actions in access
    ]
    payload = {
        "iss": ISSUER,
        "aud": SERVICE,
        "sub": "me",
        "exp": int(time.time()) + 300,
        "access": entries,
        **claims,
    }
    algorithm = {"RSA": "RS256", "EC": "ES256"}[key.key_type]
    permissive = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    return "Bearer " + jwt.encode({"alg": algorithm, **(header or {})}, payload, key, registry=permissive)


async def test_rights(tmp_path: Path, settings: dict[str, Any], key: jwk.ECKey) -> None:
    async with registry(tmp_path / "root", token=settings) as ask:
        status, headers, _ = await ask("GET", "/v2/")
        assert (status, headers["Www-Authenticate"]) == (401, f'Bearer realm="{REALM}",service="{SERVICE}"')
        assert (await ask("GET", "/v2/", Authorization=signed(key)))[0] == 200
        status, headers, _ = await ask("POST", "/v2/app/blobs/uploads/")
        assert 'scope="repository:app:pull,push"' in headers["Www-Authenticate"]
        may_push = signed(key, ("app", "pull,push"))
        blob = f"/v2/app/blobs/uploads/?digest={digest(b'x')}"
        assert (await ask("POST", blob, b"x", Authorization=may_push))[0] == 201
        may_pull = signed(key, ("app", "pull"))
        assert (await ask("GET", f"/v2/app/blobs/{digest(b'x')}", Authorization=may_pull))[2] == b"x"
        status, headers, _ = await ask("POST", blob, b"x", Authorization=may_pull)
        assert (status, 'error="insufficient_scope"' in headers["Www-Authenticate"]) == (401, True)
        assert (await ask("DELETE", f"/v2/app/blobs/{digest(b'x')}", Authorization=may_push))[0] == 401
        assert (await ask("GET", f"/v2/other/blobs/{digest(b'x')}", Authorization=may_pull))[0] == 401
        assert (await ask("GET", "/v2/_catalog", Authorization=may_pull))[0] == 401


async def test_a_mount_takes_the_right_to_read_there(
    tmp_path: Path, settings: dict[str, Any], key: jwk.ECKey
) -> None:
    async with registry(tmp_path / "root", token=settings) as ask:
        owner = signed(key, ("secret", "pull,push"))
        assert (
            await ask("POST", f"/v2/secret/blobs/uploads/?digest={digest(b's')}", b"s", Authorization=owner)
        )[0] == 201
        mount = f"/v2/mine/blobs/uploads/?mount={digest(b's')}&from=secret"
        thief = signed(key, ("mine", "pull,push"))
        assert (await ask("POST", mount, Authorization=thief))[0] == 202
        assert (await ask("GET", f"/v2/mine/blobs/{digest(b's')}", Authorization=thief))[0] == 404
        both = signed(key, ("mine", "pull,push"), ("secret", "pull"))
        assert (await ask("POST", mount, Authorization=both))[0] == 201


async def test_cve_2025_24976_a_key_in_the_token_is_not_trusted(
    tmp_path: Path, settings: dict[str, Any], key: jwk.ECKey
) -> None:
    """The attacker's own key comes along in the token, under the id of a trusted one."""
    own = jwk.ECKey.generate_key("P-256", {"kid": "trusted"})
    header = {"kid": "trusted", "jwk": own.as_dict(private=False)}
    async with registry(tmp_path / "root", token=settings) as ask:
        assert (await ask("GET", "/v2/", Authorization=signed(own, header=header)))[0] == 401
        assert (await ask("GET", "/v2/", Authorization=signed(own, header={"kid": "trusted"})))[0] == 401


def _unsigned(algorithm: str) -> str:
    def part(document: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    claims = {"iss": ISSUER, "aud": SERVICE, "exp": int(time.time()) + 300}
    return f"Bearer {part({'alg': algorithm})}.{part(claims)}."


async def test_bad_tokens_are_refused(tmp_path: Path, settings: dict[str, Any], key: jwk.ECKey) -> None:
    import hashlib
    import hmac

    public = key.as_pem(private=False)
    head, body, _ = _unsigned("HS256").removeprefix("Bearer ").split(".")
    mac = (
        base64.urlsafe_b64encode(hmac.digest(public, f"{head}.{body}".encode(), hashlib.sha256))
        .rstrip(b"=")
        .decode()
    )
    good = signed(key)
    bad = [
        "Bearer",
        "Bearer nonsense",
        "Bearer a.b.c",
        "Basic bWU6c2VjcmV0",
        _unsigned("none"),
        f"Bearer {head}.{body}.{mac}",  # the public key as a shared secret
        good[:-4] + "AAAA",
        "Bearer " + "x" * 100_000,
        signed(key, iss="other"),
        signed(key, aud="other"),
        signed(key, exp=int(time.time()) - 3600),
        signed(key, exp="tomorrow"),
        signed(key, nbf=int(time.time()) + 3600),
    ]
    access = TokenAccess(settings)
    assert await access.check(good, []) == "me"
    for header in bad:
        from sampan.registryserver.failures import Refused

        with pytest.raises(Refused):
            await access.check(header, [])


async def test_keys_of_certificates(tmp_path: Path) -> None:
    certificate = Authority(tmp_path).issue("issuer")
    settings = {
        "realm": REALM,
        "service": SERVICE,
        "issuer": ISSUER,
        "rootcertbundle": str(certificate / "cert.pem"),
    }
    private = jwk.RSAKey.import_key((certificate / "key.pem").read_bytes())
    assert await TokenAccess(settings).check(signed(private), []) == "me"


def test_mistakes_are_named(tmp_path: Path, settings: dict[str, Any]) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"realm": ""}, "auth.token.realm is missing"),
        ({"jwks": ""}, "needs rootcertbundle or jwks"),
        ({"jwks": str(tmp_path / "absent")}, "cannot read auth.token.jwks"),
        ({"signingalgorithms": ["HS256"]}, "HS256 is not one of"),
    ]
    for change, message in cases:
        with pytest.raises(InvalidParameter, match=message):
            TokenAccess({**settings, **change})
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"keys": [{"kty": "oct", "k": "AAAA"}]}))
    with pytest.raises(InvalidParameter, match=r"cannot read auth\.token\.jwks"):
        TokenAccess({**settings, "jwks": str(secret)})
