"""Files that are named beside a Dockerfile: the context itself, and named contexts (`--build-context`, bake's `contexts`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter
from sampan.frontend.copying import INTERNAL, git_source
from sampan.frontend.interface import CONTEXT, Options, Resolver
from sampan.frontend.remote import git_reference
from sampan.frontend.stage import StageState, llb_platform
from sampan.llb.state import Meta, State, image, local, source
from sampan.names.digest import parse_digest
from sampan.names.platform import Platform
from sampan.names.reference import parse_normalized

if TYPE_CHECKING:
    from sampan.oci.image import ImageConfig

SCRATCH = "scratch"
FETCHED_NAME = "context"
"""What a context of the web is called in its tree."""


def client_files(options: Options, wanted: Sequence[str]) -> State:
    """The context: files of the client's, those paths when some are wanted, or what takes their place."""
    if options.context is not None:
        return options.context
    attributes = {"local.sharedkeyhint": CONTEXT, **_session(options, CONTEXT)}
    if options.ignored:
        attributes["local.excludepatterns"] = json.dumps(list(options.ignored))
    if wanted:
        attributes["local.followpaths"] = json.dumps([each.lstrip("/") for each in wanted])
    return local(CONTEXT, attributes, Meta(name=INTERNAL + "load build context"))


def remote(url: str, meta: Meta) -> State:
    """What a URL of a repository or a file brings; the file is called `FETCHED_NAME`."""
    reference = git_reference(url)
    if reference is not None:
        return git_source(reference, {"git.fullurl": reference.remote}, meta)
    return source(url, {"http.filename": FETCHED_NAME}, meta)


class NamedContexts:
    """Those of one build. They come before stages and images of the same name."""

    def __init__(self, options: Options, resolver: Resolver) -> None:
        self._options = options
        self._resolver = resolver

    def find(self, name: str, platform: Platform) -> str | None:
        """What a name stands for: `docker-image://…`, `local:…`; one for a platform before one for all."""
        contexts = self._options.contexts
        if not contexts or name.lower() in ("", SCRATCH, CONTEXT):
            return None
        for each in (name, _familiar(name)):
            for key in (f"{each}::{platform}", each):
                if key in contexts:
                    return contexts[key]
        return None

    async def begin(self, stage: StageState, name: str, given: str) -> None:
        """`FROM` it: its files, and the configuration where it is an image."""
        kind, _, rest = given.partition(":")
        rest = rest.removeprefix("//")
        if (kind, rest) == ("docker-image", SCRATCH):
            stage.begin_empty()
            return
        if kind == "docker-image":
            await begin_with_image(stage, rest, self._resolver, self._options)
            return
        stage.meta_of_base(name)
        if kind == "oci-layout":
            stage.begin_with(*await self._layout(name, rest, stage.platform))
            return
        found = self._options.input(name, given)
        if found is not None and found.config is not None:
            stage.begin_with(found.state, found.config)
            return
        stage.state = await self.files(name, given, stage.platform)

    async def files(self, name: str, given: str, platform: Platform) -> State | None:
        """Its files alone."""
        found = self._options.input(name, given)
        if found is not None:
            return found.state
        kind, _, rest = given.partition(":")
        if kind == "oci-layout":
            return (await self._layout(name, rest.removeprefix("//"), platform))[0]
        if kind == "local":
            return await self._local(name, rest)
        if kind != "docker-image":
            return remote(given, Meta(name=f"[context {name}] {given}"))
        reference = rest.removeprefix("//")
        if reference == SCRATCH:
            return None
        resolved = await self._resolver.image(reference, platform)
        meta = Meta(name=f"[context {name}] {resolved.reference}")
        return image(resolved.reference, platform=llb_platform(platform), meta=meta)

    async def _local(self, name: str, directory: str) -> State:
        """A directory of the client's without what its own ignore file names."""
        attributes = {"local.sharedkeyhint": f"context:{name}", **_session(self._options, directory)}
        if ignored := await self._resolver.ignored(directory, f"context:{name}"):
            attributes["local.excludepatterns"] = json.dumps(list(ignored))
        return local(directory, attributes, Meta(name=f"[context {name}] load from client"))

    async def _layout(self, name: str, given: str, platform: Platform) -> tuple[State, ImageConfig]:
        """An image in a store of the client's: `STORE@DIGEST`; a tag between them says nothing here."""
        named, at, digest = given.partition("@")
        directory, slash, last = named.rpartition("/")
        store = directory + slash + last.partition(":")[0]
        if not store or not at:
            raise InvalidParameter(f'oci-layout reference "{given}" has no digest')
        digest = parse_digest(digest)
        config = await self._resolver.layout(name, store, digest, platform)
        attributes = {"oci.session": self._options.session(""), "oci.store": store}
        reference = parse_normalized(name)._replace(tag="", digest=digest)
        meta = Meta(name=f"[context {name}] OCI load from client")
        identifier = f"oci-layout://{reference}"
        return source(identifier, attributes, meta, llb_platform(platform)), config


async def begin_with_image(stage: StageState, name: str, resolver: Resolver, options: Options) -> None:
    """`FROM` an image."""
    found = await resolver.image(name, stage.platform)
    meta = stage.meta_of_base(found.reference)
    brought = image(
        found.reference, platform=llb_platform(stage.platform), resolve=options.resolve, meta=meta
    )
    stage.begin_with(brought if found.config.rootfs.diff_ids else None, found.config)


def _session(options: Options, directory: str) -> dict[str, str]:
    """Which client a directory is of. Graphs go on to other builds (bake's `target:`), where the session is another."""
    id = options.session(directory)
    return {"local.session": id} if id else {}


def _familiar(name: str) -> str:
    """As clients write a name of a context that takes an image's place: `busybox` for `docker.io/library/busybox:latest`."""
    try:
        return parse_normalized(name).familiar().removesuffix(":latest")
    except InvalidParameter:
        return name
