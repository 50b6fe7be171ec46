"""`image copy`: between registries, OCI layouts, archives and the engine's store, every platform, in the form that they have."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sampan.cli.command import flag, listing, option, verb
from sampan.cli.imageplaces import ONE_PLATFORM, Place, Places
from sampan.cli.values import STRING
from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from sampan.cli.session import Session
    from sampan.oci.image import Descriptor


@verb(
    "[OPTIONS] SRC DST",
    "Copy an image between registries, OCI layouts, archives and the engine's store",
    arity=(2, 2),
    aliases=("image copy",),
    examples="Places: NAME or docker://NAME, oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME],\n"
    "dir:DIRECTORY, store:NAME or docker-daemon:NAME (the engine that -H names)\n"
    "$ sampan image copy registry.example.com/app:1 oci:./app:1\n"
    "$ sampan image copy oci-archive:app.tar other.example.com/app:1\n"
    "$ sampan image copy store:app:1 registry.example.com/app:1",
)
@option(
    "-f", "--format", kind=STRING, default="", help="oci: manifests in OCI's media types (another digest)"
)
@listing(
    "--insecure-registry",
    kind=STRING,
    help="Registry that may speak plain HTTP or show an unknown certificate",
)
@option("--platform", kind=STRING, default="", help="Copy one platform alone instead of all")
@flag("-q", "--quiet", help="Print the digest only")
def copy(
    session: Session,
    args: tuple[str, ...],
    format: str,
    insecure_registry: tuple[str, ...],
    platform: str,
    quiet: bool,
) -> None:
    from sampan.names.platform import local, parse

    if format not in ("", "oci"):
        raise InvalidParameter(
            f"unknown form {format!r}: there is oci; without one, manifests stay as they are"
        )
    origin, goal = Place.of(args[0]), Place.of(args[1])
    wanted = parse(platform) if platform else local() if goal.kind in ONE_PLATFORM else None
    places = Places(session, insecure_registry)

    async def run() -> Descriptor:
        from sampan.registry.copying import OfPlatform, Source, copy_image
        from sampan.registry.ociform import OciForm

        async with places.stack:
            source: Source = await places.source(origin)
            destination = await places.destination(origin, goal, same=not format)
            if wanted is not None:
                source = OfPlatform(source, wanted)
            if format:
                source = OciForm(source)
            target = await copy_image(source, destination, tell)
            places.finish()
            return target

    def tell(what: str, descriptor: Descriptor) -> None:
        if not quiet:
            print(f"{descriptor.digest.rpartition(':')[2][:12]}: {what}")

    target = asyncio.run(run())
    print(target.digest if quiet else f"{args[1]}: digest: {target.digest}")
