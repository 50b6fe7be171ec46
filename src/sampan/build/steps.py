"""One stage, instruction by instruction: each takes an image and gives the next.

A step that was made before, from the same image with the same inputs, is taken from the cache. What identifies a step is what
it
would
do: for `RUN` the command and the arguments that it sees, for `COPY` and `ADD` the files' digest, for the others the
configuration they give.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from sampan.build.cache import StepCache
from sampan.build.cachefrom import CacheImages
from sampan.build.context import Context
from sampan.build.copying import Copier, CopyStep
from sampan.build.fetching import fetched_file, is_remote
from sampan.build.interface import BuildRequest, Output
from sampan.build.running import Runner
from sampan.dockerfile.configure import DEFAULT_SHELL, configure, joined
from sampan.dockerfile.expand import Lookup, expand
from sampan.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Instruction,
    Maintainer,
    Run,
    Shell,
    Volume,
    Workdir,
)
from sampan.dockerfile.parse import heredoc_of, parse
from sampan.dockerfile.source import DockerfileError, source_of
from sampan.dockerfile.stages import Dockerfile, Stage
from sampan.dockerfile.typed import typed
from sampan.errors import InvalidParameter, NotSupported
from sampan.frontend.variables import Variables
from sampan.images.committing import NewImage
from sampan.images.interface import CommitRequest, ResolvedImage
from sampan.images.service import ImageService
from sampan.names import platform as platforms
from sampan.names.names import new_id
from sampan.names.platform import Platform
from sampan.names.times import format_rfc3339_nano
from sampan.oci.image import ContainerConfig, History, ImageConfig, RootFS

SCRATCH = "scratch"


class Tools(NamedTuple):
    """What every stage of a build works with."""

    images: ImageService
    runner: Runner
    copier: Copier
    cache: StepCache
    context: Context
    find_image: Callable[[str, Platform | None], Awaitable[ResolvedImage]]
    """An image by name; pulled when it is not here, or when the client wants it fresh."""
    cache_images: CacheImages


class Counter:
    """Numbers the steps of a build."""

    def __init__(self, total: int, output: Output) -> None:
        self._total = total
        self._output = output
        self._number = 0

    def announce(self, instruction: Instruction) -> None:
        """`Step 2/5 : RUN make`."""
        self._number += 1
        self._output.stream(f"Step {self._number}/{self._total} : {instruction.original}\n")


class StageBuilder:
    """Builds one stage. `done` are the images of the stages before it, by their index."""

    def __init__(
        self,
        tools: Tools,
        file: Dockerfile,
        stage: Stage,
        variables: Variables,
        request: BuildRequest,
        output: Output,
        counter: Counter,
        done: Mapping[int, ResolvedImage],
    ) -> None:
        self._tools = tools
        self._file = file
        self._stage = stage
        self._variables = variables
        self._request = request
        self._output = output
        self._counter = counter
        self._done = done
        self._escape = file.directives.escape
        self._image: ResolvedImage
        self._author = ""
        self._cmd_given = False

    async def build(self, base: str, platform: Platform | None) -> ResolvedImage:
        """From `base`, a name with its variables replaced, to the stage's image. Raises in the words of `docker build`."""
        self._counter.announce(self._stage.origin)
        self._image = await self._base(base, platform)
        self._tell_image()
        await self._triggers()
        for instruction in self._stage.instructions:
            self._counter.announce(instruction)
            await self.perform(instruction)
        return self._image

    async def perform(self, instruction: Instruction) -> None:
        """One instruction onto the stage's image."""
        try:
            match instruction:
                case Arg():
                    await self._arg(instruction)
                case Run():
                    await self._run(instruction)
                case Copy():
                    await self._copy(instruction)
                case Workdir():
                    await self._workdir(instruction)
                case _:
                    await self._configure(instruction)
        except DockerfileError as error:
            raise error.at(self._file.source, instruction.place) from None
        self._tell_image()

    async def labelled(self, label: Instruction) -> ResolvedImage:
        """The stage's image with one more instruction: the client's labels."""
        await self.perform(label)
        return self._image

    # -- where it begins

    async def _base(self, base: str, platform: Platform | None) -> ResolvedImage:
        earlier = self._file.named(base, self._stage) if not base.isdecimal() else None
        if earlier is not None:
            return self._done[earlier.index]
        if base.lower() == SCRATCH:
            return await self._scratch(platform)
        return await self._tools.find_image(base, platform)

    async def _scratch(self, platform: Platform | None) -> ResolvedImage:
        """An image of nothing: the same each time."""
        target = platform or self._request.platform or platforms.local()
        config = ImageConfig(
            architecture=target.architecture, variant=target.variant, os=target.os, config=ContainerConfig()
        )
        return await self._written(NewImage(config, [], ""))

    async def _triggers(self) -> None:
        """`ONBUILD`s of the base, which are not the new image's."""
        triggers = list(self._config.on_build or [])
        if not triggers:
            return
        plural = "s" if len(triggers) > 1 else ""
        self._output.stream(f"# Executing {len(triggers)} build trigger{plural}\n")
        config = self._config
        config.on_build = None
        text = "/bin/sh -c #(nop)  ONBUILD"
        await self._step(f"triggers {triggers}", text, config, lambda: self._with_config(config, text))
        for trigger in triggers:
            for statement in parse(source_of(trigger, "ONBUILD")).statements:
                await self.perform(typed(statement, "\\"))

    # -- instructions

    async def _arg(self, instruction: Arg) -> None:
        for name, default in instruction.arguments:
            value = None if default is None else self._expand(default)
            self._variables.declare(self._expand(name), value)
        await self._configured(instruction, self._config)

    async def _configure(self, instruction: Instruction) -> None:
        config = self._config
        configure(config, instruction, self._lookup, escape=self._escape)
        if isinstance(instruction, Cmd):
            self._cmd_given = True
        elif isinstance(instruction, Entrypoint) and not self._cmd_given:
            config.cmd = None  # the base's command was an argument of the base's entrypoint
        elif isinstance(instruction, Maintainer):
            self._author = instruction.name
        await self._configured(instruction, config)

    async def _configured(self, instruction: Instruction, config: ContainerConfig) -> None:
        text = f"{_shell(config)} #(nop)  {self._comment(instruction, config)}"
        identity = msgspec.json.encode([text, self._author, config]).decode()
        await self._step(identity, text, config, lambda: self._with_config(config, text))

    def _comment(self, instruction: Instruction, config: ContainerConfig) -> str:
        """The instruction as the classic builder has it in an image's history: lists in Go's manner."""
        match instruction:
            case Cmd():
                return f"CMD {_quoted(config.cmd or ())}"
            case Entrypoint():
                return f"ENTRYPOINT {_quoted(config.entrypoint or ())}"
            case Shell():
                return f"SHELL [{' '.join(instruction.words)}]"
            case Volume():
                return f"VOLUME [{' '.join(map(self._expand, instruction.paths))}]"
        return instruction.original

    async def _workdir(self, instruction: Workdir) -> None:
        config = self._config
        config.working_dir = joined(config.working_dir, self._expand(instruction.path))
        text = f"{_shell(config)} #(nop) WORKDIR {config.working_dir}"
        empty = CopyStep("WORKDIR", (), config.working_dir + "/")
        source = {"directory": str(self._tools.context.directory)}
        await self._step(text, text, config, lambda: self._copied([(empty, source)], config, text))

    async def _run(self, instruction: Run) -> None:
        if instruction.mounts or instruction.security != "sandbox" or instruction.devices:
            raise NotSupported(
                "RUN with --mount, --security or --device needs BuildKit's builder, which is not in this version of Sampan"
            )
        config = self._config
        words = _command(instruction, config)
        arguments = self._variables.identity(config.env)
        described = " ".join([*([f"|{len(arguments)}", *arguments] if arguments else []), *words])
        request = self._request
        if instruction.network not in ("default", ""):
            request = _with_network(request, instruction.network)

        async def make() -> str:
            container = await self._tools.runner.run(
                self._image, words, self._variables.for_run(config.env), request, self._output
            )
            try:
                image = await self._committed(container.id, config, described)
            except BaseException:
                await asyncio.shield(self._tools.runner.remove(container))
                raise
            if self._request.remove_containers:
                await asyncio.shield(self._tools.runner.remove(container))
                self._output.stream(f" ---> Removed intermediate container {container.id[:12]}\n")
            return image

        identity = msgspec.json.encode(["RUN", words, arguments, instruction.network]).decode()
        await self._step(identity, described, config, make)

    async def _copy(self, instruction: Copy) -> None:
        if instruction.parents:
            raise NotSupported("COPY --parents is not in this version of Sampan")
        what = "ADD" if isinstance(instruction, Add) else "COPY"
        sources = [
            self._expand(each) for each in instruction.sources if heredoc_of(each, self._escape) is None
        ]
        remote = [each for each in sources if isinstance(instruction, Add) and is_remote(each)]
        step = CopyStep(
            what,
            tuple(each for each in sources if each not in remote),
            self._destination(instruction.destination),
            tuple(
                (each.name, self._expand_heredoc(each.text) if each.expands else each.text)
                for each in instruction.files
            ),
            self._expand(instruction.chown),
            _mode(self._expand(instruction.chmod)),
            tuple(self._expand(each) for each in instruction.excludes),
            isinstance(instruction, Add) and instruction.unpack is not False,
        )
        if instruction.from_:
            async with self._tools.copier.of_image(await self._copied_from(instruction.from_)) as source:
                await self._copy_all(instruction, [(step, source)])
            return
        context = {"directory": str(self._tools.context.directory)}
        local = [(step, context)] if step.sources or step.files else []
        if not remote:
            await self._copy_all(instruction, local)
            return
        if not isinstance(instruction, Add):  # only ADD has remote sources
            raise TypeError("COPY with remote sources")
        async with fetched_file(remote, instruction.checksum, self._tools.context) as files:
            fetched = [(file.as_step(step), file.source) for file in files]
            await self._copy_all(instruction, [*local, *fetched])

    async def _copied_from(self, name: str) -> ResolvedImage:
        name = self._expand(name)
        stage = self._file.named(name, self._stage)
        if stage is not None:
            return self._done[stage.index]
        return await self._tools.find_image(name, None)

    async def _copy_all(
        self, instruction: Copy, copies: Sequence[tuple[CopyStep, Mapping[str, object]]]
    ) -> None:
        digests = [await self._tools.copier.digest(step, source) for step, source in copies]
        config = self._config
        text = (
            f"{_shell(config)} #(nop) {copies[0][0].what} {' '.join(digests)} in {copies[0][0].destination} "
        )
        identity = msgspec.json.encode(
            [instruction.original, digests, [(each.destination, each.owner, each.mode) for each, _ in copies]]
        ).decode()
        await self._step(identity, text, config, lambda: self._copied(copies, config, text))

    # -- making images

    async def _step(
        self, identity: str, line: str, config: ContainerConfig, make: Callable[[], Awaitable[str]]
    ) -> None:
        """The image that a step gives: the one it gave before, here or in an image of `--cache-from`, or a new one.

        `line` is what history has of the step, `config` the new image's.
        """
        parent = self._image.id
        if self._request.use_cache:
            found = await self._found(identity, line, config)
            if found is not None:
                self._output.stream(" ---> Using cache\n")
                self._image = found
                return
        image = await make()
        await self._tools.cache.store(parent, identity, image)
        self._image = await self._tools.images.resolve(image)

    async def _found(self, identity: str, line: str, config: ContainerConfig) -> ResolvedImage | None:
        tools, parent = self._tools, self._image
        here = await tools.cache.find(parent.id, identity)
        if here is not None and tools.cache_images.admits(here):
            return here
        found = tools.cache_images.find(parent, line, config)
        if found is None:
            return None
        image = await self._written(found) if isinstance(found, NewImage) else found
        await tools.cache.store(parent.id, identity, image.id)
        return image

    async def _with_config(self, config: ContainerConfig, text: str) -> str:
        """The image with another configuration and one more line of history."""
        base = self._image
        now = format_rfc3339_nano(time.time_ns())
        image = ImageConfig(
            created=now,
            author=self._author or base.config.author,
            architecture=base.platform.architecture,
            variant=base.platform.variant,
            os=base.platform.os,
            config=config,
            rootfs=RootFS(diff_ids=list(base.config.rootfs.diff_ids)),
            history=[
                *base.config.history,
                History(created=now, created_by=text, author=self._author, empty_layer=True),
            ],
        )
        return (await self._written(NewImage(image, list(base.manifest.layers), "", base.id))).id

    async def _written(self, image: NewImage) -> ResolvedImage:
        images = self._tools.images
        async with images.parts.content.leases.hold("build") as lease:
            return await images.resolve(await images.create_from(image, lease))

    async def _copied(
        self, copies: Sequence[tuple[CopyStep, Mapping[str, object]]], config: ContainerConfig, text: str
    ) -> str:
        """The image with files copied into it, as one layer."""
        images, key = self._tools.images, new_id()
        await images.prepare_rootfs(key, self._image)
        try:
            for step, source in copies:
                await self._tools.copier.copy(step, source, key)
            return await self._committed(key, config, text)
        finally:
            await asyncio.shield(images.release_rootfs(key))

    async def _committed(self, key: str, config: ContainerConfig, text: str) -> str:
        """The writable snapshot `key` as a layer on the image."""
        request = CommitRequest(
            image=self._image,
            config=msgspec.to_builtins(config),
            author=self._author,
            container_config_cmd=(text,),
        )
        return await self._tools.images.commit(key, request)

    # -- words

    @property
    def _config(self) -> ContainerConfig:
        """A copy of the image's configuration, to change."""
        return msgspec.convert(
            msgspec.to_builtins(self._image.config.config or ContainerConfig()), ContainerConfig
        )

    @property
    def _lookup(self) -> Lookup:
        """What variables mean at this point of the stage."""
        config = self._image.config.config
        return self._variables.lookup(config.env if config else None).get

    def _expand(self, text: str) -> str:
        return expand(text, self._lookup, escape=self._escape)

    def _expand_heredoc(self, text: str) -> str:
        """Variables only: quotes in a file are the file's."""
        lookup = self._lookup
        return "".join(
            expand('"' + line.replace('"', self._escape + '"') + '"', lookup, escape=self._escape)
            for line in text.splitlines(keepends=True)
        )

    def _destination(self, text: str) -> str:
        path = self._expand(text)
        absolute = joined(self._config.working_dir, path)
        is_directory = path.endswith(("/", "/.")) or path in (".", "")
        return absolute.rstrip("/") + "/" if is_directory else absolute

    def _tell_image(self) -> None:
        self._output.stream(f" ---> {self._image.id.removeprefix('sha256:')[:12]}\n")


def _command(instruction: Run, config: ContainerConfig) -> list[str]:
    """What a `RUN` executes; a heredoc that is the whole command is the script."""
    if not instruction.command.shell:
        return list(instruction.command.words)
    line = instruction.command.words[0]
    shell = [*(config.shell or DEFAULT_SHELL)]
    if not instruction.heredocs:
        return [*shell, line]
    if len(instruction.heredocs) == 1 and heredoc_of(line.strip()) is not None:
        script = instruction.heredocs[0].text
        if script.startswith("#!"):
            raise NotSupported(
                "RUN with a script of another interpreter (#!) is not in this version of Sampan"
            )
        return [*shell, script]
    return [*shell, line + "".join(f"\n{each.content}{each.name}" for each in instruction.heredocs) + "\n"]


def _quoted(words: Sequence[str]) -> str:
    """Go's %q of a list."""
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in words) + "]"


def _shell(config: ContainerConfig) -> str:
    """How history begins a line that nothing was run for."""
    return " ".join(config.shell or DEFAULT_SHELL)


def _mode(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or any(digit not in "01234567" for digit in text):
        raise InvalidParameter(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        )
    return int(text, 8) & 0o7777


def _with_network(request: BuildRequest, network: str) -> BuildRequest:
    host = msgspec.structs.replace(request.host_config, network_mode=network)
    return replace(request, host_config=host)
