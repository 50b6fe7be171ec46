"""`ExecProcess`: one conversation about any number of processes in a frontend's containers.

A process is announced (`Init`), told to have started (`Started`), has its streams carried (`File`), may be resized and sent
signals, and ends with `Exit` and `Done`, after everything that it wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from sampan.buildkit.containers import STDIN, Running
from sampan.buildkit.protos import gateway_pb2 as pb
from sampan.containers.attach import frames
from sampan.containers.launch_errors import StartFailure
from sampan.containers.signals import parse_signal
from sampan.errors import Conflict, InvalidParameter, NotFound, SampanError
from sampan.grpc.errors import status_message
from sampan.grpc.status_pb2 import Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpclib.server import Stream

    from sampan.buildkit.bridge import Bridge
    from sampan.buildkit.containers import FrontendContainer

UNKNOWN_STATUS = 255
"""Of a process of which nothing better is known."""
_KILL = 9
_STDOUT = 1
_PENDING = 64
"""Pieces of input that wait for a process to read them, before the whole conversation waits."""
_UNKNOWN = 2
"""gRPC's code of errors that have none."""


class Conversation:
    """One call. `run` serves it to its end; processes that still run then are killed."""

    def __init__(self, bridge: Bridge, stream: Stream[Any, Any]) -> None:
        self._bridge = bridge
        self._stream = stream
        self._sending = asyncio.Lock()
        self._processes: dict[str, _Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Raises `InvalidParameter`, `NotFound`, `Conflict` for messages that mean nothing."""
        try:
            while (message := await self._stream.recv_message()) is not None:
                await self._take(message)
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, message: pb.ExecMessage) -> None:
        id = message.ProcessID
        if not id:
            raise InvalidParameter("ProcessID required")
        kind = message.WhichOneof("Input")
        if kind == "Init":
            return self._begin(id, message.Init)
        process = self._processes.get(id)
        if process is None:
            raise NotFound(f'IO for process "{id}" not found')
        match kind:
            case "File":
                await process.feed(message.File)
            case "Resize":
                await process.resize(message.Resize.Rows, message.Resize.Cols)
            case "Signal":
                try:
                    number = parse_signal(message.Signal.Name)
                except InvalidParameter:
                    raise InvalidParameter(f"Unknown signal {message.Signal.Name}") from None
                await process.signal(number)

    def _begin(self, id: str, init: pb.InitMessage) -> None:
        if id in self._processes:
            raise Conflict(f"Process {id} already exists")
        if not init.HasField("Meta"):
            raise InvalidParameter("process meta is required")
        try:
            container = self._bridge.container(init.ContainerID)
        except NotFound:
            raise NotFound(f'container "{init.ContainerID}" previously released or not created') from None
        process = self._processes[id] = _Process(self, id, container, init)
        task = asyncio.create_task(process.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send(self, id: str, **what: Any) -> None:
        """One message about a process. A client that is gone is told nothing."""
        async with self._sending:
            with contextlib.suppress(ConnectionError):
                await self._stream.send_message(pb.ExecMessage(ProcessID=id, **what))


class _Process:
    def __init__(
        self, conversation: Conversation, id: str, container: FrontendContainer, init: pb.InitMessage
    ) -> None:
        self._conversation = conversation
        self._id = id
        self._container = container
        self._init = init
        self._fds = frozenset(init.Fds)
        self._input: asyncio.Queue[pb.FdMessage] = asyncio.Queue(_PENDING)
        self._started: asyncio.Future[Running | None] = asyncio.get_running_loop().create_future()
        """None: it never ran."""
        self._ended = False

    # -- what the client says

    async def feed(self, data: pb.FdMessage) -> None:
        """Input, or its end. What comes for a process that has ended goes nowhere."""
        if data.Fd != STDIN or STDIN not in self._fds:
            raise InvalidParameter(f"fd {data.Fd} unavailable to write")
        if not self._ended:
            await self._input.put(data)

    async def resize(self, rows: int, columns: int) -> None:
        """The client's terminal has another size."""
        running = await asyncio.shield(self._started)
        if running is not None and self._init.Tty and not self._ended:
            with contextlib.suppress(SampanError):  # it has just ended
                await running.handle.resize(rows, columns)

    async def signal(self, number: int) -> None:
        """Send it one."""
        running = await asyncio.shield(self._started)
        if running is not None and not self._ended:
            with contextlib.suppress(SampanError):
                await running.handle.kill(number)

    # -- what it does

    async def run(self) -> None:
        """From its start to `Done`."""
        try:
            try:
                running = await self._container.start(self._init)
            except SampanError as error:
                code = error.exit_code if isinstance(error, StartFailure) else UNKNOWN_STATUS
                await self._tell(Started=pb.StartedMessage())
                await self._tell(Exit=pb.ExitMessage(Code=code, Error=status_message(error)))
            else:
                self._started.set_result(running)
                await self._tell(Started=pb.StartedMessage())
                await self._carry(running)
            await self._tell(Done=pb.DoneMessage())
        finally:
            self._end()
            if not self._started.done():
                self._started.set_result(None)

    def _end(self) -> None:
        """From now on input goes nowhere, also what the conversation waits with."""
        self._ended = True
        while not self._input.empty():
            self._input.get_nowait()

    async def _carry(self, running: Running) -> None:
        feeding = asyncio.create_task(self._feed(running))
        try:
            async for fd, data in self._output(running):
                if fd in self._fds:
                    await self._tell(File=pb.FdMessage(Fd=fd, Data=data))
            status = await running.handle.wait()
        except BaseException:
            with contextlib.suppress(SampanError):
                await asyncio.shield(running.handle.kill(_KILL))
            raise
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            self._end()
            await running.stream.close()
        for fd in sorted(self._fds - {STDIN}):
            await self._tell(File=pb.FdMessage(Fd=fd, EOF=True))
        exit = pb.ExitMessage(Code=status.code)
        if status.code:
            reason = status.reason or f"exit code: {status.code}"
            exit.Error.CopyFrom(Status(code=_UNKNOWN, message=reason))
        await self._tell(Exit=exit)

    async def _output(self, running: Running) -> AsyncIterator[tuple[int, bytes]]:
        if not self._init.Tty:
            async for number, data in frames(running.stream):
                yield number & 3, data
            return
        while data := await running.stream.read():
            yield _STDOUT, data

    async def _feed(self, running: Running) -> None:
        with contextlib.suppress(SampanError, ConnectionError):
            while True:
                message = await self._input.get()
                if message.Data:
                    await running.stream.write(message.Data)
                if message.EOF:
                    return await running.stream.close_stdin()

    async def _tell(self, **what: Any) -> None:
        await self._conversation.send(self._id, **what)
