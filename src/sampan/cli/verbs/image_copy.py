"""`image copy`: between registries, OCI layouts, archives and the engine's store, every platform, bytes as they are."""

from __future__ import annotations

import asyncio
import os
import tarfile
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sampan.cli.command import flag, listing, option, verb
from sampan.cli.repositories import open_repository
from sampan.cli.streaming import BLOCK, blocks
from sampan.cli.values import STRING
from sampan.errors import InvalidParameter
from sampan.names.reference import Reference, parse_normalized

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.cli.session import Session
    from sampan.oci.image import Descriptor
    from sampan.registry.copying import Destination, Source
    from sampan.registry.repository import Repository

_KINDS = ("docker", "oci", "oci-archive", "store")


@verb(
    "[OPTIONS] SRC DST",
    "Copy an image between registries, OCI layouts, archives and the engine's store",
    arity=(2, 2),
    aliases=("image copy",),
    examples="Places: NAME or docker://NAME, oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG], store:NAME\n"
    "$ sampan image copy registry.example.com/app:1 oci:./app:1\n"
    "$ sampan image copy oci-archive:app.tar other.example.com/app:1\n"
    "$ sampan image copy store:app:1 registry.example.com/app:1",
)
@listing(
    "--insecure-registry",
    kind=STRING,
    help="Registry that may speak plain HTTP or show an unknown certificate",
)
@option("--platform", kind=STRING, default="", help="Copy one platform alone instead of all")
@flag("-q", "--quiet", help="Print the digest only")
def copy(
    session: Session, args: tuple[str, ...], insecure_registry: tuple[str, ...], platform: str, quiet: bool
) -> None:
    from sampan.names.platform import parse

    wanted = parse(platform) if platform else None
    places = _Places(session, insecure_registry)

    async def run() -> Descriptor:
        from sampan.registry.copying import copy_image

        async with places.stack:
            source, destination = places.source(args[0]), await places.destination(args[0], args[1])
            target = await copy_image(source, destination, wanted, tell)
            places.finish()
            return target

    def tell(what: str, descriptor: Descriptor) -> None:
        if not quiet:
            print(f"{descriptor.digest.rpartition(':')[2][:12]}: {what}")

    target = asyncio.run(run())
    print(target.digest if quiet else f"{args[1]}: digest: {target.digest}")


class _Places:
    """What the two arguments mean; `stack` ends what was opened."""

    def __init__(self, session: Session, insecure: tuple[str, ...]) -> None:
        self.stack = AsyncExitStack()
        self._session = session
        self._insecure = insecure
        self._finish: list[tuple[str, Path, str]] = []

    def source(self, text: str) -> Source:
        from sampan.registry.copying import RegistrySource
        from sampan.registry.layouts import Layout

        kind, rest = _split(text)
        if kind == "docker":
            reference = _reference(rest)
            return RegistrySource(self._repository(reference), reference)
        if kind == "oci":
            folder, tag = _path_and_tag(rest)
            return Layout(Path(folder), tag)
        if kind == "oci-archive":
            file, tag = _path_and_tag(rest)
            directory = self._scratch()
            with open(file, "rb") as archive:
                _unpack(archive, directory)
            return Layout(directory, tag)
        directory = self._scratch()
        response = self._session.api.request("GET", "/images/get", {"names": [rest]})
        _unpack(_Readable(response.blocks()), directory)
        return Layout(directory)

    async def destination(self, source: str, text: str) -> Destination:
        from sampan.registry.copying import RegistryDestination
        from sampan.registry.layouts import Layout

        kind, rest = _split(text)
        if kind == "docker":
            reference = _reference(rest)
            if reference.digest:
                raise InvalidParameter(f"cannot copy to a digest: {text}")
            other_kind, other = _split(source)
            neighbour = _reference(other) if other_kind == "docker" else None
            mountable = neighbour.path if neighbour and neighbour.domain == reference.domain else ""
            return RegistryDestination(self._repository(reference), reference, mountable)
        if kind == "oci":
            folder, tag = _path_and_tag(rest)
            return Layout(Path(folder), tag)
        directory = self._scratch()
        self._finish.append((kind, directory, rest))
        if kind == "oci-archive":
            return Layout(directory, _path_and_tag(rest)[1])
        return Layout(directory, str(_reference(rest)))

    def finish(self) -> None:
        """Write the archive, or give it to the engine."""
        for kind, directory, rest in self._finish:
            if kind == "oci-archive":
                _pack(directory, _path_and_tag(rest)[0])
                continue
            with tempfile.TemporaryFile() as file:
                _write_tar(directory, file)
                file.seek(0)
                response = self._session.api.request("POST", "/images/load", {"quiet": True}, blocks(file))
                from sampan.client.images import checked

                for _ in checked(response.json_stream()):
                    pass

    def _repository(self, reference: Reference) -> Repository:
        return open_repository(self.stack, reference, self._insecure)

    def _scratch(self) -> Path:
        return Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="sampan-copy-")))


def _split(text: str) -> tuple[str, str]:
    """A place's kind and the rest; a bare name is at a registry."""
    kind, colon, rest = text.partition(":")
    if colon and kind in _KINDS and (kind != "docker" or rest.startswith("//")):
        return kind, rest.removeprefix("//") if kind == "docker" else rest
    if kind in ("docker-daemon", "containers-storage", "docker-archive", "dir"):
        raise InvalidParameter(
            f"{text}: {kind} is no place that images are copied from or to; there are {', '.join(_KINDS)}"
        )
    return "docker", text


def _reference(text: str) -> Reference:
    return parse_normalized(text).with_default_tag()


def _path_and_tag(text: str) -> tuple[str, str]:
    path, colon, tag = text.rpartition(":")
    return (path, tag) if colon and "/" not in tag else (text, "")


class _Readable:
    """Blocks as a file that tarfile can read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._left = b""

    def read(self, size: int) -> bytes:
        while len(self._left) < size and (block := next(self._blocks, b"")):
            self._left += block
        data, self._left = self._left[:size], self._left[size:]
        return data


def _unpack(archive: IO[bytes] | _Readable, directory: Path) -> None:
    """The files of a layout out of a tar. Only names that a layout has are taken, so none can lead out of the directory."""
    import re

    wanted = re.compile(r"(?:\./)?(oci-layout|index\.json|blobs/[a-z0-9]+/[0-9a-f]+)")
    try:
        with tarfile.open(fileobj=archive, mode="r|*") as tar:  # type: ignore[call-overload]
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
    if not (directory / "oci-layout").exists():
        raise InvalidParameter("the archive holds no OCI layout (docker save writes one since version 25)")


def _pack(directory: Path, file: str) -> None:
    """A tar of a layout, which appears complete or not at all."""
    partial = f"{file}.sampan-partial"
    try:
        with open(partial, "wb") as archive:
            _write_tar(directory, archive)
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
