"""`docker search`: the v1 API, which is all that Docker Hub and registries offer for it."""

from __future__ import annotations

import msgspec
from yarl import URL

from sampan.errors import InvalidParameter, SystemFailure
from sampan.names.reference import DEFAULT_DOMAIN
from sampan.registry.credentials import Credentials
from sampan.registry.endpoints import HUB_INDEX, Endpoint, host_of
from sampan.registry.session import Session
from sampan.registry.tokens import basic
from sampan.registry.transport import Transport

DEFAULT_LIMIT = 25
LIMIT_MAX = 100
_ANSWER_MAX = 8 << 20


class SearchResult(msgspec.Struct):
    """One line of `docker search`, as the v1 API and the Engine API have it."""

    star_count: int = 0
    is_official: bool = False
    name: str = ""
    is_automated: bool = False
    description: str = ""


class _Results(msgspec.Struct):
    results: list[SearchResult] | None = None


async def search(transport: Transport, term: str, limit: int, credentials: Credentials) -> list[SearchResult]:
    """Repositories that match. Raises `InvalidParameter` for a limit out of range or a term with a scheme."""
    if "://" in term:
        raise InvalidParameter(f"invalid repository name: repository name ({term}) should not have a scheme")
    limit = limit or DEFAULT_LIMIT
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidParameter(f"limit {limit} is outside the range of [1, {LIMIT_MAX}]")
    domain, rest = _split(term)
    base = URL(HUB_INDEX).origin() if domain == DEFAULT_DOMAIN else URL(f"https://{domain}")
    query = rest.removeprefix("library/") if domain == DEFAULT_DOMAIN else rest
    session = Session(transport, Endpoint(base), credentials.for_registry(domain))
    url = session.url("/v1/search").update_query(q=query, n=str(limit))
    headers = {"X-Docker-Token": "true"}
    own = credentials.for_registry(domain)
    if own.username and own.password:
        headers["Authorization"] = basic(own)
    async with session.request("GET", url, frozenset(), headers=headers) as answer:
        data = await answer.read(_ANSWER_MAX)
    try:
        return msgspec.json.decode(data, type=_Results).results or []
    except msgspec.DecodeError as error:
        raise SystemFailure(f"error decoding registry search results: {error}") from None


def _split(term: str) -> tuple[str, str]:
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return host_of(first), rest
    return DEFAULT_DOMAIN, term
