"""`docker exec` and health probes in a container of another runtime: each is a call of its `exec --detach`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.linux import process
from sampan.runtime.interface import LaunchError
from sampan.runtime.shim.execs import Execs
from sampan.runtime.shim.loop import READ
from sampan.runtime.shim.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.runtime.container.config import JoinConfig
    from sampan.runtime.shim.container import Container
    from sampan.runtime.shim.foreign import ForeignRuntime
    from sampan.runtime.shim.loop import Loop
    from sampan.runtime.shim.maker import Crew
    from sampan.runtime.shim.protocol import Request
    from sampan.runtime.shim.pump import Pump
    from sampan.runtime.shim.streams import Streams


class ForeignExecs(Execs):
    """The further processes of one container; the call of the program does not hold up the shim."""

    def __init__(self, loop: Loop, container: Container, crew: Crew, runtime: ForeignRuntime) -> None:
        super().__init__(loop, container, crew)
        self._runtime = runtime

    def prepare(self) -> None:
        """Nothing can be made ready."""

    def _end_strays(self) -> None:
        """There are none: no maker makes these processes."""

    def _launch(
        self,
        request: Request,
        config: JoinConfig,
        streams: Streams,
        pump: Pump,
        started: Callable[[Supervised], None],
    ) -> None:
        def failed(error: LaunchError) -> None:
            pump.close_clients()
            streams.close()
            request.refuse(f"launch:{error.kind}", str(error))

        try:
            call = self._runtime.begin_exec(
                config["process"], config.get("user"), config.get("groups", []), streams.theirs
            )
        except LaunchError as error:
            failed(error)
            return
        streams.close_theirs()

        def ended(mask: int) -> None:
            self._loop.forget(call.pidfd)
            try:
                pid, console = call.finish()
            except LaunchError as error:
                failed(error)
                return
            if console is not None:
                streams.set_console(console)
            supervised = Supervised(self._loop, pid, process.pidfd_open(pid), streams, pump)
            started(supervised)
            pump.begin()

        self._loop.watch(call.pidfd, READ, ended)
