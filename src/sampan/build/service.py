"""Builds: from a client's archive to a named image, a step at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec

from sampan.build.cache import StepCache
from sampan.build.cachefrom import CacheImages
from sampan.build.context import Context, received, remove_leftovers
from sampan.build.copying import Copier
from sampan.build.graphs import Graphs, Surroundings
from sampan.build.interface import BuildRequest, Output
from sampan.build.running import Runner
from sampan.build.steps import Counter, StageBuilder, Tools
from sampan.build.upkeep import Kept, PruneRequest
from sampan.containers.service import ContainerService
from sampan.dockerfile.expand import expand
from sampan.dockerfile.instructions import Label
from sampan.dockerfile.source import DockerfileError, TextError
from sampan.dockerfile.stages import Dockerfile, Stage, read
from sampan.errors import InvalidParameter, NotFound
from sampan.frontend.builtin import foreign_syntax
from sampan.frontend.variables import Variables, platform_arguments
from sampan.images.interface import ResolvedImage
from sampan.images.parts import Collection
from sampan.images.service import ImageService
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import parse_normalized
from sampan.registry.credentials import Credentials
from sampan.store import Database
from sampan.zygote.workers import Workers

Foreign = Callable[[BuildRequest, Path], Awaitable[str]]
"""Builds from a directory in a way that is not ours; the image's id."""


class BuildService:
    """See the module. Make one with `open`; once containers are recovered, call `recover`."""

    def __init__(
        self,
        images: ImageService,
        containers: ContainerService,
        workers: Workers,
        cache: StepCache,
        directory: Path,
        graphs: Graphs,
    ) -> None:
        self.graphs = graphs
        self._images = images
        self._workers = workers
        self._cache = cache
        self._directory = directory
        self._runner = Runner(containers)
        self._copier = Copier(images, workers, directory)
        self._running = 0

    @classmethod
    async def open(
        cls,
        database: Database,
        images: ImageService,
        containers: ContainerService,
        workers: Workers,
        directory: Path,
        exec_directory: Path,
        collection: Collection,
    ) -> BuildService:
        """`directory` is the data root, `exec_directory` for what programs need while they run."""
        contexts = directory / "build"
        await asyncio.to_thread(contexts.mkdir, 0o700, True, True)
        surroundings = Surroundings(
            database, images, containers, workers, directory / "solver", exec_directory
        )
        graphs = await Graphs.open(surroundings, collection)
        return cls(images, containers, workers, StepCache(database, images.resolve), contexts, graphs)

    async def recover(self) -> None:
        """Remove what a killed engine's builds have left."""
        await asyncio.to_thread(remove_leftovers, self._directory)
        await self._runner.remove_leftovers()
        await self.graphs.recover()

    async def close(self) -> None:
        """Stop what goes on in the background."""
        await self.graphs.upkeep.close()

    @property
    def running(self) -> int:
        """How many builds run now: an engine started on demand stays while there are any."""
        return self._running

    async def build(
        self, request: BuildRequest, body: AsyncIterator[bytes], output: Output, foreign: Foreign
    ) -> str:
        """Build the image of a context's Dockerfile, name it, and return its id. `foreign` builds it when its `# syntax` is another
        frontend's.

        Raises `InvalidParameter` for a mistake in the Dockerfile or the archive, `StepFailed` for a command that fails, `NotFound`
        for a base, a file or a stage that is not there.
        """
        self._running += 1
        try:
            async with received(body, self._directory, self._workers) as context:
                if foreign_syntax(await context.read(request.dockerfile), request.arguments):
                    image = await self._images.resolve(await foreign(request, context.directory))
                else:
                    tools = await self._tools(request, context, output)
                    image = await _Build(tools, request, output).run()
            output.image(image.id)
            output.stream(f"Successfully built {image.id.removeprefix('sha256:')[:12]}\n")
            for tag in request.tags:
                named = tag.with_default_tag()
                await self._images.tag(image.id, named.familiar_name(), named.tag)
                output.stream(f"Successfully tagged {named.familiar()}\n")
            return image.id
        finally:
            self._running -= 1

    async def prune(self, request: PruneRequest) -> list[Kept]:
        """Let go of results; what went. With `all`, classic steps are forgotten too: their images are `docker image prune`'s."""
        if request.all and not request.filters:
            await self._cache.clear()
        return await self.graphs.upkeep.prune(request)

    async def _tools(self, request: BuildRequest, context: Context, output: Output) -> Tools:
        async def find(name: str, platform: Platform | None) -> ResolvedImage:
            wanted = platform or request.platform
            if not request.pull:
                try:
                    return await self._images.resolve(name, wanted)
                except NotFound:
                    pass
            reference = parse_normalized(name)
            credentials = request.credentials.get(reference.domain, Credentials())
            await self._images.pull(reference.with_default_tag(), wanted, credentials, output.progress)
            return await self._images.resolve(name, wanted)

        cache_images = await CacheImages.named(request.cache_from, self._images.resolve)
        return Tools(self._images, self._runner, self._copier, self._cache, context, find, cache_images)


class _Build:
    """One build."""

    def __init__(self, tools: Tools, request: BuildRequest, output: Output) -> None:
        self._tools = tools
        self._request = request
        self._output = output
        self._consumed: set[str] = set()

    async def run(self) -> ResolvedImage:
        request = self._request
        try:
            file = read(await self._tools.context.read(request.dockerfile), request.dockerfile)
        except DockerfileError as error:
            if error.place and not isinstance(error, TextError):
                raise
            raise InvalidParameter(f"failed to parse Dockerfile: {error}") from None
        await self._tools.context.forget_ignored(request.dockerfile)
        target = file.stage(request.target)
        self._warn_of_gaps(file)
        stages = _needed(file, target)
        total = sum(1 + len(stage.instructions) for stage in stages) + bool(request.labels)
        counter = Counter(total + len(file.arguments), self._output)
        for argument in file.arguments:
            counter.announce(argument)
        outer = self._outer_arguments(file)
        done: dict[int, ResolvedImage] = {}
        for stage in stages:
            done[stage.index] = await self._stage(file, stage, outer, counter, done, last=stage is target)
        unused = sorted(request.arguments.keys() - self._consumed)
        if unused:
            self._output.stream(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        return done[target.index]

    def _warn_of_gaps(self, file: Dockerfile) -> None:
        """The one thing about a Dockerfile that dockerd's classic builder warns of."""
        lines = [f"Empty continuation line found in: {text}" for text, _ in file.gaps]
        if lines:
            lines.append("Empty continuation lines will become errors in a future release.")
        for line in lines:
            self._output.stream(f"\x1b[91m[WARNING]: {line}\n\x1b[0m")

    async def _stage(
        self,
        file: Dockerfile,
        stage: Stage,
        outer: dict[str, str],
        counter: Counter,
        done: dict[int, ResolvedImage],
        *,
        last: bool,
    ) -> ResolvedImage:
        request = self._request
        variables = Variables(request.arguments, outer)
        builder = StageBuilder(self._tools, file, stage, variables, request, self._output, counter, done)
        base = expand(stage.origin.base, outer.get, escape=file.directives.escape)
        platform = expand(stage.origin.platform, outer.get, escape=file.directives.escape)
        image = await builder.build(base, platforms.parse(platform) if platform else None)
        if last and request.labels:
            pairs = tuple((_quoted(name), _quoted(value)) for name, value in request.labels.items())
            text = " ".join(f"{name}={value}" for name, value in request.labels.items())
            label = Label(stage.origin.place, f"LABEL {text}", pairs)
            counter.announce(label)
            image = await builder.labelled(label)
        self._consumed |= variables.consumed
        return image

    def _outer_arguments(self, file: Dockerfile) -> dict[str, str]:
        """Values of the `ARG`s before the first `FROM`, and of those that are always there."""
        host = platforms.local()
        known = platform_arguments(host, self._request.platform or host, self._request.target)
        variables = Variables(self._request.arguments, known)
        values = dict(known)
        for instruction in file.arguments:
            for name, default in instruction.arguments:
                value = (
                    None if default is None else expand(default, values.get, escape=file.directives.escape)
                )
                variables.declare(name, value)
                values.update(variables.lookup(None))
        self._consumed |= variables.consumed
        return values


def _needed(file: Dockerfile, target: Stage) -> list[Stage]:
    """The stages to build; all up to the target when a base's name is known only once its variables are."""
    before = file.stages[: target.index + 1]
    return list(before) if any("$" in stage.origin.base for stage in before) else file.needed(target)


def _quoted(text: str) -> str:
    """As a word of a Dockerfile that means itself."""
    return (
        "'" + text.replace("'", "'\"'\"'") + "'" if text.isprintable() else msgspec.json.encode(text).decode()
    )
