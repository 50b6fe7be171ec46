"""The frontends that the builder has itself: `dockerfile.v0`, and `gateway.v0` for Docker's own frontend images; others are run.

A frontend reads the client's files through the solver like any other source, and gives references that are made when somebody
looks.
"""

from __future__ import annotations

import asyncio
import csv
import json
import posixpath
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sampan.build.context import received
from sampan.buildkit import frontend_images, trees
from sampan.buildkit.jobs import Job, Ref, Result
from sampan.buildkit.session import WithArchive
from sampan.buildkit.steps import step
from sampan.dockerfile.ignore import patterns_of
from sampan.dockerfile.stages import read
from sampan.dockerfile.syntax import Syntax, detect_syntax
from sampan.errors import InvalidParameter, NotFound, NotSupported
from sampan.frontend.interface import CONTEXT, DOCKERFILE, Base, Input, Options
from sampan.frontend.lower import lower, remote
from sampan.frontend.remote import git_reference
from sampan.llb.state import Meta, State, Text, definition, loaded, local
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import is_identifier, parse_normalized
from sampan.names.units import parse_size
from sampan.oci.image import parse_config
from sampan.solver.progress import WarningEvent

if TYPE_CHECKING:
    from sampan.llb import ops_pb2

_OWN = ("dockerfile.v0", "gateway.v0")
_DOCKERS = ("docker/dockerfile", "docker/dockerfile-upstream")
_UPLOADS = ("http://buildkit-session/", "https://buildkit-session/")
"""URLs that mean an upload of the client's session."""
CONFIG = "containerimage.config"
EPOCH = "source.date.epoch"
"""Of a result: the time (seconds) that its images say they were made at."""
PLATFORMS = "refs.platforms"


async def run(
    job: Job, frontend: str, options: Mapping[str, str], inputs: Mapping[str, ops_pb2.Definition]
) -> Result:
    """What the frontend makes of the options. Raises `DockerfileError`, `NotSupported` for another, `SampanError`, and what a
    frontend's image says."""
    if frontend not in _OWN:
        raise NotSupported(
            f"failed to find a frontend {frontend!r}: this builder has its own for Dockerfiles only"
        )
    if frontend == "gateway.v0" and not _is_ours(options.get("source", "")):
        return await frontend_images.run(job, options, inputs)
    return await _Dockerfile(job, options, inputs).result()


def _is_ours(source: str) -> bool:
    """Whether that image's work is done by the frontend here."""
    return bool(source) and parse_normalized(source).familiar_name() in _DOCKERS


class _Dockerfile:
    """One request to `dockerfile.v0`. The options are those that BuildKit's has."""

    def __init__(
        self, job: Job, options: Mapping[str, str], inputs: Mapping[str, ops_pb2.Definition]
    ) -> None:
        self._job = job
        self._options = options
        self._inputs = inputs
        self._name = options.get("filename") or "Dockerfile"
        self._remote = options.get("context", "")

    async def result(self) -> Result:
        """Of this frontend, or of the image that the file asks for."""
        uploaded = await self._uploaded()
        data, own_ignore = await self._dockerfile()
        if uploaded is not None:
            await self._forget_ignored(uploaded, own_ignore)
        syntax = self._syntax(data)
        if syntax is not None and not _is_ours(syntax.image):
            return await self._by_image(syntax)
        if "requestid" in self._options:
            raise NotSupported(
                f"request {self._options['requestid']!r} to the Dockerfile frontend is not in this version of Sampan"
            )
        return await self._own(data, await self._patterns(own_ignore))

    async def _by_image(self, syntax: Syntax) -> Result:
        """What another frontend makes of the same request. An archive is local directories to it."""
        options = {**self._options, "source": syntax.image, "cmdline": syntax.command}
        if not self._remote:
            options.pop("context", None)
        return await frontend_images.run(self._job, options, self._inputs)

    async def _forget_ignored(self, directory: Path, own_ignore: str | None) -> None:
        patterns = await self._patterns(own_ignore)
        if patterns:
            arguments = {"directory": str(directory), "patterns": patterns}
            await self._job.solving.trees.run("sampan.build.ignore_jobs:forget_job", arguments)

    async def _patterns(self, own_ignore: str | None) -> list[str]:
        return patterns_of(own_ignore) if own_ignore is not None else await self._ignored()

    async def _own(self, data: bytes, ignored: list[str]) -> Result:
        wanted = [platforms.parse(each) for each in self._options.get("platform", "").split(",") if each]
        several = len(wanted) > 1 or self._options.get("multi-platform") in ("1", "true")
        refs: dict[str, Ref | None] = {}
        metadata: dict[str, bytes] = {}
        entries = []
        for platform in wanted or [platforms.local()]:
            ref, config = await self._built(data, ignored, platform, several)
            id = str(platform) if several else ""
            refs[id] = ref
            metadata[f"{CONFIG}/{id}" if id else CONFIG] = config
            described = {"architecture": platform.architecture, "os": platform.os}
            if platform.variant:
                described["variant"] = platform.variant
            entries.append({"ID": str(platform), "Platform": described})
        if epoch := self._prefixed("build-arg:").get("SOURCE_DATE_EPOCH"):
            metadata[EPOCH] = epoch.encode()
        metadata[PLATFORMS] = msgspec.json.encode({"Platforms": entries})
        return Result(refs, metadata)

    def _syntax(self, data: bytes) -> Syntax | None:
        """Unless it was asked for already."""
        if "cmdline" in self._options:
            return None
        given = self._options.get("build-arg:BUILDKIT_SYNTAX", "").strip()
        return Syntax(given.partition(" ")[0], given, 0) if given else detect_syntax(data)

    async def _built(
        self, data: bytes, ignored: list[str], platform: Platform, several: bool
    ) -> tuple[Ref | None, bytes]:
        name = posixpath.basename(self._name)
        lowered = await lower(
            read(data, name), self._lowering(ignored, platform, several), _Resolver(self._job, self._mode)
        )
        if lowered.unused:
            short = f"One or more build-args [{' '.join(lowered.unused)}] were not consumed"
            self._job.build.progress.publish(WarningEvent(vertex="", short=short))
        made = definition(lowered.state, Text(name, data))
        ref = await self._job.make(made) if made.ops else None
        return ref, msgspec.json.encode(lowered.image)

    # -- the client's files

    async def _uploaded(self) -> Path | None:
        """The directory of an archive that the client offers as its context; every local source means it from now on."""
        job = self._job
        if not self._remote.startswith(_UPLOADS) or job.session is None:
            return None
        until_end = AsyncExitStack()
        job.build.at_end(until_end.aclose)
        archive = received(job.session.upload(self._remote), job.uploads, job.solving.trees.workers)
        context = await until_end.enter_async_context(archive)
        job.build.session = WithArchive(job.session, context.directory)
        self._remote = ""
        return context.directory

    async def _dockerfile(self) -> tuple[bytes, str | None]:
        """The Dockerfile, and the ignore file of its own."""
        ignore = f"{self._name}.dockerignore"
        title = f"[internal] load build definition from {posixpath.basename(self._name)}"
        key = self._options.get("dockerfilekey", DOCKERFILE)
        if self._remote and "dockerfilekey" not in self._options:
            state = self._repository()
        else:
            state = self._files(key, DOCKERFILE, [self._name, ignore], title)
        async with self._opened(state) as root:
            try:
                data = await asyncio.to_thread(trees.read_file, root, self._name)
            except NotFound as error:
                raise InvalidParameter(f"failed to read dockerfile: {error}") from None
            return data, await _text_if_there(root, ignore)

    async def _ignored(self) -> list[str]:
        key = self._options.get("contextkey", CONTEXT)
        if self._remote:
            state = self._repository()
        else:
            state = self._files(
                key, f"{key}-.dockerignore", [".dockerignore"], "[internal] load .dockerignore"
            )
        async with self._opened(state) as root:
            text = await _text_if_there(root, ".dockerignore")
        return patterns_of(text) if text else []

    def _files(self, key: str, hint: str, paths: list[str], title: str) -> State:
        """Some files of a directory of the client's."""
        attributes = {
            "local.followpaths": json.dumps(paths),
            "local.sharedkeyhint": hint,
            "local.differ": "none",
            **self._session(key),
        }
        return local(key, attributes, Meta(name=title))

    def _repository(self) -> State:
        """The context that is not the client's. Raises `NotSupported` for an archive: only repositories are files as they are."""
        if git_reference(self._remote) is None:
            raise NotSupported(
                f"a build context from {self._remote} is not in this version of Sampan's builder"
            )
        return remote(self._remote, Meta(name="[internal] load git source " + self._remote))

    @asynccontextmanager
    async def _opened(self, state: State) -> AsyncIterator[int]:
        tree = await (await self._job.make(definition(state))).tree()
        async with trees.opened(self._job.solving.trees, tree) as root:
            yield root

    def _session(self, key: str) -> dict[str, str]:
        id = self._options.get(f"local-sessionid:{key}", "")
        return {"local.session": id} if id else {}

    # -- options

    @property
    def _mode(self) -> str:
        return self._options.get("image-resolve-mode", "default")

    def _lowering(self, ignored: list[str], platform: Platform, several: bool) -> Options:
        given = self._options
        no_cache = given.get("no-cache")
        return Options(
            platform=platform,
            build_platform=platforms.local(),
            target=given.get("target", ""),
            arguments=self._prefixed("build-arg:"),
            labels=self._prefixed("label:"),
            no_cache=no_cache == "",
            no_cache_stages=frozenset(each.strip() for each in no_cache.split(","))
            if no_cache
            else frozenset(),
            network=_network(given.get("force-network-mode", "")),
            extra_hosts=_hosts(given.get("add-hosts", "")),
            shm_size=parse_size(given["shm-size"]) if given.get("shm-size") else 0,
            ulimits=_ulimits(given.get("ulimit", "")),
            cgroup_parent=given.get("cgroup-parent", ""),
            resolve=self._mode,
            contexts=self._contexts(),
            inputs={name: self._input(name, given) for name, given in self._inputs.items()},
            ignored=tuple(ignored),
            context=self._remote,
            show_platform=several,
        )

    def _contexts(self) -> dict[str, str]:
        contexts = self._prefixed("context:")
        return {name.partition("::")[0]: value for name, value in contexts.items()}

    def _input(self, name: str, given: ops_pb2.Definition) -> Input:
        """A definition that came, with the image's configuration beside it."""
        told = json.loads(self._options.get(f"input-metadata:{name}") or "{}")
        config = told.get(CONFIG) if isinstance(told, dict) else None
        return Input(loaded(given), parse_config(b64decode(config)) if config else None)

    def _prefixed(self, prefix: str) -> dict[str, str]:
        return {
            key.removeprefix(prefix): value for key, value in self._options.items() if key.startswith(prefix)
        }


class _Resolver:
    """`frontend.interface.Resolver` for one build."""

    def __init__(self, job: Job, mode: str) -> None:
        self._job = job
        self._fresh = mode == "pull"

    async def image(self, name: str, platform: Platform) -> Base:
        finder = self._job.solving.operations.finder
        if is_identifier(name):
            image = await finder.find(name, platform, self._job.build, fresh=False)
            return Base(image.id, image.config, image.platform)
        full = str(parse_normalized(name).with_default_tag())
        reference = parse_normalized(await self._job.policies.image(full, self._job.solving.trees))
        async with step(self._job.build, f"[internal] load metadata for {reference}"):
            image = await finder.find(str(reference), platform, self._job.build, fresh=self._fresh)
        pinned = reference if reference.digest else reference._replace(digest=image.target.digest)
        return Base(str(pinned), image.config, image.platform)


async def _text_if_there(root: int, path: str) -> str | None:
    try:
        return (await asyncio.to_thread(trees.read_file, root, path)).decode(errors="surrogateescape")
    except NotFound:
        return None


def _network(mode: str) -> str:
    if mode in ("", "default", "sandbox"):
        return ""
    if mode not in ("host", "none"):
        raise InvalidParameter(f"unsupported network mode {mode!r}")
    return mode


def _hosts(text: str) -> tuple[tuple[str, str], ...]:
    """`name=address` separated by commas, quoted as CSV."""
    hosts = []
    for entry in next(csv.reader([text]), []):
        name, separator, address = entry.partition("=")
        if not separator or not name or not address:
            raise InvalidParameter(f"invalid host {entry}")
        hosts.append((name, address))
    return tuple(hosts)


def _ulimits(text: str) -> tuple[tuple[str, int, int], ...]:
    """`nofile=1024:2048` separated by commas."""
    limits = []
    for entry in next(csv.reader([text]), []):
        name, _, values = entry.partition("=")
        soft, _, hard = values.partition(":")
        try:
            limits.append((name, int(soft), int(hard or soft)))
        except ValueError:
            raise InvalidParameter(f"invalid ulimit {entry!r}") from None
    return tuple(limits)
