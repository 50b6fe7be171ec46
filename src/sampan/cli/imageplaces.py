"""The places that `image copy` knows: what an argument means, as a source or destination of `registry.copying`."""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from sampan.cli.repositories import open_repository
from sampan.cli.streaming import BLOCK, blocks
from sampan.errors import InvalidParameter
from sampan.names.reference import Reference, parse_normalized

if TYPE_CHECKING:
    from sampan.cli.session import Session
    from sampan.registry.copying import Destination, Source

KINDS = ("docker", "oci", "oci-archive", "docker-archive", "dir", "store", "docker-daemon")
ONE_PLATFORM = ("docker-archive",)
"""Places that cannot hold an index."""


class Place(NamedTuple):
    """An argument, taken apart."""

    kind: str
    rest: str

    @classmethod
    def of(cls, text: str) -> Place:
        """`KIND:REST`; a bare name is at a registry. Raises `InvalidParameter` for kinds of others."""
        kind, colon, rest = text.partition(":")
        if colon and kind in KINDS and (kind != "docker" or rest.startswith("//")):
            return cls(kind, rest.removeprefix("//") if kind == "docker" else rest)
        if kind in ("containers-storage", "ostree", "sif"):
            raise InvalidParameter(
                f"{text}: {kind} is no place that images are copied from or to; there are {', '.join(KINDS)}"
            )
        return cls("docker", text)

    @property
    def reference(self) -> Reference:
        return parse_normalized(self.rest).with_default_tag()

    @property
    def path_and_tag(self) -> tuple[str, str]:
        """Of an OCI place: `DIRECTORY:TAG`."""
        path, colon, tag = self.rest.rpartition(":")
        return (path, tag) if colon and "/" not in tag else (self.rest, "")

    @property
    def path_and_name(self) -> tuple[str, str]:
        """Of a docker-archive: `FILE:NAME[:TAG]`."""
        path, _, name = self.rest.partition(":")
        return path, name


class Places:
    """Opens places; `stack` ends what was opened."""

    def __init__(self, session: Session, insecure: tuple[str, ...]) -> None:
        self.stack = AsyncExitStack()
        self._session = session
        self._insecure = insecure
        self._finish: Callable[[], None] = lambda: None

    async def source(self, place: Place) -> Source:
        """Where to read from. Raises what opening it raises."""
        from sampan.cli.dockerarchives import into_layout
        from sampan.registry.copying import RegistrySource
        from sampan.registry.directories import Directory
        from sampan.registry.layouts import Layout

        match place.kind:
            case "docker":
                repository = open_repository(self.stack, place.reference, self._insecure)
                return RegistrySource(repository, place.reference)
            case "oci":
                return Layout(Path(place.path_and_tag[0]), place.path_and_tag[1])
            case "dir":
                return Directory(Path(place.rest))
        directory = self._scratch()
        match place.kind:
            case "oci-archive":
                with open(place.path_and_tag[0], "rb") as archive:
                    _unpack(archive, directory)
                return Layout(directory, place.path_and_tag[1])
            case "docker-archive":
                with open(place.path_and_name[0], "rb") as archive:
                    await into_layout(archive, directory, place.path_and_name[1])
                return Layout(directory)
        with tempfile.TemporaryFile() as saved:
            response = self._session.api.request("GET", "/images/get", {"names": [place.rest]})
            for block in response.blocks():
                saved.write(block)
            saved.seek(0)
            if not _unpack(
                saved, directory, required=False
            ):  # an engine from before `docker save` wrote layouts
                saved.seek(0)
                await into_layout(saved, directory, place.rest)
        return Layout(directory)

    async def destination(self, source: Place, place: Place, *, same: bool) -> Destination:
        """Where to write to; `same` when it gets the bytes of the source."""
        from sampan.registry.copying import RegistryDestination
        from sampan.registry.directories import Directory
        from sampan.registry.layouts import Layout

        match place.kind:
            case "docker":
                if place.reference.digest:
                    raise InvalidParameter(f"cannot copy to a digest: {place.rest}")
                neighbour = source.reference if source.kind == "docker" else None
                near = neighbour is not None and neighbour.domain == place.reference.domain
                mountable = neighbour.path if neighbour is not None and near else ""
                repository = open_repository(self.stack, place.reference, self._insecure)
                return RegistryDestination(repository, place.reference, mountable)
            case "oci":
                return Layout(Path(place.path_and_tag[0]), place.path_and_tag[1])
            case "dir":
                return Directory(Path(place.rest))
        directory = self._scratch()
        match place.kind:
            case "oci-archive":
                file, tag = place.path_and_tag
                self._finish = lambda: _appear(file, lambda archive: _write_tar(directory, archive))
                return Layout(directory, tag)
            case "docker-archive":
                file, name = place.path_and_name
                self._finish = lambda: _appear(file, lambda archive: _write_docker(directory, name, archive))
                return Layout(directory)
        self._finish = lambda: self._load(directory, source, same=same)
        return Layout(directory, str(place.reference))

    def finish(self) -> None:
        """Write the archive, or give it to the engine: the last step of a copy that went well."""
        self._finish()

    def _load(self, directory: Path, source: Place, *, same: bool) -> None:
        """An engine with a trust policy asks it about what is at a registry as it would for a pull."""
        from sampan.cli.credentials import auth_header
        from sampan.client.images import checked

        query: dict[str, object] = {"quiet": True}
        headers: dict[str, str] = {}
        if source.kind == "docker" and same:
            query["origin"] = f"docker://{source.reference}"
            headers = auth_header(source.reference.domain)
        with tempfile.TemporaryFile() as file:
            _write_tar(directory, file)
            file.seek(0)
            response = self._session.api.request("POST", "/images/load", query, blocks(file), headers=headers)
            for _ in checked(response.json_stream()):
                pass

    def _scratch(self) -> Path:
        return Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="sampan-copy-")))


def _unpack(archive: IO[bytes], directory: Path, *, required: bool = True) -> bool:
    """The files of a layout out of a tar. Only names that a layout has are taken, so none can lead out of the directory."""
    wanted = re.compile(r"(?:\./)?(oci-layout|index\.json|blobs/[a-z0-9]+/[0-9a-f]+)")
    try:
        with tarfile.open(fileobj=archive, mode="r|*") as tar:
            for member in tar:
                name = wanted.fullmatch(member.name)
                if name is None or not member.isreg():
                    continue
                path = directory / name[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None  # a regular file has content
                with path.open("wb") as file:
                    while block := content.read(BLOCK):
                        file.write(block)
    except tarfile.TarError as error:
        raise InvalidParameter(f"cannot read the archive: {error}") from None
    found = (directory / "oci-layout").exists()
    if required and not found:
        raise InvalidParameter("the archive holds no OCI layout: it may be a docker-archive:")
    return found


def _appear(file: str, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file, which appears complete or not at all."""
    partial = f"{file}.sampan-partial"
    try:
        with open(partial, "wb") as archive:
            write(archive)
        os.replace(partial, file)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def _write_tar(directory: Path, file: IO[bytes]) -> None:
    """Sorted, without owners and times: the same image gives the same archive."""
    with tarfile.open(fileobj=file, mode="w") as tar:
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                member = tarfile.TarInfo(str(path.relative_to(directory)))
                member.size, member.mode = path.stat().st_size, 0o644
                with path.open("rb") as content:
                    tar.addfile(member, content)


def _write_docker(directory: Path, name: str, file: IO[bytes]) -> None:
    from sampan.cli.dockerarchives import write
    from sampan.oci.image import parse_index, parse_manifest

    (entry,) = parse_index((directory / "index.json").read_bytes()).manifests
    path = directory / "blobs" / "sha256" / entry.digest.partition(":")[2]
    tag = parse_normalized(name).with_default_tag().familiar() if name else ""
    write(directory, parse_manifest(path.read_bytes(), entry.digest), tag, file)
