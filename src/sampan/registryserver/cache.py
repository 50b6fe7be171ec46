"""A pull-through cache (distribution's `proxy`): what is not here comes from upstream, once however many ask, and stays.

A tag is asked for upstream again after its time to live; when upstream does not answer, or refuses for now, what is here is served
instead. Content goes to whoever may use the cache, with the credentials of the cache, as with distribution.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from yarl import URL

from sampan.errors import Forbidden, InvalidParameter, NotFound, SampanError, Unauthorized
from sampan.names.digest import Digest
from sampan.names.reference import DEFAULT_DOMAIN, LEGACY_DEFAULT_DOMAIN, Reference
from sampan.registry.client import RegistryClient
from sampan.registry.credentials import Credentials
from sampan.registry.endpoints import HUB_HOST
from sampan.registry.failures import RETRIED
from sampan.registry.repository import Repository
from sampan.registry.retrying import Patience
from sampan.registry.settings import RegistrySettings
from sampan.registryserver.configuration import ServerConfig, seconds
from sampan.registryserver.failures import Refused
from sampan.registryserver.repositories import Repositories, StoredManifest

T = TypeVar("T")


class Origin(NamedTuple):
    """One registry that is cached."""

    domain: str
    """What its images' names begin with."""
    credentials: Credentials
    ttl: float
    """Seconds for which a tag is not asked for again."""


class PullThrough:
    """What `app.Upstream` asks of a cache.

    With one upstream a repository has its name there; with several it is kept under `DOMAIN/NAME`. A client says which one it
    means by the query `ns=DOMAIN` (containerd's, and Sampan's own for mirrors) or by such a name; else the first one is meant.
    """

    def __init__(self, config: ServerConfig, repositories: Repositories, client: RegistryClient) -> None:
        """Raises `InvalidParameter` when an upstream is no address."""
        origins = [_origin(settings) for settings in config.upstreams]
        self._origins = {_component(origin.domain): origin for origin in origins}
        if len(self._origins) != len(origins):
            raise InvalidParameter("configuration: proxy: two upstreams are one registry")
        self._default = _component(origins[0].domain)
        self._repositories = repositories
        self._client = client
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    def name(self, asked: str, namespace: str) -> str:
        """The repository here that a client's name and `ns` mean. Raises `Refused` for a registry that is not cached."""
        if namespace:
            wanted = _component(
                DEFAULT_DOMAIN if namespace in (HUB_HOST, LEGACY_DEFAULT_DOMAIN) else namespace
            )
            if wanted not in self._origins:
                raise Refused("NAME_UNKNOWN", f"{namespace[:200]} is not cached here")
            return asked if len(self._origins) == 1 else f"{wanted}/{asked}"
        if len(self._origins) == 1 or asked.partition("/")[0] in self._origins:
            return asked
        return f"{self._default}/{asked}"

    def _origin(self, name: str) -> tuple[Origin, str]:
        """Where a repository is from, and its name there."""
        if len(self._origins) == 1:
            return self._origins[self._default], name
        first, _, rest = name.partition("/")
        return self._origins[first], rest

    async def manifest(self, name: str, reference: str) -> StoredManifest:
        """A manifest, fresh enough. Raises `Refused`."""
        known = await self._known(name, reference)
        if known is not None and (":" in reference or await self._is_fresh(name, reference)):
            return known
        try:
            await self._once(name, reference, lambda: self._fetch_manifest(name, reference, known))
        except RETRIED as error:
            if known is not None:
                return known  # stale is better than nothing
            raise Refused("UNAVAILABLE", f"upstream does not answer: {error}") from error
        except SampanError as error:
            raise _refused(error, "MANIFEST_UNKNOWN") from error
        return await self._repositories.manifest(name, reference)

    async def blob(self, name: str, digest: Digest) -> None:
        """Have a blob in the repository. Raises `Refused`."""
        try:
            await self._once(name, digest, lambda: self._fetch_blob(name, digest))
        except RETRIED as error:
            raise Refused("UNAVAILABLE", f"upstream does not answer: {error}") from error
        except SampanError as error:
            raise _refused(error, "BLOB_UNKNOWN") from error

    async def _known(self, name: str, reference: str) -> StoredManifest | None:
        try:
            return await self._repositories.manifest(name, reference)
        except Refused:
            return None

    async def _is_fresh(self, name: str, tag: str) -> bool:
        link = self._repositories.paths.tag_link(name, tag)
        status = await asyncio.to_thread(self._repositories.storage.status, link)
        return status is not None and time.time() - status.modified < self._origin(name)[0].ttl

    async def _once(self, name: str, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, or wait for who is doing it already. A client that goes away does not end it for the others."""
        key = (name, what)
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(work())
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        await asyncio.shield(task)

    def _upstream(self, name: str) -> Repository:
        origin, path = self._origin(name)
        return self._client.repository(Reference(origin.domain, path), origin.credentials)

    async def _fetch_manifest(self, name: str, reference: str, known: StoredManifest | None) -> None:
        upstream = self._upstream(name)
        target = await upstream.resolve(reference)
        tag = "" if ":" in reference else reference
        if known is not None and known.digest == target.digest:
            link = self._repositories.paths.tag_link(name, tag)
            await asyncio.to_thread(self._repositories.write_link, link, known.digest)  # fresh from now on
            return
        data = await upstream.manifest(target)
        await self._repositories.keep_manifest(name, target.checked_digest, data, tag)

    async def _fetch_blob(self, name: str, digest: Digest) -> None:
        upstream = self._upstream(name)
        descriptor = await upstream.describe_blob(digest)
        session = await self._repositories.uploads.begin(name)
        session.busy = True
        patience = Patience(self._client.settings)
        try:
            while session.size < descriptor.size:
                before = session.size
                try:
                    async with upstream.blob(descriptor, session.size) as blob:
                        await session.write(blob.after(session.size))
                except SampanError as error:
                    if session.size > before:
                        patience.progressed()
                    await patience.after(error)
            await session.commit(digest)
        finally:
            await self._repositories.uploads.cancel(session)


def _origin(settings: dict[str, Any]) -> Origin:
    """An entry of the configuration, in the form of distribution's `proxy`."""
    text = str(settings.get("remoteurl") or "")
    try:
        url = URL(text if "://" in text else f"https://{text}")
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidParameter(f"configuration: proxy.remoteurl {text!r} is no address")
    domain = DEFAULT_DOMAIN if url.host in (HUB_HOST, DEFAULT_DOMAIN) else url.authority
    username, password = str(settings.get("username") or ""), str(settings.get("password") or "")
    credentials = Credentials(username=username, password=password, server=domain)
    return Origin(domain, credentials, seconds(settings.get("ttl") or "168h"))


def _component(domain: str) -> str:
    """A registry as the first part of a repository's name, where there can be no colon and no capital."""
    return domain.lower().replace(":", "-").replace("[", "").replace("]", "")


def cache_settings() -> RegistrySettings:
    """How the cache speaks to its upstream."""
    from sampan.registry.proxies import proxies_of_process

    return RegistrySettings(proxies=proxies_of_process(), attempts=3)


def _refused(error: SampanError, code: str) -> Refused:
    if isinstance(error, NotFound):
        return Refused(code)
    if isinstance(error, Unauthorized | Forbidden):
        return Refused("DENIED", f"upstream refuses: {error}")
    return Refused("UNAVAILABLE", f"upstream: {error}")
