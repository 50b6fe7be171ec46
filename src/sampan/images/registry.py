"""The seam to registries: pull, push and search. The client behind it is yet to be written; until then every use says what to do
instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from sampan.engineapi.image import StreamMessage
from sampan.errors import NotSupported
from sampan.images.records import ImageRecord
from sampan.names.platform import Platform
from sampan.names.reference import Reference


class SearchResult(NamedTuple):
    """One line of `docker search`."""

    name: str
    description: str
    stars: int
    official: bool


class Registry(Protocol):
    """What the image verbs need of a registry client. `auth` is the X-Registry-Auth header as it came."""

    def pull(
        self, reference: Reference, platform: Platform | None, auth: str
    ) -> AsyncIterator[StreamMessage]:
        """Fetch an image into the content store and give it its name, telling progress on the way."""
        ...

    def push(
        self, record: ImageRecord, reference: Reference, platform: Platform | None, auth: str
    ) -> AsyncIterator[StreamMessage]:
        """Send an image under a name."""
        ...

    async def search(self, term: str, limit: int, auth: str) -> list[SearchResult]: ...


class NoRegistry:
    """The registry of an engine without a registry client: each verb raises `NotSupported` with a way out."""

    async def pull(
        self, reference: Reference, platform: Platform | None, auth: str
    ) -> AsyncIterator[StreamMessage]:
        raise NotSupported(
            f"cannot pull {reference.familiar()}: this engine has no registry client yet. Make a base image with"
            " `sampan image bootstrap busybox` (or debian), or bring an archive with `docker load`"
        )
        yield StreamMessage()  # makes this an async generator, as the protocol's is

    async def push(
        self, record: ImageRecord, reference: Reference, platform: Platform | None, auth: str
    ) -> AsyncIterator[StreamMessage]:
        raise NotSupported(
            f"cannot push {reference.familiar()}: this engine has no registry client yet. Write an archive with `docker save`"
        )
        yield StreamMessage()

    async def search(self, term: str, limit: int, auth: str) -> list[SearchResult]:
        raise NotSupported(f"cannot search for {term}: this engine has no registry client yet")
