"""`RUN`: a command in a container of the step's image, as confined as any container."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable

import msgspec

from sampan.build.interface import BuildRequest, Output
from sampan.containers import attach
from sampan.containers.container import Container
from sampan.containers.creation import CreateRequest
from sampan.containers.service import ContainerService
from sampan.engineapi.container import ContainerConfig, HostConfig
from sampan.errors import InvalidParameter, SampanError
from sampan.images.interface import ResolvedImage

_STDERR = 2
"""Its text is red, as `docker build` has always shown it."""
_MARK = "org.sampan.build"
"""Annotation of a build's containers, by which the next engine knows them when this one was killed."""


class StepFailed(InvalidParameter):
    """A command ended with something else than 0."""

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"The command '{command}' returned a non-zero code: {code}")
        self.code = code


class Runner:
    """Makes, runs and removes the containers of a build."""

    def __init__(self, containers: ContainerService) -> None:
        self._containers = containers

    async def run(
        self, image: ResolvedImage, words: list[str], env: list[str], request: BuildRequest, output: Output
    ) -> Container:
        """Run `words` on `image`; the container has ended when this returns. Raises `StepFailed`.

        Whoever is cancelled, or fails, leaves no container (but a failed one that the client wants to look at).
        """
        containers = self._containers
        host = msgspec.convert(msgspec.to_builtins(request.host_config), HostConfig)
        host.annotations = {**(host.annotations or {}), _MARK: ""}
        config = ContainerConfig(image=image.id, entrypoint=[""], cmd=words, env=env)
        config.healthcheck = None
        created = await containers.creation.create(CreateRequest("", config, host, {}))
        container = containers.get(created.id)
        output.stream(f" ---> Running in {container.id[:12]}\n")
        try:
            await self._to_its_end(container, output.stream)
        except BaseException:
            await asyncio.shield(self.remove(container))
            raise
        code = container.state.exit_code
        if code:
            if request.remove_failed:
                await self.remove(container)
                output.stream(f" ---> Removed intermediate container {container.id[:12]}\n")
            raise StepFailed(" ".join(words), code)
        return container

    async def remove_leftovers(self) -> None:
        """Once, after containers have been recovered: builds that a killed engine did not finish go on in no other.

        Containers of failed steps stay: their client left them to be looked at.
        """
        for container in list(self._containers.registry):
            marked = _MARK in (container.record.host_config.annotations or {})
            if marked and (container.state.running or not container.state.exit_code):
                await self.remove(container)

    async def remove(self, container: Container) -> None:
        """Take a step's container away."""
        try:
            await self._containers.removal.remove(container, force=True, volumes=True)
        except SampanError:
            pass  # somebody else did

    async def _to_its_end(self, container: Container, write: Callable[[str], None]) -> None:
        reading = asyncio.create_task(self._read(container, write))
        await asyncio.sleep(0)  # it is attached before the start: not a byte is missed
        ended = container.wait("next-exit")
        try:
            await self._containers.lifecycle.start(container)
            await ended
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, container: Container, write: Callable[[str], None]) -> None:
        stream = await attach.connect(container, stdin=False, stdout=True, stderr=True)
        decoders = {number: codecs.getincrementaldecoder("utf-8")("replace") for number in range(4)}
        try:
            async for number, piece in attach.frames(stream):
                if text := decoders[number & 3].decode(piece):
                    write(text if number != _STDERR else f"\x1b[91m{text}\x1b[0m")
        finally:
            await stream.close()
