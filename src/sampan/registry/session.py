"""Requests to one endpoint as one caller: authorization, redirects, errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from yarl import URL

from sampan.errors import Unauthorized
from sampan.registry.authorization import Authorizer, Scopes
from sampan.registry.challenges import parse_challenges
from sampan.registry.credentials import Credentials
from sampan.registry.endpoints import Endpoint
from sampan.registry.failures import failure_of
from sampan.registry.transport import Answer, Body, Transport, shown

_ERROR_MAX = 64 << 10
_ROUNDS = 3
"""Unasked, then with a token, then with a renewed one."""


class Session:
    """See the module. `offline` asks the token service for a refresh token (login)."""

    def __init__(
        self, transport: Transport, endpoint: Endpoint, credentials: Credentials, *, offline: bool = False
    ) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self.authorizer = Authorizer(transport, credentials, offline=offline)

    def url(self, path: str) -> URL:
        """The address of a path, which is already quoted where it must be."""
        return URL(f"{self.endpoint.url.origin()}{path}", encoded=True)

    @asynccontextmanager
    async def request(
        self,
        method: str,
        target: URL,
        scopes: Scopes,
        *,
        accept: Collection[int] = (200,),
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> AsyncIterator[Answer]:
        """Send, and give the answer when its status is one of `accept`; raise what any other one means."""
        answer = await self._authorized(method, target, scopes, headers or {}, body)
        async with answer:
            if answer.status not in accept:
                text = await answer.read(_ERROR_MAX) if method != "HEAD" else b""
                raise failure_of(
                    method, shown(answer.url), answer.status, answer.reason, answer.headers, text
                )
            yield answer

    async def _authorized(
        self, method: str, target: URL, scopes: Scopes, headers: Mapping[str, str], body: Body | None
    ) -> Answer:
        refused: list[str] = []
        for _ in range(_ROUNDS):
            own = self._is_own(target)
            value = await self.authorizer.header(scopes) if own else ""
            if value and value in refused:
                break
            sent = {**headers, "Authorization": value} if value else dict(headers)
            answer = await self.transport.follow(method, target, sent, body)
            # Only the registry itself may ask for credentials; who is reached by a redirect gets none.
            if answer.status != 401 or not own or not self._is_own(answer.url):
                return answer
            challenges = parse_challenges(answer.all("WWW-Authenticate"))
            try:
                if not await self.authorizer.take(challenges, scopes, value):
                    return answer
            except BaseException:
                answer.close()
                raise
            refused.append(value)
            answer.close()
        raise Unauthorized(
            f"unauthorized: authentication required: {self.endpoint.host} refuses the credentials that it asked for"
        )

    def _is_own(self, url: URL) -> bool:
        """Whether an address is the endpoint's: the same host and port, and its scheme or, of an insecure one, plain HTTP."""
        own = self.endpoint.url
        if url.host != own.host or (url.explicit_port != own.explicit_port):
            return False
        return url.scheme == own.scheme or self.transport.is_plain(own)
