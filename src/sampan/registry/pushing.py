"""Writing to a repository: blobs that are not there yet, then the manifests that name them (distribution spec, "Push").

A blob is sent in one request. When that breaks, the registry is asked how much it has kept, and the rest follows in pieces;
a registry that has kept nothing gets all of it anew.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Literal, NamedTuple

from yarl import URL

from sampan.errors import NotFound, SampanError
from sampan.names.digest import digest_of
from sampan.oci.image import Descriptor
from sampan.registry.authorization import Scopes, repository_scope
from sampan.registry.failures import BrokenAnswer, ServerError, UnexpectedStatus, WrongContent
from sampan.registry.repository import ACCEPTED, Repository
from sampan.registry.retrying import Patience, retried
from sampan.registry.transport import Answer, Body, resolved_location, small_body

PIECE = 16 << 20
"""Bytes per request when an upload is continued."""

_KEPT = re.compile(r"(?:bytes=)?0-(\d{1,18})")

Source = Callable[[int, int], AsyncIterator[bytes]]
"""Bytes of the blob from an offset on, so many."""

Sent = Callable[[int], None]
"""Told how many bytes of the blob are on their way."""

Outcome = Literal["exists", "mounted", "pushed"]


class PushedBlob(NamedTuple):
    """What became of a blob."""

    outcome: Outcome
    mounted_from: str = ""


class Pusher:
    """Sends to one repository. Blobs may be sent at the same time."""

    def __init__(self, repository: Repository, mountable: frozenset[str] = frozenset()) -> None:
        """`mountable` are paths of repositories of the same registry that blobs may be mounted from."""
        self._repository = repository
        self._session = repository.origin
        self._path = repository.path
        self._settings = repository.transport.settings
        scopes = {repository_scope(self._path, "pull,push")}
        self._scopes: Scopes = frozenset(scopes)
        self._mount_scopes: Scopes = frozenset(
            scopes | {repository_scope(path, "pull") for path in mountable}
        )

    async def blob(
        self, descriptor: Descriptor, source: Source, mountable: list[str], sent: Sent
    ) -> PushedBlob:
        """Make sure that the repository has a blob."""
        if await retried(lambda: self._exists(descriptor), self._settings, self._repository.waiting):
            return PushedBlob("exists")
        location = None
        for path in mountable:
            location, mounted = await self._mount(descriptor, path)
            if mounted:
                return PushedBlob("mounted", path)
            if location is not None:
                break
        await self._upload(descriptor, source, sent, location)
        return PushedBlob("pushed")

    async def manifest(self, data: bytes, media_type: str, tag: str = "") -> str:
        """Send a manifest or index under a tag, or under its digest; the subject that the registry has understood (OCI-Subject).

        Raises `WrongContent` when the registry made another document of it.
        """
        digest = digest_of(data)
        url = self._session.url(f"/v2/{self._path}/manifests/{tag or digest}")

        async def attempt() -> str:
            async with self._session.request(
                "PUT", url, self._scopes, accept=(200, 201, 202), body=small_body(data, media_type)
            ) as answer:
                told = answer.headers.get("Docker-Content-Digest", "")
                if told and told.startswith("sha256:") and told != digest:
                    raise WrongContent(f"manifest {digest}: the registry stored it as {told}")
                return answer.headers.get("OCI-Subject", "")

        return await retried(attempt, self._settings, self._repository.waiting)

    async def has_manifest(self, digest: str) -> bool:
        """Whether the repository has a manifest already."""
        return await self._head(f"/v2/{self._path}/manifests/{digest}")

    async def _exists(self, descriptor: Descriptor) -> bool:
        return await self._head(f"/v2/{self._path}/blobs/{descriptor.digest}")

    async def _head(self, path: str) -> bool:
        try:
            async with self._session.request(
                "HEAD", self._session.url(path), self._scopes, headers={"Accept": ACCEPTED}
            ):
                return True
        except NotFound:
            return False

    async def _mount(self, descriptor: Descriptor, source: str) -> tuple[URL | None, bool]:
        """Try to take a blob from another repository of the registry; else an upload has begun there."""
        url = self._session.url(f"/v2/{self._path}/blobs/uploads/").update_query(
            {"mount": descriptor.digest, "from": source}
        )
        try:
            async with self._session.request("POST", url, self._mount_scopes, accept=(201, 202)) as answer:
                return (None, True) if answer.status == 201 else (_location(answer), False)
        except SampanError:  # one may be allowed to push here and not to read there: an upload always works
            return None, False

    async def _upload(self, descriptor: Descriptor, source: Source, sent: Sent, location: URL | None) -> None:
        patience = Patience(self._settings, self._repository.waiting)
        kept, piece = 0, PIECE
        while True:
            try:
                if location is None:
                    (location, piece), kept = await self._begin(), 0
                if kept == 0:
                    await self._whole(descriptor, source, sent, location)
                else:
                    await self._rest(descriptor, source, sent, location, kept, piece)
                return
            except SampanError as error:
                await patience.after(error)
                before = kept
                location, kept = await self._where_now(location, descriptor)
                if kept > before:
                    patience.progressed()

    async def _begin(self) -> tuple[URL, int]:
        """Where to upload to, and in pieces of how many bytes (a registry may want them larger: OCI-Chunk-Min-Length)."""
        url = self._session.url(f"/v2/{self._path}/blobs/uploads/")
        async with self._session.request("POST", url, self._scopes, accept=(202,)) as answer:
            least = answer.headers.get("OCI-Chunk-Min-Length", "")
            return _location(answer), max(PIECE, int(least) if least.isdigit() and len(least) < 12 else 0)

    async def _whole(self, descriptor: Descriptor, source: Source, sent: Sent, location: URL) -> None:
        body = Body(lambda: _told(source(0, descriptor.size), 0, sent), descriptor.size)
        await self._finish(location, descriptor, body)

    async def _rest(
        self, descriptor: Descriptor, source: Source, sent: Sent, location: URL, kept: int, piece: int
    ) -> None:
        offset = kept
        while offset < descriptor.size:
            start, length = offset, min(piece, descriptor.size - offset)
            body = Body(lambda start=start, length=length: _told(source(start, length), start, sent), length)  # type: ignore[misc]
            headers = {"Content-Range": f"{start}-{start + length - 1}"}
            async with self._session.request(
                "PATCH", location, self._scopes, accept=(202, 204), headers=headers, body=body
            ) as answer:
                location = _location(answer)
            offset += length
        await self._finish(location, descriptor, None)

    async def _finish(self, location: URL, descriptor: Descriptor, body: Body | None) -> None:
        target = _with_digest(location, descriptor.digest)
        async with self._session.request(
            "PUT", target, self._scopes, accept=(201, 202, 204), body=body
        ) as answer:
            told = answer.headers.get("Docker-Content-Digest", "")
            if told and told != descriptor.digest and told.startswith("sha256:"):
                raise WrongContent(f"blob {descriptor.digest}: the registry stored it as {told}")

    async def _where_now(self, location: URL | None, descriptor: Descriptor) -> tuple[URL | None, int]:
        """`_where`, of a registry that may not answer yet."""
        return await retried(
            lambda: self._where(location, descriptor), self._settings, self._repository.waiting
        )

    async def _where(self, location: URL | None, descriptor: Descriptor) -> tuple[URL | None, int]:
        """How much of a broken upload the registry has kept; nothing (a new upload) when it can't say."""
        if location is None:
            return None, 0
        try:
            async with self._session.request("GET", location, self._scopes, accept=(204,)) as answer:
                kept = _KEPT.fullmatch(answer.headers.get("Range", "").strip())
                if kept is None or int(kept[1]) == 0 or int(kept[1]) >= descriptor.size:
                    return None, 0
                return _location(answer) if "Location" in answer.headers else location, int(kept[1]) + 1
        except (NotFound, UnexpectedStatus, ServerError, BrokenAnswer):
            return None, 0


async def _told(chunks: AsyncIterator[bytes], start: int, sent: Sent) -> AsyncIterator[bytes]:
    position = start
    async for chunk in chunks:
        yield chunk
        position += len(chunk)
        sent(position)


def _location(answer: Answer) -> URL:
    location = answer.headers.get("Location", "")
    if not location:
        raise BrokenAnswer(f"{answer.url.origin()}: the registry does not say where to upload to")
    return resolved_location(answer.url, location)


def _with_digest(location: URL, digest: str) -> URL:
    """The upload's address with the digest added; what is there already may be signed and stays as it is."""
    query = location.raw_query_string
    joined = f"{query}&digest={digest}" if query else f"digest={digest}"
    return URL(f"{str(location).partition('?')[0]}?{joined}", encoded=True)
