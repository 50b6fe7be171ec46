"""The frontends that the builder has itself: `dockerfile.v0`, and `gateway.v0` for Docker's own frontend images; others are run.

A frontend reads the client's files through the solver like any other source, and gives references that are made when somebody
looks.
"""

from __future__ import annotations

import csv
import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from sampan.attestations.captures import ImageSource
from sampan.attestations.predicates import Asked
from sampan.build import telling
from sampan.buildkit import frontend_images
from sampan.buildkit.contexts import ContextFiles
from sampan.buildkit.jobs import Job, Ref, Result
from sampan.dockerfile.checks import CHECK_ARGUMENT, Checks, checks_of, read_with
from sampan.dockerfile.stages import Dockerfile, read
from sampan.dockerfile.syntax import Syntax
from sampan.errors import InvalidParameter, NotSupported
from sampan.frontend.builtin import foreign_syntax, is_built_in
from sampan.frontend.interface import Base, Input, Lowered, Options
from sampan.frontend.lower import lower
from sampan.frontend.subrequests import Question, answer
from sampan.llb.state import Text, definition, loaded
from sampan.names import platform as platforms
from sampan.names.booleans import word_for
from sampan.names.platform import Platform
from sampan.names.reference import is_identifier, parse_normalized
from sampan.names.units import parse_size
from sampan.oci.image import ImageConfig, parse_config
from sampan.ops import layouts
from sampan.solver.progress import WarningEvent
from sampan.solver.steps import step

if TYPE_CHECKING:
    from sampan.llb import ops_pb2

_OWN = ("dockerfile.v0", "gateway.v0")
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
    if frontend == "gateway.v0" and not is_built_in(options.get("source", "")):
        result = await frontend_images.run(job, options, inputs)
    else:
        result = await _Dockerfile(job, options, inputs).result()
    for ref in result.given:
        if ref.asked is None:  # and not a result of a frontend that this one has asked
            ref.asked = Asked(frontend, options)
    return result


class _Dockerfile:
    """One request to `dockerfile.v0`. The options are those that BuildKit's has."""

    def __init__(
        self, job: Job, options: Mapping[str, str], inputs: Mapping[str, ops_pb2.Definition]
    ) -> None:
        self._job = job
        self._options = options
        self._inputs = inputs
        self._files = ContextFiles(job, options)

    async def result(self) -> Result:
        """Of this frontend, or of the image that the file asks for."""
        await self._files.open()
        data, own_ignore = await self._files.dockerfile()
        ignored = await self._files.ignored(own_ignore)
        syntax = self._syntax(data)
        if syntax is not None:
            return await self._by_image(syntax)
        if request := self._options.get("requestid"):
            return await self._answer(request, data, ignored)
        return await self._own(data, ignored)

    async def _answer(self, request: str, data: bytes, ignored: list[str]) -> Result:
        """To a question that is no build: about this machine's platform, as with BuildKit."""
        text = Text(self._files.name, data)
        options = self._lowering(ignored, platforms.local(), several=False)
        resolver = _Resolver(self._job, self._mode, self._files)
        question = Question(text.filename, data, options, resolver, lambda checks: self._warn(checks, text))
        return Result({"": None}, await answer(request, question))

    def _warn(self, checks: Checks, text: Text) -> None:
        for event in telling.findings(checks, text, self._files.brought_by):
            self._job.build.progress.publish(event)

    async def _by_image(self, syntax: Syntax) -> Result:
        """What another frontend makes of the same request. An archive is local directories to it."""
        options = {**self._options, "source": syntax.image, "cmdline": syntax.command}
        if self._files.is_archive_of_the_client:
            options.pop("context", None)
        return await frontend_images.run(self._job, options, self._inputs)

    async def _own(self, data: bytes, ignored: list[str]) -> Result:
        wanted = [platforms.parse(each) for each in self._options.get("platform", "").split(",") if each]
        several = len(wanted) > 1 or bool(word_for(self._options.get("multi-platform", "")))
        refs: dict[str, Ref | None] = {}
        metadata: dict[str, bytes] = {}
        entries = []
        for platform in dict.fromkeys(wanted or [platforms.local()]):
            if wanted.count(platform) > 1:
                short = f'Duplicate platform result requested "{platform}"'
                self._job.build.progress.publish(WarningEvent(vertex="", short=short))
            # What the checks say of one platform they would say of each.
            ref, config = await self._built(data, ignored, platform, several, checked=not refs)
            id = str(platform) if several else ""
            refs[id] = ref
            metadata[f"{CONFIG}/{id}" if id else CONFIG] = config
            described = {"architecture": platform.architecture, "os": platform.os}
            if platform.variant:
                described["variant"] = platform.variant
            entries.append({"ID": str(platform), "Platform": described})
        epoch = self._prefixed("build-arg:").get("SOURCE_DATE_EPOCH", "")
        if epoch.removeprefix("-").isdecimal():
            metadata[EPOCH] = epoch.encode()
        metadata[PLATFORMS] = msgspec.json.encode({"Platforms": entries})
        return Result(refs, metadata)

    def _syntax(self, data: bytes) -> Syntax | None:
        """That of another frontend, unless it was asked for already."""
        if "cmdline" in self._options:
            return None
        return foreign_syntax(data, self._prefixed("build-arg:"))

    async def _built(
        self, data: bytes, ignored: list[str], platform: Platform, several: bool, *, checked: bool
    ) -> tuple[Ref | None, bytes]:
        text = Text(self._files.name, data)
        lowered, file = await self._lowered(text, self._lowering(ignored, platform, several), checked)
        if checked:
            for event in telling.advice(file, lowered.unused, text, self._files.brought_by):
                self._job.build.progress.publish(event)
        made = definition(lowered.state, text)
        ref = await self._job.make(made) if made.ops else None
        return ref, msgspec.json.encode(lowered.image)

    async def _lowered(self, text: Text, options: Options, checked: bool) -> tuple[Lowered, Dockerfile]:
        resolver = _Resolver(self._job, self._mode, self._files)
        if not checked:
            file = read(text.data, text.filename)
            return await lower(file, options, resolver), file
        checks = checks_of(text.data, options.arguments.get(CHECK_ARGUMENT))
        try:
            file = read_with(checks, text.data, text.filename)
            return await lower(file, options, resolver, checks), file
        finally:
            self._warn(checks, text)

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
            contexts=self._prefixed("context:"),
            inputs={name: self._input(name, given) for name, given in self._inputs.items()},
            ignored=tuple(ignored),
            context=self._files.elsewhere,
            sessions=self._files.sessions,
            show_platform=several,
        )

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

    def __init__(self, job: Job, mode: str, files: ContextFiles) -> None:
        self._job = job
        self._fresh = mode == "pull"
        self._files = files

    async def image(self, name: str, platform: Platform) -> Base:
        finder = self._job.solving.operations.finder
        if is_identifier(name):
            image = await finder.find(name, platform, self._job.build, fresh=False)
            return Base(image.id, image.config, image.platform)
        full = str(parse_normalized(name).with_default_tag())
        reference = parse_normalized(await self._job.policies.image(full, self._job.solving.trees))
        async with step(self._job.build, f"[internal] load metadata for {reference}"):
            image = await finder.find(str(reference), platform, self._job.build, fresh=self._fresh)
        self._job.images.append(ImageSource(str(reference), platform, image.target.digest))
        pinned = reference if reference.digest else reference._replace(digest=image.target.digest)
        return Base(str(pinned), image.config, image.platform)

    async def layout(self, name: str, store: str, digest: str, platform: Platform) -> ImageConfig:
        job = self._job
        if job.session is None:
            raise InvalidParameter(f"oci-layout://{store} is with the client, and the build has no session")
        async with step(job.build, f"[context {name}] load metadata for {name}@{digest}"):
            source = job.session.image(store, digest)
            return (await layouts.find(source, platform, job.solving.trust)).config

    async def ignored(self, directory: str, hint: str) -> Sequence[str]:
        return await self._files.of_directory(
            directory, hint, f"[{hint.replace(':', ' ')}] load .dockerignore"
        )


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
