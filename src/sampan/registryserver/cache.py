"""A pull-through cache (distribution's `proxy`): what is not here comes from upstream, once however many ask, and stays.

A tag is asked for upstream again after its time to live; when upstream does not answer, or refuses for now, what is here is served
instead. Content goes to whoever may use the cache, with the credentials of the cache, as with distribution.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from yarl import URL

from sampan.errors import Forbidden, InvalidParameter, NotFound, SampanError, Unauthorized
from sampan.names.digest import Digest
from sampan.names.reference import DEFAULT_DOMAIN, Reference
from sampan.registry.client import RegistryClient
from sampan.registry.credentials import Credentials
from sampan.registry.endpoints import HUB_HOST
from sampan.registry.failures import RETRIED
from sampan.registry.repository import Repository
from sampan.registry.retrying import Patience
from sampan.registry.settings import RegistrySettings
from sampan.registryserver.configuration import ServerConfig
from sampan.registryserver.failures import Refused
from sampan.registryserver.repositories import Repositories, StoredManifest

T = TypeVar("T")


class PullThrough:
    """What `app.Upstream` asks of a cache."""

    def __init__(self, config: ServerConfig, repositories: Repositories, client: RegistryClient) -> None:
        """Raises `InvalidParameter` when `proxy.remoteurl` is no address."""
        url = URL(config.upstream if "://" in config.upstream else f"https://{config.upstream}")
        if url.scheme not in ("http", "https") or not url.host:
            raise InvalidParameter(f"configuration: proxy.remoteurl {config.upstream!r} is no address")
        self._domain = DEFAULT_DOMAIN if url.host == HUB_HOST else url.authority
        self._credentials = Credentials(
            username=config.upstream_username, password=config.upstream_password, server=self._domain
        )
        self._repositories = repositories
        self._client = client
        self._ttl = config.upstream_ttl
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

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
        try:
            status = await asyncio.to_thread(link.stat)
        except FileNotFoundError:
            return False
        return time.time() - status.st_mtime < self._ttl

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
        return self._client.repository(Reference(self._domain, name), self._credentials)

    async def _fetch_manifest(self, name: str, reference: str, known: StoredManifest | None) -> None:
        upstream = self._upstream(name)
        target = await upstream.resolve(reference)
        tag = "" if ":" in reference else reference
        if known is not None and known.digest == target.digest:
            link = self._repositories.paths.tag_link(name, tag)
            await asyncio.to_thread(os.utime, link)
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
