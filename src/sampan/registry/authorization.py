"""Proving to one registry who one is: what its challenge asks for, from these credentials and for these scopes."""

from __future__ import annotations

import asyncio

from sampan.errors import Unauthorized
from sampan.registry.challenges import Challenge
from sampan.registry.credentials import Credentials
from sampan.registry.tokens import Realm, Token, basic, fetch_token, realm_of
from sampan.registry.transport import Transport

Scopes = frozenset[str]


def repository_scope(path: str, actions: str) -> str:
    """`repository:library/busybox:pull`; actions are `pull` or `pull,push`."""
    return f"repository:{path}:{actions}"


NO_CREDENTIALS = "no basic auth credentials"
"""What is said when a registry wants a name and password and there is none."""


class Authorizer:
    """The Authorization header for one endpoint. One per caller: tokens are the caller's."""

    def __init__(self, transport: Transport, credentials: Credentials, *, offline: bool = False) -> None:
        self.refresh_token = ""
        """A refresh token that the realm gave (`offline`)."""
        self._transport = transport
        self._credentials = credentials
        self._offline = offline
        self._basic = False
        self._realm: Realm | None = None
        self._tokens: dict[Scopes, Token] = {}
        self._asked: set[str] = set()
        """Scopes that challenges named beyond those of their requests."""
        self._lock = asyncio.Lock()

    async def header(self, scopes: Scopes) -> str:
        """The header's value; empty before the registry has asked for anything."""
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        if self._basic:
            return basic(self._credentials)
        if self._realm is None:
            return ""
        wanted = scopes | self._asked
        async with self._lock:  # several layers at once need one token, not several
            token = self._tokens.get(wanted)
            if token is None or not token.is_fresh:
                token = await fetch_token(
                    self._transport, self._realm, self._credentials, sorted(wanted), offline=self._offline
                )
                self._tokens[wanted] = token
                self.refresh_token = token.refresh_token or self.refresh_token
            return f"Bearer {token.value}"

    async def take(self, challenges: list[Challenge], scopes: Scopes, refused: str) -> bool:
        """Learn from a 401 how to answer it; `refused` is the header that was sent. False: trying again is no use.

        Raises `Unauthorized` when the registry wants a name and password and there is none, or they were wrong.
        """
        if refused and self._credentials.registry_token:
            return False
        for challenge in challenges:
            if challenge.scheme == "bearer":
                return self._take_bearer(challenge, scopes, refused)
        for challenge in challenges:
            if challenge.scheme == "basic":
                if refused.startswith("Basic "):
                    return False
                if not self._credentials.username:
                    raise Unauthorized(NO_CREDENTIALS)
                self._basic = True
                return True
        return False

    def _take_bearer(self, challenge: Challenge, scopes: Scopes, refused: str) -> bool:
        realm = realm_of(challenge.parameters)
        named = {scope for scope in challenge.parameters.get("scope", "").split(" ") if scope}
        news = named - scopes - self._asked
        again = refused.startswith("Bearer ") and realm == self._realm
        self._realm = realm
        if again:
            wanted = scopes | self._asked
            stale = self._tokens.pop(wanted, None)
            if not news and (stale is None or f"Bearer {stale.value}" != refused):
                return True  # somebody renewed it meanwhile, or it was let go
            if not news and challenge.parameters.get("error") == "insufficient_scope":
                return False
        self._asked |= news
        return True
