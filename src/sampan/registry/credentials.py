"""Who the caller is, as Docker's clients say it: the headers X-Registry-Auth and X-Registry-Config.

The value of a header is JSON in base64, of either alphabet, padded or not. Nothing here is ever shown: `repr` of credentials says
only whether there are any.
"""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from sampan.errors import InvalidParameter
from sampan.names.reference import DEFAULT_DOMAIN
from sampan.registry.endpoints import host_of


class Credentials(
    msgspec.Struct,
    rename={"identity_token": "identitytoken", "registry_token": "registrytoken", "server": "serveraddress"},
):
    """`AuthConfig` of the Engine API. All empty: anonymous."""

    username: str = ""
    password: str = ""
    auth: str = ""
    """`username:password` in base64, the form of `config.json`."""
    server: str = ""
    """Whose credentials these are, as the client wrote it: `https://index.docker.io/v1/`, `host:5000`."""
    identity_token: str = ""
    """A refresh token, which stands for name and password at the token realm."""
    registry_token: str = ""
    """A bearer token for the registry itself."""

    def __repr__(self) -> str:
        return "Credentials(anonymous)" if self.is_anonymous else "Credentials(hidden)"

    @property
    def is_anonymous(self) -> bool:
        """Whether there is nothing to prove."""
        return not (self.username or self.identity_token or self.registry_token)

    def for_registry(self, domain: str) -> Credentials:
        """These, if they are of this registry; else anonymous. Credentials that name no registry are of any."""
        if not self.server or host_of(self.server) == (domain or DEFAULT_DOMAIN):
            return self
        return Credentials()


ANONYMOUS = Credentials()

_Shape = TypeVar("_Shape")


def credentials_of(header: str) -> Credentials:
    """What X-Registry-Auth says; no header and an empty one are anonymous.

    Raises `InvalidParameter` when it is malformed: the request was not meant anonymously.
    """
    if not header:
        return ANONYMOUS
    return _unfolded(_parsed(header, Credentials, "X-Registry-Auth"))


def all_credentials_of(header: str) -> dict[str, Credentials]:
    """What X-Registry-Config says: credentials by registry."""
    if not header:
        return {}
    given = _parsed(header, dict[str, Credentials], "X-Registry-Config")
    return {host_of(key): _unfolded(value) for key, value in given.items()}


def _parsed(header: str, shape: type[_Shape], name: str) -> _Shape:
    text = header.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        return msgspec.json.decode(_without_nulls(data), type=shape)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        # The decoder's own message could quote the credentials.
        raise InvalidParameter(
            f"invalid {name} header: must be a valid, base64url-encoded JSON object"
        ) from None


def _without_nulls(data: bytes) -> bytes:
    document = msgspec.json.decode(data)
    if document is None:
        return b"{}"
    if isinstance(document, dict):
        document = {
            key.lower() if not isinstance(value, dict) else key: value
            for key, value in document.items()
            if value is not None
        }
    return msgspec.json.encode(document)


def _unfolded(given: Credentials) -> Credentials:
    """With name and password out of `auth`, when only that was given."""
    if given.username or not given.auth:
        return given
    try:
        username, colon, password = base64.b64decode(given.auth).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidParameter(
            "invalid auth in credentials: it must be username:password in base64"
        ) from None
    if not colon:
        raise InvalidParameter("invalid auth in credentials: it must be username:password in base64")
    return msgspec.structs.replace(given, username=username, password=password.rstrip("\0"), auth="")
