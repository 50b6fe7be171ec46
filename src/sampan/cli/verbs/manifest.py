"""`manifest`: look at a registry's manifests, and make one name of several platforms' images, without an engine."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from sampan.cli.command import flag, listing, option, verb
from sampan.cli.manifestlists import Entry, ManifestLists, index_of
from sampan.cli.repositories import open_repository
from sampan.cli.values import STRING
from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.names.reference import Reference, parse_normalized

if TYPE_CHECKING:
    from sampan.cli.session import Session
    from sampan.oci.image import Descriptor
    from sampan.registry.repository import Repository


class _Registries:
    """Registries as one command sees them; a context that ends the connections."""

    def __init__(self, closing: AsyncExitStack, insecure: bool) -> None:
        self._closing = closing
        self._insecure = insecure
        self._opened: dict[str, Repository] = {}

    def repository(self, reference: Reference) -> Repository:
        if reference.name not in self._opened:
            insecure = (reference.domain,) if self._insecure else ()
            self._opened[reference.name] = open_repository(self._closing, reference, insecure)
        return self._opened[reference.name]

    async def manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """What a reference means there, and its bytes. Raises `NotFound` in docker's words."""
        repository = self.repository(reference)
        try:
            target = await repository.resolve(reference.digest or reference.tag)
            return target, await repository.manifest(target)
        except NotFound:
            raise NotFound(f"no such manifest: {reference}") from None

    async def entry(self, reference: Reference, target: Descriptor, data: bytes) -> Entry:
        """A manifest as an entry of a list, its platform out of its configuration."""
        from sampan.oci.image import parse_config, parse_manifest

        config = parse_manifest(data, target.digest).config
        read = parse_config(await self.repository(reference).document(config), config.digest)
        entry = Entry(str(reference), target.media_type, target.digest, {}, data)
        return entry.with_platform(
            {
                "architecture": read.architecture,
                "os": read.os,
                "os.version": read.os_version,
                "os.features": read.os_features,
                "variant": read.variant,
            }
        )

    async def entries(self, reference: Reference, data: bytes) -> list[Entry]:
        """The entries of a list at a registry."""
        from sampan.oci.image import parse_index

        found: list[Entry] = []
        for child in parse_index(data, str(reference)).manifests:
            part = reference._replace(digest=child.digest)
            entry = await self.entry(part, child, await self.repository(reference).manifest(child))
            found.append(entry.with_platform(json.loads(_encoded(child.platform))))
        return found


@verb(
    "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    "Display an image manifest, or manifest list",
    arity=(1, 2),
)
@flag("--insecure", help="Allow communication with an insecure registry")
@flag("-v", "--verbose", help="Output additional info including layers and platform")
def inspect(session: Session, args: tuple[str, ...], insecure: bool, verbose: bool) -> None:
    lists = ManifestLists()
    if len(args) == 2:
        target, reference = _reference(args[0]), _reference(args[1])
        entry = lists.entry(target, reference)
        if entry is None:
            raise NotFound(f"no such manifest: {args[1]}")
        _print(entry.document() if verbose else json.loads(entry.data))
        return
    reference = _reference(args[0])
    if lists.exists(reference):
        entries = lists.entries(reference)
        if verbose:
            _print([entry.document() for entry in entries])
        else:
            print(index_of(entries)[1].decode())
        return
    _run(lambda registries: _inspect(registries, reference, verbose), insecure)


async def _inspect(registries: _Registries, reference: Reference, verbose: bool) -> None:
    from sampan.oci.image import INDEX_TYPES

    target, data = await registries.manifest(reference)
    if target.media_type in INDEX_TYPES:
        if verbose:
            _print([entry.document() for entry in await registries.entries(reference, data)])
        else:
            print(json.dumps(json.loads(data), indent=3, ensure_ascii=False))
    elif verbose:
        _print((await registries.entry(reference, target, data)).document())
    else:
        _print(json.loads(data))


@verb(
    "MANIFEST_LIST MANIFEST [MANIFEST...]",
    "Create a local manifest list for annotating and pushing to a registry",
    arity=(2, None),
)
@flag("-a", "--amend", help="Amend an existing manifest list")
@flag("--insecure", help="Allow communication with an insecure registry")
def create(session: Session, args: tuple[str, ...], amend: bool, insecure: bool) -> None:
    lists = ManifestLists()
    target, *manifests = [_reference(text) for text in args]
    if lists.exists(target) and not amend:
        raise InvalidParameter("refusing to amend an existing manifest list with no --amend flag")

    async def run(registries: _Registries) -> None:
        from sampan.oci.image import MANIFEST_TYPES

        found: list[tuple[Reference, Entry]] = []
        for reference in manifests:
            described, data = await registries.manifest(reference)
            if described.media_type not in MANIFEST_TYPES:
                raise InvalidParameter(f"{reference} is a manifest list")
            found.append((reference, await registries.entry(reference, described, data)))
        for reference, entry in found:  # all of them or none
            lists.put(target, reference, entry)

    _run(run, insecure)
    print(f"Created manifest list {target}")


@verb(
    "[OPTIONS] MANIFEST_LIST MANIFEST",
    "Add additional information to a local image manifest",
    arity=(2, 2),
)
@option("--arch", kind=STRING, default="", help="Set architecture")
@option("--os", kind=STRING, default="", help="Set operating system")
@listing("--os-features", kind=STRING, help="Set operating system feature")
@option("--os-version", kind=STRING, default="", help="Set operating system version")
@option("--variant", kind=STRING, default="", help="Set architecture variant")
def annotate(
    session: Session,
    args: tuple[str, ...],
    arch: str,
    os: str,
    os_features: tuple[str, ...],
    os_version: str,
    variant: str,
) -> None:
    from sampan.names.platform import KNOWN_ARCHITECTURES, KNOWN_OS

    lists = ManifestLists()
    target, reference = _reference(args[0]), _reference(args[1])
    entry = lists.entry(target, reference)
    if entry is None:
        raise NotFound(f"manifest for image {reference} does not exist in {target}")
    features = [each for text in os_features for each in text.split(",")]
    changed = entry.with_platform(
        {
            "architecture": arch,
            "os": os,
            "os.version": os_version,
            "os.features": features,
            "variant": variant,
        }
    )
    known = (
        changed.platform.get("architecture") in KNOWN_ARCHITECTURES and changed.platform.get("os") in KNOWN_OS
    )
    if not known:
        raise InvalidParameter(f"manifest entry for image has unsupported os/arch combination: {os}/{arch}")
    lists.put(target, reference, changed)


@verb("[OPTIONS] MANIFEST_LIST", "Push a manifest list to a repository", arity=(1, 1))
@flag("--insecure", help="Allow push to an insecure registry")
@flag("-p", "--purge", help="Remove the local manifest list after push")
def push(session: Session, args: tuple[str, ...], insecure: bool, purge: bool) -> None:
    lists = ManifestLists()
    target = _reference(args[0])
    entries = lists.entries(target)
    for entry in entries:
        source = parse_normalized(entry.reference)
        if source.domain != target.domain:
            raise InvalidParameter(
                f"cannot use source images from a different registry than the target image: {source.domain} != {target.domain}"
            )
        if not entry.platform.get("os") or not entry.platform.get("architecture"):
            raise InvalidParameter(
                f"manifest {entry.reference} must have an OS and Architecture to be pushed to a registry"
            )

    async def run(registries: _Registries) -> None:
        from sampan.names.digest import digest_of
        from sampan.registry.pushing import Pusher

        repository = registries.repository(target)
        for entry in entries:
            source = parse_normalized(entry.reference)
            if source.path != repository.path:
                await _carry(registries, source, repository, entry)
                print(f"Pushed ref {target.name}@{entry.digest} with digest: {entry.digest}", flush=True)
        media_type, data = index_of(entries)
        await Pusher(repository).manifest(data, media_type, target.tag)
        print(digest_of(data))

    _run(run, insecure)
    if purge:
        lists.remove(target)


async def _carry(registries: _Registries, source: Reference, repository: Repository, entry: Entry) -> None:
    """Give the list's repository an image of another one: its blobs by mount, else through here."""
    from sampan.oci.image import describe
    from sampan.registry.copying import RegistryDestination, RegistrySource, copy_image

    origin = RegistrySource(registries.repository(source), source._replace(tag="", digest=entry.digest))
    by_digest = Reference(repository.domain, repository.path, "", entry.digest)
    destination = RegistryDestination(repository, by_digest, mountable=source.path)
    target = describe(entry.data, entry.media_type)
    assert target.digest == entry.digest  # the store keeps the bytes that the digest was made of
    await copy_image(origin, destination, lambda what, descriptor: None)


@verb(
    "MANIFEST_LIST [MANIFEST_LIST...]",
    "Delete one or more manifest lists from local storage",
    arity=(1, None),
)
def rm(session: Session, args: tuple[str, ...]) -> None:
    lists, problems = ManifestLists(), []
    for text in args:
        try:
            lists.remove(_reference(text))
        except SampanError as error:
            problems.append(str(error))
    if problems:
        raise NotFound("\n".join(problems))


def _run(work: Any, insecure: bool) -> None:
    async def run() -> None:
        async with AsyncExitStack() as closing:
            await work(_Registries(closing, insecure))

    asyncio.run(run())


def _reference(text: str) -> Reference:
    return parse_normalized(text).with_default_tag()


def _print(document: object) -> None:
    print(json.dumps(document, indent="\t", ensure_ascii=False))


def _encoded(platform: object) -> bytes:
    import msgspec

    return msgspec.json.encode(platform if platform is not None else {})
