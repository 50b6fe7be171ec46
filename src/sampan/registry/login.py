"""Checking a login: does the registry take these credentials?"""

from __future__ import annotations

from sampan.errors import InvalidParameter, NotFound, SystemFailure, Unauthorized
from sampan.registry.authorization import NO_CREDENTIALS
from sampan.registry.credentials import Credentials
from sampan.registry.endpoints import HUB_INDEX, endpoints_of, host_of, is_insecure
from sampan.registry.failures import ConnectionFailed
from sampan.registry.session import Session
from sampan.registry.transport import Transport, plain


async def ping(transport: Transport, domain: str) -> None:
    """Whether a registry answers at all, in TLS or, where it may, in plain HTTP. Raises `ConnectionFailed` in dockerd's words."""
    url = endpoints_of(domain, transport.settings)[-1].url / "v2/"
    try:
        (await transport.follow("GET", url, {})).close()
    except ConnectionFailed:
        if not await is_insecure(url, transport.settings):
            raise
        (await transport.follow("GET", plain(url), {})).close()


async def log_in(transport: Transport, credentials: Credentials) -> str:
    """Try the credentials; the refresh token that the registry gave for them, or "".

    Raises `Unauthorized` when they are refused.
    """
    address = credentials.server or HUB_INDEX
    domain = host_of(address)
    if not domain:
        raise InvalidParameter(f"unable to parse server address: {address!r}")
    endpoint = endpoints_of(domain, transport.settings)[-1]
    await ping(transport, domain)
    session = Session(transport, endpoint, credentials, offline=True)
    url = session.url("/v2/")
    try:
        async with session.request("GET", url, frozenset()) as answer:
            await answer.read(64 << 10)
    except Unauthorized as error:
        if str(error) == NO_CREDENTIALS:
            raise
        detail = "" if str(error) == "unauthorized: authentication required" else f": {error}"
        shown = plain(url) if transport.is_plain(url) else url
        raise Unauthorized(
            f"login attempt to {shown} failed with status: 401 Unauthorized{detail}"
        ) from error
    except NotFound as error:
        raise SystemFailure(f"login attempt to {url} failed with status: 404 Not Found") from error
    return session.authorizer.refresh_token
