"""An archive that came with the request, as the session of a build."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from sampan.errors import NotSupported
from sampan.names.names import new_id
from sampan.registry.copying import Source
from sampan.registry.credentials import Credentials
from sampan.solver.sessions import LocalRequest, Place, Sent


class UploadSession:
    """`sampan.solver.sessions.Session`: whatever local source is asked for, it is the archive's directory. No secrets, no agent."""

    def __init__(self, directory: Path, credentials: Mapping[str, Credentials]) -> None:
        self._id = new_id()
        self._directory = directory
        self._credentials = credentials

    @property
    def id(self) -> str:
        """See `Session`."""
        return self._id

    @property
    def shared_key(self) -> str:
        """None: what was sent is there once."""
        return ""

    async def local(self, request: LocalRequest, place: Place, sent: Sent) -> Path:
        """The directory, which has been unpacked by now."""
        return self._directory

    async def secret(self, id: str) -> bytes | None:
        """None: an archive has none."""
        return None

    @asynccontextmanager
    async def ssh(self, id: str, socket: Path) -> AsyncIterator[bool]:
        """None either."""
        yield False

    async def credentials(self, host: str) -> Credentials:
        """Those of the request."""
        return self._credentials.get(host, Credentials())

    def image(self, store: str, digest: str) -> Source:
        """Raises `NotSupported`: whoever sends an archive has nothing else."""
        raise NotSupported(f"oci-layout://{store}: an archive comes with no content store")
