"""A whole Dockerfile: its stages become LLB as the target needs them; the others are never looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sampan.dockerfile.checks import Checks
from sampan.dockerfile.expand import expand
from sampan.dockerfile.instructions import Copy, Instruction, Run
from sampan.dockerfile.parse import parse
from sampan.dockerfile.source import DockerfileError, Place, source_of
from sampan.dockerfile.stages import Dockerfile, Stage
from sampan.dockerfile.typed import typed
from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.frontend.checks import StageChecks
from sampan.frontend.contexts import SCRATCH, NamedContexts, begin_with_image, client_files
from sampan.frontend.copying import copy
from sampan.frontend.interface import Base, Lowered, Options, Resolver
from sampan.frontend.origins import check_origins
from sampan.frontend.running import run_instruction
from sampan.frontend.stage import StageState, llb_platform
from sampan.frontend.variables import PROXIES, Variables, outer_values, platform_arguments
from sampan.frontend.watching import Watcher
from sampan.llb.state import Meta, State, image
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import parse_normalized
from sampan.oci.image import ImageConfig


async def lower(
    file: Dockerfile, options: Options, resolver: Resolver, checks: Checks | None = None
) -> Lowered:
    """The target of a Dockerfile as LLB. Raises `DockerfileError` with its place, and what the resolver raises.

    `checks` get what is suspicious, and fail it when they are to. Done twice: which files of the context are wanted is known at
    the end, and said where the context is asked for.
    """
    remembering = _Remembering(resolver)
    watchers = [StageChecks(checks, file, options)] if checks is not None else []
    first = _Lowering(file, options, remembering, (), watchers)
    lowered = await first.target()
    if checks is not None:
        checks.fail()
    wanted = tuple(sorted(first.context_paths))
    if not wanted or "/" in wanted:
        return lowered
    return await _Lowering(file, options, remembering, wanted).target()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a file could not be lowered, and where that was, as far as it is known."""

    error: SampanError
    place: Place | None


async def survey(
    file: Dockerfile,
    options: Options,
    resolver: Resolver,
    watchers: Sequence[Watcher],
    stages: Callable[[], Sequence[Stage]],
) -> Failure | None:
    """Show watchers stages of a file, and what they are made of; nothing comes of it but what went wrong."""
    lowering = _Lowering(file, options, _Remembering(resolver), (), watchers)
    try:
        await lowering.look_at(stages)
    except SampanError as error:
        place = error.place if isinstance(error, DockerfileError) else lowering.looked_for
        return Failure(error, place)
    return None


class _Remembering:
    """Asks for everything once."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._found: dict[tuple[str, Platform], Base] = {}
        self._layouts: dict[tuple[str, Platform], ImageConfig] = {}
        self._ignored: dict[str, Sequence[str]] = {}

    async def image(self, name: str, platform: Platform) -> Base:
        key = (name, platform)
        if key not in self._found:
            self._found[key] = await self._resolver.image(name, platform)
        return self._found[key]

    async def layout(self, name: str, store: str, digest: str, platform: Platform) -> ImageConfig:
        key = (digest, platform)
        if key not in self._layouts:
            self._layouts[key] = await self._resolver.layout(name, store, digest, platform)
        return self._layouts[key]

    async def ignored(self, directory: str, hint: str) -> Sequence[str]:
        if directory not in self._ignored:
            self._ignored[directory] = await self._resolver.ignored(directory, hint)
        return self._ignored[directory]


class _Lowering:
    """One pass."""

    def __init__(
        self,
        file: Dockerfile,
        options: Options,
        resolver: Resolver,
        wanted: Sequence[str],
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self._file = file
        self._options = options
        self._resolver = resolver
        self._contexts = NamedContexts(options, resolver)
        self._wanted = wanted
        self._stages: dict[int, StageState] = {}
        self._watchers = watchers
        self._consumed = {name for each in file.arguments for name, _ in each.arguments}
        self._outer = outer_values(file, options, options.arguments)
        self.context_paths: set[str] = set()
        self.looked_for: Place | None = None
        """The `FROM` whose image was asked for last."""

    async def target(self) -> Lowered:
        """The file's target, with the labels that were asked for."""
        for watcher in self._watchers:
            watcher.origins(self._outer)
        stage = self._file.stage(self._options.target)
        check_origins(self._file)
        if self._watchers:
            await self._find_images(self._file.needed(stage))
        done = await self._stage(stage)
        if self._options.labels:
            done.config.labels = {**(done.config.labels or {}), **dict(sorted(self._options.labels.items()))}
        given = self._options.arguments.keys()
        known = platform_arguments(self._options.build_platform, self._options.platform, "").keys()
        unused = sorted(given - self._consumed - PROXIES - known - {"SOURCE_DATE_EPOCH"})
        unused = [each for each in unused if not each.startswith("BUILDKIT_")]
        return Lowered(done.state, done.image, done.platform, tuple(unused))

    async def look_at(self, stages: Callable[[], Sequence[Stage]]) -> None:
        """Some stages, which are chosen when every `FROM` is known to be one."""
        for watcher in self._watchers:
            watcher.origins(self._outer)
        chosen = stages()
        await self._find_images(chosen)
        for stage in chosen:
            self.looked_for = stage.origin.place
            await self._stage(stage)

    async def _find_images(self, stages: Sequence[Stage]) -> None:
        """What stages begin with, before anything is told of them: nothing is when an image is not there. Also what nobody needs
        must be an image's name."""
        names = {each.index: self._outer_expand(each.origin.base) for each in self._file.stages}
        images = [each for each in self._file.stages if self._is_image(each, names[each.index])]
        for stage in images:
            try:
                parse_normalized(names[stage.index])
            except InvalidParameter as error:
                mistake = DockerfileError(f'failed to parse stage name "{names[stage.index]}": {error}')
                raise self._placed(mistake, stage.origin.place) from None
        for stage in images:
            if stage in stages:
                self.looked_for = stage.origin.place
                name, platform = names[stage.index], self._platform(stage)
                found = await self._resolver.image(name, platform)
                for watcher in self._watchers:
                    watcher.image(stage, name, found, platform)

    def _is_image(self, stage: Stage, name: str) -> bool:
        if name == SCRATCH or self._contexts.find(name, self._platform(stage)) is not None:
            return False
        return name.isdecimal() or self._file.named(name, stage) is None

    def _platform(self, stage: Stage) -> Platform:
        text = stage.origin.platform
        value = self._outer_expand(text)
        if text and not value:
            raise DockerfileError(f"empty platform value from expression {text}")
        try:
            return platforms.parse(value) if value else self._options.platform
        except InvalidParameter as error:
            raise DockerfileError(f"failed to parse platform {text}: {error}") from None

    async def _stage(self, stage: Stage) -> StageState:
        if stage.index not in self._stages:
            self._stages[stage.index] = await self._lowered(stage)
        return self._stages[stage.index]

    async def _lowered(self, stage: Stage) -> StageState:
        variables = Variables(self._options.arguments, self._outer)
        origin = stage.origin
        try:
            state = StageState(
                self._file,
                stage,
                self._options,
                variables,
                self._platform(stage),
                named=len(self._file.stages) > 1 or _has_other_origins(stage),
            )
            await self._begin(state, self._outer_expand(origin.base))
            state.complete_environment()
            await self._triggers(state)
        except InvalidParameter as error:
            raise self._placed(error, origin.place) from None
        for instruction in stage.instructions:
            try:
                await self._perform(state, instruction)
            except InvalidParameter as error:
                raise self._placed(error, instruction.place) from None
        self._consumed |= variables.consumed
        return state

    def _placed(self, error: InvalidParameter, place: Place) -> DockerfileError:
        mistake = error if isinstance(error, DockerfileError) else DockerfileError(str(error))
        return mistake.at(self._file.source, place)

    async def _begin(self, state: StageState, base: str) -> None:
        if not base:
            raise DockerfileError(f"base name ({state.stage.origin.base}) should not be blank")
        given = self._contexts.find(base, state.platform)
        before = None if base.isdecimal() else self._file.named(base, state.stage)
        if given is not None:
            await self._contexts.begin(state, base, given)
        elif base == SCRATCH:
            state.begin_empty()
        elif before is not None:
            done = await self._stage(before)
            if not state.stage.origin.platform:
                state.platform = done.platform
            state.variables.inherit(done.variables)
            state.arguments.update(done.arguments)
            state.begin_with(done.state, done.image)
            for watcher in self._watchers:
                watcher.inherit(state, done)
        else:
            await begin_with_image(state, base, self._resolver, self._options)

    async def _triggers(self, state: StageState) -> None:
        triggers = state.triggers()
        state.expect(len(triggers))
        for trigger in triggers:
            for statement in parse(source_of(trigger, "ONBUILD")).statements:
                instruction = replace(typed(statement, "\\"), place=state.stage.origin.place)
                await self._perform(state, instruction)
            state.performed_trigger()

    async def _perform(self, state: StageState, instruction: Instruction) -> None:
        for watcher in self._watchers:
            watcher.before(state, instruction)
        await self._do(state, instruction)
        for watcher in self._watchers:
            watcher.after(state, instruction)

    async def _do(self, state: StageState, instruction: Instruction) -> None:
        if isinstance(instruction, Run):

            async def origin(name: str, path: str) -> State | None:
                return await self._origin(state, name, [path])

            await run_instruction(state, instruction, origin)
        elif isinstance(instruction, Copy):
            name = state.expand(instruction.from_)
            paths = copy(state, instruction, await self._origin(state, name, ()))
            if not name:
                self.context_paths.update(paths)
        else:
            state.configure(instruction)

    async def _origin(self, state: StageState, name: str, paths: Sequence[str]) -> State | None:
        """What `--from` and `from=` name: a stage, a named context, an image; "" is the context."""
        if not name:
            self.context_paths.update(paths)
            return client_files(self._options, self._wanted)
        given = self._contexts.find(name, state.platform)
        if given is not None:
            return await self._contexts.files(name, given, state.platform)
        before = self._file.named(name, state.stage)
        if before is not None:
            return (await self._stage(before)).state
        if any(each.name == name.lower() for each in self._file.stages):
            raise DockerfileError(
                f'cannot copy from stage "{name}", it needs to be defined before current stage "{state.title}"'
            )
        if name == SCRATCH:
            return None
        if name.isdecimal():
            raise DockerfileError(f"invalid stage index {name}")
        try:
            found = await self._resolver.image(name, state.platform)
        except NotFound as error:
            raise NotFound(f"{name}: failed to resolve source metadata: {error}") from None
        meta = Meta(name=f"FROM {found.reference}")
        return image(
            found.reference, platform=llb_platform(state.platform), resolve=self._options.resolve, meta=meta
        )

    def _outer_expand(self, text: str) -> str:
        return expand(text, self._outer.get, escape=self._file.directives.escape)


def _has_other_origins(stage: Stage) -> bool:
    """Whether it takes from what is no stage: BuildKit counts those too, and the context that a mount is of."""
    for instruction in stage.instructions:
        if isinstance(instruction, Run) and instruction.mounts:
            return True
        if isinstance(instruction, Copy) and instruction.from_:
            return True
    return False
