"""Bearer tokens: asking a realm for one (Docker's "Token Authentication", and OAuth 2 for refresh tokens).

A name and password go to the realm as Basic authorization, a refresh token in a form. Neither goes to a realm that is reached
in plain HTTP, unless its host is listed as insecure, nor along with a redirect.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec
from yarl import URL

from sampan.errors import Forbidden, SampanError, Unauthorized
from sampan.registry.credentials import Credentials
from sampan.registry.endpoints import is_insecure
from sampan.registry.failures import BrokenAnswer, error_items, failure_of
from sampan.registry.transport import Answer, Transport, shown, small_body

CLIENT_ID = "docker"
_ANSWER_MAX = 1 << 20
_DEFAULT_LIFE = 60
_LIFE_MAX = 24 * 3600
_MARGIN = 5.0
"""Seconds before its end at which a token is no longer used."""


class TokenAnswer(msgspec.Struct):
    """What a realm answers."""

    token: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None
    expires_in: int | None = None


class Token(NamedTuple):
    """A token and what came with it."""

    value: str
    valid_until: float
    """By the monotonic clock."""
    refresh_token: str = ""

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() < self.valid_until


class Realm(NamedTuple):
    """What a Bearer challenge says of its token service."""

    url: URL
    service: str


def realm_of(parameters: dict[str, str]) -> Realm:
    """The token service of a challenge. Raises `BrokenAnswer` when it names none that can be asked."""
    try:
        url = URL(parameters.get("realm", ""))
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host or url.user is not None:
        raise BrokenAnswer(
            f"the registry names no usable token service: realm={parameters.get('realm', '')[:200]!r}"
        )
    return Realm(url, parameters.get("service", ""))


async def fetch_token(
    transport: Transport,
    realm: Realm,
    credentials: Credentials,
    scopes: Iterable[str],
    *,
    offline: bool = False,
) -> Token:
    """Ask for a token; `offline` asks for a refresh token with it (login).

    Raises `Unauthorized` when the realm refuses the credentials, `Forbidden` when they must not be sent there.
    """
    if not credentials.is_anonymous:
        await _check_may_send(transport, realm)
    if credentials.identity_token:
        answer = await _post(transport, realm, credentials, scopes)
    else:
        answer = await _get(transport, realm, credentials, scopes, offline)
    async with answer:
        body = await answer.read(_ANSWER_MAX)
        if answer.status != 200:
            raise _refusal(answer, body)
    return _token(body, realm)


async def _check_may_send(transport: Transport, realm: Realm) -> None:
    if realm.url.scheme == "http" and not await is_insecure(realm.url, transport.settings):
        raise Forbidden(
            f"credentials are not sent to {shown(realm.url)}, the token service that the registry names: it is plain http and not"
            " listed in insecure-registries"
        )


async def _get(
    transport: Transport, realm: Realm, credentials: Credentials, scopes: Iterable[str], offline: bool
) -> Answer:
    query: list[tuple[str, str]] = [("service", realm.service)] if realm.service else []
    query += [("scope", scope) for scope in scopes]
    headers: dict[str, str] = {}
    if credentials.username:
        query.append(("account", credentials.username))
        headers["Authorization"] = basic(credentials)
    if offline:
        query += [("client_id", CLIENT_ID), ("offline_token", "true")]
    return await transport.follow("GET", realm.url.extend_query(query), headers)


async def _post(
    transport: Transport, realm: Realm, credentials: Credentials, scopes: Iterable[str]
) -> Answer:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": credentials.identity_token,
        "service": realm.service,
        "client_id": CLIENT_ID,
        "scope": " ".join(scopes),
    }
    body = small_body(urlencode(form).encode(), "application/x-www-form-urlencoded")
    # The token is in the body, which a redirect would carry along: none is followed.
    return await transport.follow("POST", realm.url, {}, body, redirects=False)


def basic(credentials: Credentials) -> str:
    """The value of a Basic Authorization header."""
    return "Basic " + base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()


def _refusal(answer: Answer, body: bytes) -> SampanError:
    if answer.status in (400, 401, 403) and not error_items(body):
        try:
            details = msgspec.json.decode(body, type=dict[str, object]).get("details", "")
        except msgspec.DecodeError:
            details = ""
        return Unauthorized(f"unauthorized: {str(details)[:200] or 'incorrect username or password'}")
    return failure_of(answer.method, shown(answer.url), answer.status, answer.reason, answer.headers, body)


def _token(body: bytes, realm: Realm) -> Token:
    try:
        given = msgspec.json.decode(body, type=TokenAnswer)
    except msgspec.DecodeError as error:
        raise BrokenAnswer(f"token service {shown(realm.url)}: {error}") from None
    value = given.token or given.access_token
    if not value or not value.isascii() or not value.isprintable():
        raise BrokenAnswer(
            f"token service {shown(realm.url)}: authorization server did not include a token in the response"
        )
    life = min(max(given.expires_in or _DEFAULT_LIFE, _DEFAULT_LIFE), _LIFE_MAX)
    return Token(value, time.monotonic() + life - _MARGIN, given.refresh_token or "")
