"""Bearer tokens of an external issuer (distribution's `auth.token`, Docker's "Token Authentication").

Only the keys of the configuration are trusted: the certificates of `rootcertbundle` and the keys of `jwks`. What a token brings
along itself (`jwk`, `x5c`, `jku`) is never looked at, whatever key id it carries (CVE-2025-24976), and it may only be signed with
an asymmetric algorithm, so that a public key cannot serve as a shared secret.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.errors import InvalidParameter
from sampan.registryserver.failures import Refused
from sampan.registryserver.rights import Scope

if TYPE_CHECKING:
    from joserfc.jwk import Key

ALGORITHMS = ("EdDSA", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
_LEEWAY = 60.0
_TOKEN_MAX = 64 << 10


class TokenAccess:
    """Checks tokens; an `Access`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """`settings` as in `auth.token`. Raises `InvalidParameter` when something is missing or cannot be read."""
        self._realm, self._service, self._issuer = (
            _needed(settings, key) for key in ("realm", "service", "issuer")
        )
        self._algorithms = [str(each) for each in settings.get("signingalgorithms") or ALGORITHMS]
        for algorithm in self._algorithms:
            if algorithm not in ALGORITHMS:
                known = ", ".join(ALGORITHMS)
                raise InvalidParameter(
                    f"configuration: auth.token.signingalgorithms: {algorithm} is not one of {known}"
                )
        self._keys = _keys(settings)

    async def check(self, header: str, needed: Sequence[Scope]) -> str:
        """The token's subject. Raises `Refused` UNAUTHORIZED with a challenge that names what is needed."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._challenge(needed, "")
        claims = await asyncio.to_thread(self._claims, token.strip())
        if claims is None:
            raise self._challenge(needed, "invalid_token")
        if not all(_grants(claims, scope) for scope in needed):
            raise self._challenge(needed, "insufficient_scope")
        return str(claims.get("sub", ""))

    async def allows(self, header: str, scope: Scope) -> bool:
        """Whether the token of a request gives a further right."""
        try:
            await self.check(header, [scope])
        except Refused:
            return False
        return True

    def _claims(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that is the issuer's, for this service, and valid now."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        if len(token) > _TOKEN_MAX:
            return None
        for key in self._keys:
            try:
                claims = jwt.decode(token, key, algorithms=self._algorithms).claims
            except (JoseError, ValueError, TypeError):
                continue  # another key, or none
            return claims if self._is_valid(claims) else None
        return None

    def _is_valid(self, claims: dict[str, Any]) -> bool:
        now = time.time()
        expires, begins, audience = claims.get("exp"), claims.get("nbf", 0), claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        return (
            claims.get("iss") == self._issuer
            and self._service in audiences
            and isinstance(expires, int | float)
            and isinstance(begins, int | float)
            and begins - _LEEWAY <= now < expires + _LEEWAY
        )

    def _challenge(self, needed: Sequence[Scope], error: str) -> Refused:
        parts = [f'Bearer realm="{self._realm}"', f'service="{self._service}"']
        if needed:
            by_name: dict[tuple[str, str], list[str]] = {}
            for kind, name, action in needed:
                by_name.setdefault((kind, name), []).append(action)
            scopes = " ".join(
                f"{kind}:{name}:{','.join(actions)}" for (kind, name), actions in by_name.items()
            )
            parts.append(f'scope="{scopes}"')
        if error:
            parts.append(f'error="{error}"')
        return Refused("UNAUTHORIZED", headers={"WWW-Authenticate": ",".join(parts)})


def _grants(claims: dict[str, Any], scope: Scope) -> bool:
    access = claims.get("access")
    for entry in access if isinstance(access, list) else []:
        if not isinstance(entry, dict) or (entry.get("type"), entry.get("name")) != (scope.kind, scope.name):
            continue
        actions = entry.get("actions")
        if isinstance(actions, list) and (scope.action in actions or "*" in actions):
            return True
    return False


def _needed(settings: dict[str, Any], key: str) -> str:
    value = str(settings.get(key) or "")
    if not value or '"' in value or not value.isprintable():
        raise InvalidParameter(f"configuration: auth.token.{key} is missing or unusable")
    return value


def _keys(settings: dict[str, Any]) -> list[Key]:
    found: list[Key] = []
    for key, read in (("rootcertbundle", _certificate_keys), ("jwks", _key_set)):
        file = settings.get(key)
        if not file:
            continue
        try:
            found += read(Path(str(file)).read_bytes())
        except OSError as error:
            raise InvalidParameter(f"cannot read auth.token.{key} {file}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidParameter(f"cannot read auth.token.{key} {file}: {error}") from None
    if not found:
        raise InvalidParameter("configuration: auth.token needs rootcertbundle or jwks")
    return found


def _certificate_keys(data: bytes) -> list[Key]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from joserfc import jwk

    keys: list[Key] = []
    for certificate in x509.load_pem_x509_certificates(data):
        public = certificate.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        if isinstance(public, rsa.RSAPublicKey):
            keys.append(jwk.RSAKey.import_key(pem))
        elif isinstance(public, ec.EllipticCurvePublicKey):
            keys.append(jwk.ECKey.import_key(pem))
        else:
            keys.append(jwk.OKPKey.import_key(pem))
    return keys


def _key_set(data: bytes) -> list[Key]:
    from joserfc import jwk

    document = json.loads(data)
    keys = [jwk.import_key(entry) for entry in document["keys"]]
    if any(key.key_type == "oct" for key in keys):
        raise ValueError("a shared secret is no key to verify tokens with")
    return list(keys)
