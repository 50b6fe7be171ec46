"""The solver put together, and a Dockerfile built through it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from sampan.build import telling
from sampan.build.context import IGNORE_FILE, Context
from sampan.build.graphs import FETCHED, Surroundings
from sampan.build.interface import BuildRequest
from sampan.dockerfile.checks import CHECK_ARGUMENT, checks_of, read_with
from sampan.dockerfile.ignore import patterns_of
from sampan.engineapi.container import HostConfig
from sampan.errors import NotSupported, SampanError
from sampan.exporters.archives import ArchiveExporter
from sampan.exporters.cache import CacheExporter
from sampan.exporters.forms import image_form
from sampan.exporters.images import ImageExporter
from sampan.exporters.naming import naming
from sampan.exporters.results import single
from sampan.exporters.writing import ImageWriter
from sampan.frontend.interface import Base, Lowered, Options
from sampan.frontend.lower import lower
from sampan.llb import entitlements
from sampan.llb.graph import load
from sampan.llb.state import Text, definition
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import is_identifier, parse_normalized
from sampan.oci.image import ImageConfig
from sampan.ops.caches import Caches
from sampan.ops.digests import TreeDigester
from sampan.ops.directories import Directories
from sampan.ops.layering import Layering
from sampan.ops.merge import LayerTools
from sampan.ops.operations import Tools, VertexOperations
from sampan.ops.run import RunTools
from sampan.ops.trees import Trees
from sampan.solver.build import Build
from sampan.solver.keeping import Keeping
from sampan.solver.progress import Event
from sampan.solver.sessions import Session
from sampan.solver.solver import Solver
from sampan.solver.steps import step

Follow = Callable[[Sequence[Event]], None]
"""Told what a build tells."""


class Solving:
    """One per engine."""

    def __init__(self, surroundings: Surroundings, keeping: Keeping, directories: Directories) -> None:
        images, containers = surroundings.images, surroundings.containers
        content, snapshots = images.parts.content, images.parts.snapshots
        self._images = images
        self._workers = surroundings.workers
        # Nothing that is copied from may lie below what is mounted on.
        anchor = surroundings.directory / "anchor"
        anchor.mkdir(mode=0o700, exist_ok=True)
        self.trees = Trees(snapshots, content.leases, surroundings.workers, anchor)
        self.run = RunTools(
            self.trees,
            Caches(directories, self.trees),
            containers.programs,
            surroundings.exec_directory,
        )
        self.layering = Layering(self.trees, content, keeping.layers)
        merge = LayerTools(self.trees, content, self.layering, keeping.layers)
        fetched = surroundings.directory / FETCHED
        self.operations = VertexOperations(
            Tools(self.trees, images, keeping.layers, directories, self.run, merge, fetched)
        )
        self.solver = Solver(keeping, content, snapshots, self.operations, TreeDigester(self.trees))
        writer = ImageWriter(images.parts, self.layering)
        self.exporter = ImageExporter(images, writer, keeping.records)
        self.archives = ArchiveExporter(writer, images.parts)
        self.cache = CacheExporter(self.layering, content)
        self.layers = keeping.layers
        self.trust = images.trust

    async def build(self, request: BuildRequest, context: Context, session: Session, follow: Follow) -> str:
        """Build an image of a context's Dockerfile and name it; its id. Raises `VertexFailed`, `DockerfileError`, `SampanError`."""
        async with self.solver.build(session) as build:
            build.settings["host_config"] = lambda: _copy(request.host_config)
            following = asyncio.create_task(_follow(build, follow))
            try:
                lowered, text = await self._lowered(request, context, build)
                graph = load(definition(lowered.state, text))
                entitlements.check(graph, _allowed(request))
                tree = await build.solve(graph)
                epoch = _epoch(request)
                results = single(tree, lowered.image, request.platform or platforms.local(), epoch)
                named = naming(request.output)._replace(
                    names=[tag.with_default_tag() for tag in request.tags]
                )
                form = image_form(request.output)
                written = await self.exporter.export(results, named, build.lease, form)
                return written.target.digest
            finally:
                build.progress.close()
                await following

    async def _lowered(self, request: BuildRequest, context: Context, build: Build) -> tuple[Lowered, Text]:
        name = Path(request.dockerfile).name
        async with step(build, f"[internal] load build definition from {name}") as loading:
            text = Text(name, await context.read(request.dockerfile))
        ignored = await self._ignored(context, request.dockerfile)
        checks = checks_of(text.data, request.arguments.get(CHECK_ARGUMENT))
        try:
            file = read_with(checks, text.data, name)
            lowered = await lower(file, _options(request, ignored), _Resolver(self, build, request), checks)
        finally:
            for event in telling.findings(checks, text, loading.digest):
                build.progress.publish(event)
        for event in telling.advice(file, lowered.unused, text, loading.digest):
            build.progress.publish(event)
        return lowered, text

    async def _ignored(self, context: Context, dockerfile: str) -> list[str]:
        """The patterns of the context's ignore file; what they exclude is removed from it."""
        for name in (f"{dockerfile}.dockerignore", IGNORE_FILE):
            try:
                patterns = patterns_of((await context.read(name)).decode(errors="surrogateescape"))
            except SampanError:
                continue
            if patterns:
                arguments = {"directory": str(context.directory), "patterns": patterns}
                await self._workers.run("sampan.build.ignore_jobs:forget_job", arguments)
            return patterns
        return []


class _Resolver:
    """`frontend.interface.Resolver` for one build."""

    def __init__(self, solving: Solving, build: Build, request: BuildRequest) -> None:
        self._solving = solving
        self._build = build
        self._fresh = request.pull

    async def image(self, name: str, platform: Platform) -> Base:
        finder = self._solving.operations.finder
        image = await finder.find(name, platform, self._build, fresh=self._fresh)
        if name in image.id or is_identifier(name):
            return Base(image.id, image.config, image.platform)
        reference = parse_normalized(name).with_default_tag()
        pinned = reference if reference.digest else reference._replace(digest=image.target.digest)
        return Base(str(pinned), image.config, image.platform)

    async def layout(self, name: str, store: str, digest: str, platform: Platform) -> ImageConfig:
        raise NotSupported(f"{name}: an archive comes with no content store")

    async def ignored(self, directory: str, hint: str) -> Sequence[str]:
        return ()


async def _follow(build: Build, follow: Follow) -> None:
    async for events in build.progress.follow():
        follow(events)


def _allowed(request: BuildRequest) -> frozenset[str]:
    """The host's network for who asks for it by a parameter, as dockerd; there is none for more."""
    return frozenset(("network.host",) if request.host_config.network_mode == "host" else ())


def _options(request: BuildRequest, ignored: Sequence[str]) -> Options:
    host = platforms.local()
    config = request.host_config
    return Options(
        platform=request.platform or host,
        build_platform=host,
        target=request.target,
        arguments=request.arguments,
        labels=request.labels,
        no_cache=not request.use_cache,
        no_cache_stages=request.anew,
        network=config.network_mode if config.network_mode in ("host", "none") else "",
        shm_size=config.shm_size,
        resolve="pull" if request.pull else "default",
        ignored=tuple(ignored),
    )


def _copy(host: HostConfig) -> HostConfig:
    return msgspec.convert(msgspec.to_builtins(host), HostConfig)


def _epoch(request: BuildRequest) -> int | None:
    text = request.arguments.get("SOURCE_DATE_EPOCH") or ""
    return int(text) if text.isdecimal() else None
