"""Reading a repository: mirrors first, each tried in order, then the registry itself.

Content is verified against its digest here (documents) or by the caller (blobs), so it may come from anywhere; what a tag points
at may not, and comes from the first endpoint that answers.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import msgspec
from yarl import URL

from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.names.digest import Digest, algorithm_of, digest_of, encoded_of, parse_digest
from sampan.names.reference import Reference
from sampan.oci.image import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    DOCUMENT_LIMIT,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    parse_index,
)
from sampan.registry.authorization import repository_scope
from sampan.registry.blobs import Blob, open_blob, open_foreign
from sampan.registry.credentials import ANONYMOUS, Credentials
from sampan.registry.endpoints import endpoints_of
from sampan.registry.failures import BrokenAnswer, WrongContent
from sampan.registry.retrying import Waiting, nobody, retried
from sampan.registry.session import Session
from sampan.registry.transport import Answer, Transport, resolved_location

T = TypeVar("T")

DOCKER_SCHEMA1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
ACCEPTED = ", ".join([OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST, "*/*"])
_PAGES_MAX = 1000
_TAGS_MAX = 1_000_000
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?', re.IGNORECASE)


class MirrorFailure(msgspec.Struct, frozen=True):
    """An endpoint that could not serve, and why."""

    endpoint: str
    reason: str
    listed: str
    """Where the mirror is configured."""


class Repository:
    """One repository as one caller sees it. Made by `RegistryClient.repository`."""

    def __init__(
        self, transport: Transport, reference: Reference, credentials: Credentials, waiting: Waiting = nobody
    ) -> None:
        self.path = reference.path
        self.domain = reference.domain
        self.transport = transport
        self.waiting = waiting
        """Told when something is going to be tried again."""
        self.failed_mirrors: list[MirrorFailure] = []
        """Mirrors that did not serve something, for the message of a pull that failed."""
        own = credentials.for_registry(reference.domain)
        # A mirror is another host than the credentials are for, whoever runs it.
        endpoints = endpoints_of(reference.domain, transport.settings)
        self._sessions = [
            Session(transport, endpoint, ANONYMOUS if endpoint.mirror else own) for endpoint in endpoints
        ]
        for endpoint in endpoints:
            if endpoint.trust is not None:
                transport.trust(endpoint.host, endpoint.trust)
        self._pull = frozenset({repository_scope(self.path, "pull")})

    @property
    def origin(self) -> Session:
        """The registry itself, which alone can be pushed to."""
        return self._sessions[-1]

    async def resolve(self, tag_or_digest: str) -> Descriptor:
        """What a tag or digest means now. Raises `NotFound`, `Unauthorized`, …"""
        tag = ":" not in tag_or_digest
        return await self._first(lambda session: self._resolve(session, tag_or_digest), resolving=tag)

    async def manifest(self, descriptor: Descriptor) -> bytes:
        """A manifest or index by its descriptor, verified. Raises `WrongContent`, `NotFound`, …"""
        return await self._first(lambda session: self._manifest(session, descriptor))

    async def document(self, descriptor: Descriptor) -> bytes:
        """A small blob (an image config), verified."""
        return await self._first(lambda session: self._document(session, descriptor))

    @asynccontextmanager
    async def blob(self, descriptor: Descriptor, offset: int, skipped: int = 0) -> AsyncIterator[Blob]:
        """A blob from `offset` on, or from 0 when the server knows no ranges (`Blob.offset` tells). One attempt.

        `skipped` endpoints are passed over, because what they sent was wrong. The caller verifies.
        """
        sessions = self._sessions[skipped:] or self._sessions[-1:]
        for session in sessions:
            try:
                blob = await open_blob(session, self.domain, self.path, descriptor, offset, self._pull)
                break
            except NotFound as error:
                if session is self.origin and descriptor.urls:
                    blob = await open_foreign(self.transport, descriptor, offset)
                    break
                self._note(session, error)
                if session is self.origin:
                    raise
            except SampanError as error:
                self._note(session, error)
                if session is self.origin:
                    raise
        async with blob:
            yield blob

    async def describe_blob(self, digest: Digest) -> Descriptor:
        """A blob's size, where only its digest is known. Raises `NotFound`, `BrokenAnswer` when the registry does not tell it."""

        async def attempt() -> Descriptor:
            url = self.origin.url(f"/v2/{self.path}/blobs/{digest}")
            async with self.origin.request("HEAD", url, self._pull) as answer:
                length = answer.headers.get("Content-Length", "")
            if not length.isdigit() or len(length) > 18:
                raise BrokenAnswer(f"{url}: the registry does not tell the length of the blob")
            return Descriptor(digest=digest, size=int(length))

        return await retried(attempt, self.transport.settings, self.waiting)

    @property
    def endpoints(self) -> int:
        """How many there are to try."""
        return len(self._sessions)

    async def tags(self) -> list[str]:
        """Every tag of the repository, in the registry's order."""
        found: list[str] = []
        session = self.origin
        url = session.url(f"/v2/{self.path}/tags/list")
        for _ in range(_PAGES_MAX):
            document, following = await self._page(session, url, _Tags)
            found += document.tags or []
            if following is None or len(found) > _TAGS_MAX:
                return found
            url = following
        return found

    async def referrers(self, digest: Digest, artifact_type: str = "") -> list[Descriptor]:
        """What refers to a manifest as its subject: by the referrers API, else by the fallback tag (distribution spec 1.1)."""
        session = self.origin
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        try:
            async with session.request(
                "GET",
                session.url(f"/v2/{self.path}/referrers/{digest}{query}"),
                self._pull,
                headers={"Accept": OCI_INDEX},
            ) as answer:
                index = parse_index(await answer.read(DOCUMENT_LIMIT), f"referrers of {digest}")
        except NotFound:
            try:
                target = await self._resolve(session, f"{algorithm_of(digest)}-{encoded_of(digest)}"[:128])
            except NotFound:
                return []
            index = parse_index(await self._manifest(session, target), f"referrers of {digest}")
        return [each for each in index.manifests if not artifact_type or each.artifact_type == artifact_type]

    def mirrors_report(self) -> str:
        """For the end of a failed pull's message: each mirror tried, why it did not serve, and what to change."""
        if not self.failed_mirrors:
            return ""
        tried = "; ".join(f"{each.endpoint}: {each.reason}" for each in self.failed_mirrors)
        places = "; ".join(dict.fromkeys(each.listed for each in self.failed_mirrors))
        return f" (mirrors tried first: {tried}; {places})"

    # -- one endpoint

    async def _first(self, attempt: Callable[[Session], Awaitable[T]], *, resolving: bool = False) -> T:
        for session in self._sessions[:-1]:
            if resolving and not session.endpoint.resolves:
                continue
            try:
                return await attempt(session)
            except SampanError as error:
                self._note(session, error)
        return await retried(lambda: attempt(self.origin), self.transport.settings, self.waiting)

    def _note(self, session: Session, error: SampanError) -> None:
        endpoint = session.endpoint
        failure = MirrorFailure(str(endpoint.url.origin()), str(error), endpoint.listed)
        if endpoint.mirror and failure not in self.failed_mirrors:
            self.failed_mirrors.append(failure)

    def _manifest_url(self, session: Session, tag_or_digest: str) -> URL:
        url = session.url(f"/v2/{self.path}/manifests/{tag_or_digest}")
        # A mirror that serves several registries is told which one is meant (containerd's convention).
        return url.update_query(ns=self.domain) if session.endpoint.mirror else url

    async def _resolve(self, session: Session, tag_or_digest: str) -> Descriptor:
        url = self._manifest_url(session, tag_or_digest)
        async with session.request(
            "HEAD", url, self._pull, headers={"Accept": ACCEPTED}, accept=(200, 405)
        ) as answer:
            told = _described(answer, tag_or_digest) if answer.status == 200 else None
        if told is not None:
            return told
        # No digest in the headers: only the document itself tells.
        async with session.request("GET", url, self._pull, headers={"Accept": ACCEPTED}) as answer:
            data = await answer.read(DOCUMENT_LIMIT)
            media_type = _media_type(answer, data)
        digest = digest_of(data)
        if ":" in tag_or_digest and digest_of(data, algorithm_of(Digest(tag_or_digest))) != tag_or_digest:
            raise WrongContent(f"manifest {tag_or_digest}: the registry sent another document ({digest})")
        return Descriptor(media_type=media_type, digest=digest, size=len(data))

    async def _manifest(self, session: Session, descriptor: Descriptor) -> bytes:
        _check_size(descriptor)
        url = self._manifest_url(session, descriptor.digest)
        async with session.request(
            "GET", url, self._pull, headers={"Accept": f"{descriptor.media_type or '*/*'}, */*"}
        ) as answer:
            data = await answer.read(DOCUMENT_LIMIT)
        return _verified(data, descriptor, "manifest")

    async def _document(self, session: Session, descriptor: Descriptor) -> bytes:
        _check_size(descriptor)
        async with await open_blob(session, self.domain, self.path, descriptor, 0, self._pull) as blob:
            return _verified(await blob.read(DOCUMENT_LIMIT), descriptor, "blob")

    async def _page(self, session: Session, url: URL, shape: type[T]) -> tuple[T, URL | None]:
        async def attempt() -> tuple[T, URL | None]:
            async with session.request("GET", url, self._pull) as answer:
                try:
                    document = msgspec.json.decode(await answer.read(DOCUMENT_LIMIT), type=shape)
                except msgspec.DecodeError as error:
                    raise BrokenAnswer(f"{url}: {error}") from None
                return document, _next_page(answer)

        return await retried(attempt, self.transport.settings, self.waiting)


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


def _next_page(answer: Answer) -> URL | None:
    """The next page of a list, on the same host only: a list is no reason to go elsewhere."""
    link = _NEXT.search(answer.headers.get("Link", ""))
    if link is None:
        return None
    target = resolved_location(answer.url, link[1])
    if target.origin() != answer.url.origin():
        raise BrokenAnswer(
            f"{answer.url.origin()}: the next page of a list is on another host ({target.origin()})"
        )
    return target


def _described(answer: Answer, tag_or_digest: str) -> Descriptor | None:
    """The descriptor in the headers of an answer to HEAD; None when they lack the digest."""
    text = answer.headers.get("Docker-Content-Digest", "") or (tag_or_digest if ":" in tag_or_digest else "")
    if not text:
        return None
    try:
        # A digest becomes the name of a file later: nothing but a digest passes here (CVE-2024-3727).
        digest = parse_digest(text)
    except InvalidParameter as error:
        raise BrokenAnswer(f"{answer.url.origin()}: Docker-Content-Digest {text[:200]!r}: {error}") from None
    if ":" in tag_or_digest and digest != tag_or_digest:
        raise WrongContent(f"manifest {tag_or_digest}: the registry answers with {digest}")
    length = answer.headers.get("Content-Length", "")
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    if (
        not length.isdigit()
        or len(length) > 18
        or (media_type not in INDEX_TYPES | MANIFEST_TYPES | DOCKER_SCHEMA1)
    ):
        return None
    return Descriptor(media_type=media_type, digest=digest, size=int(length))


class _TypeOnly(msgspec.Struct, rename="camel"):
    media_type: str | None = None
    schema_version: int | None = None


def _media_type(answer: Answer, data: bytes) -> str:
    """What a document says of itself, else the header."""
    header = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    try:
        own = msgspec.json.decode(data, type=_TypeOnly)
    except msgspec.DecodeError:
        return header
    if own.schema_version == 1:
        return header if header in DOCKER_SCHEMA1 else next(iter(sorted(DOCKER_SCHEMA1)))
    return own.media_type or header


def _check_size(descriptor: Descriptor) -> None:
    if descriptor.size > DOCUMENT_LIMIT:
        raise WrongContent(
            f"{descriptor.digest}: {descriptor.size} bytes, more than the {DOCUMENT_LIMIT} allowed for a document"
        )


def _verified(data: bytes, descriptor: Descriptor, what: str) -> bytes:
    actual = digest_of(data, algorithm_of(descriptor.checked_digest))
    if actual != descriptor.digest:
        raise WrongContent(
            f"{what} verification failed for digest {descriptor.digest}: what came is {actual}, {len(data)} bytes"
        )
    return data
