"""The engine's end of the shim protocol (`sampan.runtime.shim.protocol`): calls, attach streams, the handle."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, cast

from sampan.errors import Conflict, NotSupported, SystemFailure
from sampan.linux import process, sockets
from sampan.runtime.interface import ExitStatus, LaunchError, Sandbox
from sampan.runtime.shim import record
from sampan.runtime.shim.protocol import SOCKET_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.oci.runtime import Process, Resources
    from sampan.runtime.interface import ExecLaunch, HealthProbe
    from sampan.runtime.pool import ShimPool, Spare

SHIM_LOST = "shim lost"
_READ = 256 * 1024


class ShimLost(SystemFailure):
    """The shim ended without being asked to; the kernel ended its container with it."""


class Connection:
    """One SEQPACKET connection to a shim. Replies find their calls by id; events go to `on_event`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._next_id = 0
        self._calls: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._outgoing: deque[tuple[dict[str, Any], list[int]]] = deque()
        self._full = False
        """The socket takes no more, and we are told when it does."""
        self.on_event: Callable[[dict[str, Any], list[int]], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        sock.setblocking(False)
        self._loop.add_reader(sock, self._readable)

    @classmethod
    def open(cls, bundle: str) -> Connection:
        """Connect to the shim whose bundle this is. Raises OSError when none listens."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
        except BaseException:
            sock.close()
            raise
        finally:
            os.close(directory)
        return cls(sock)

    async def call(
        self, name: str, arguments: dict[str, Any] | None = None, fds: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        """Do one call; `fds` stay open here, those returned are the caller's.

        Raises ShimLost, LaunchError, Conflict (not in that state), NotSupported (an older shim), SystemFailure.
        """
        if self._socket.fileno() < 0:
            raise ShimLost(SHIM_LOST)
        self._next_id += 1
        identity = self._next_id
        future: asyncio.Future[tuple[dict[str, Any], list[int]]] = self._loop.create_future()
        self._calls[identity] = future
        message = {"id": identity, "call": name, **(arguments or {})}
        self._outgoing.append((message, [os.dup(fd) for fd in fds]))
        self._flush()
        try:
            reply, descriptors = await future
        finally:
            self._calls.pop(identity, None)
        if "error" in reply:
            raise _error(reply["error"])
        return reply, descriptors

    def renew(self) -> Connection:
        """The same connection for the shim's next container; for whoever still holds this one it is closed.

        A handle that outlived its container must not signal the next one.
        """
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        successor = socket.socket(fileno=self._socket.detach())
        self._abandon()
        renewed = Connection(successor)
        renewed._next_id = self._next_id  # no late reply may meet a new call
        return renewed

    def close(self) -> None:
        """Disconnect; calls under way raise ShimLost."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._abandon()
        if self.on_lost is not None:
            self.on_lost()

    def _abandon(self) -> None:
        for _, descriptors in self._outgoing:
            _close_all(descriptors)
        self._outgoing.clear()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(ShimLost(SHIM_LOST))
        self._calls.clear()

    def _flush(self) -> None:
        while self._outgoing and self._socket.fileno() >= 0:
            message, descriptors = self._outgoing[0]
            try:
                sockets.send(self._socket, message, descriptors)
            except BlockingIOError:
                self._full = True
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                self.close()
                return
            self._outgoing.popleft()
            _close_all(descriptors)
        if self._full and self._socket.fileno() >= 0:
            self._full = False
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        while self._socket.fileno() >= 0:
            try:
                message, descriptors = sockets.receive(self._socket)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                self.close()
                return
            if "event" in message:
                if self.on_event is None:
                    _close_all(descriptors)
                else:
                    self.on_event(message, descriptors)
                continue
            future = self._calls.pop(message["id"], None)
            if future is None or future.done():
                _close_all(descriptors)
            else:
                future.set_result((message, descriptors))


def _error(error: dict[str, str]) -> Exception:
    kind, message = error["kind"], error["message"]
    if kind.startswith("launch:"):
        return LaunchError(message, cast("Literal['not-found', 'permission', 'format', 'other']", kind[7:]))
    if kind in ("wrong-state", "not-running", "no-exec", "no-terminal", "no-sandbox"):
        return Conflict(message)
    if kind == "unknown-call":
        return NotSupported(
            f"the container was started by an older Sampan, and can do this after a restart: {message}"
        )
    return SystemFailure(message)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class SocketStream:
    """An `AttachStream` over a socket whose other end the shim holds."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)

    async def read(self) -> bytes:
        try:
            return await self._loop.sock_recv(self._socket, _READ)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        """Raises BrokenPipeError once the process reads no more and the shim has let go of us."""
        await self._loop.sock_sendall(self._socket, data)

    async def close_stdin(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side is gone: no input is what it gets

    async def close(self) -> None:
        if self._socket.fileno() >= 0:
            # A read or write under way holds the descriptor in the selector.
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()


def _stream_pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def exit_status(fields: dict[str, Any]) -> ExitStatus:
    """From the protocol's or the exit record's form."""
    return ExitStatus(fields["code"], fields["at_ns"], fields["oom_killed"], fields.get("reason", ""))


class Exec:
    """An `ExecHandle`."""

    def __init__(self, connection: Connection, exec_id: str, pid: int) -> None:
        self._connection = connection
        self._id = exec_id
        self.pid = pid

    async def wait(self) -> ExitStatus:
        try:
            reply, _ = await self._connection.call("wait", {"exec_id": self._id})
        except ShimLost:
            return lost()
        return exit_status(reply)

    async def resize(self, rows: int, columns: int) -> None:
        await self._connection.call("resize", {"exec_id": self._id, "rows": rows, "columns": columns})

    async def kill(self, signal: int) -> None:
        await self._connection.call("kill", {"exec_id": self._id, "signal": signal})


def lost() -> ExitStatus:
    """How a process ended whose shim was killed."""
    return ExitStatus(137, time.time_ns(), False, SHIM_LOST)


class ShimHandle:
    """The `Shim` of `runtime.interface`, over one connection."""

    def __init__(
        self,
        connection: Connection,
        description: dict[str, Any],
        bundle: str,
        pidfd: int,
        spare: Spare | None,
        pool: ShimPool,
        on_closed: Callable[[ShimHandle], None],
        remove_remains: Callable[[str], None],
    ) -> None:
        self.id: str = description["container"]
        self.pid: int = description["pid"]
        self.init_pid: int = description["init_pid"]
        self.init_start_time: int = description["init_start_time"]
        self.cgroup: str = description["cgroup"]
        self.state: str = description["state"]
        """`created`, `running` or `exited` when the handle was made."""
        self.on_oom: Callable[[], None] | None = None
        self._connection = connection
        self._bundle = bundle
        self._pidfd = pidfd
        self._spare = spare
        """What the pool gave us; None for an adopted shim, which is another zygote's child."""
        self._pool = pool
        self._sandbox = spare.sandbox if spare is not None else None
        self._on_closed = on_closed
        self._remove_remains = remove_remains
        connection.on_event = self._event

    async def sandbox(self) -> Sandbox:
        """The caller owns the descriptors. Raises Conflict when the container has no network namespace of its own."""
        if self._sandbox is not None:
            sandbox, self._sandbox = self._sandbox, None
            return sandbox
        _, descriptors = await self._connection.call("sandbox")
        return Sandbox(*descriptors)

    async def borrow_sandbox(self) -> Sandbox:
        """As `sandbox`, but the descriptors stay this handle's, until `drop_sandbox`."""
        if self._sandbox is None:
            self._sandbox = await self.sandbox()
        return self._sandbox

    def drop_sandbox(self) -> None:
        """Close our descriptors of the sandbox; the shim holds its own."""
        if self._sandbox is not None:
            _close_all(list(self._sandbox))
            self._sandbox = None

    async def start(self) -> None:
        await self._connection.call("start")

    async def wait(self) -> ExitStatus:
        try:
            reply, _ = await self._connection.call("wait")
        except ShimLost:
            # It may have recorded the end and died before it told.
            fields = record.read(self._bundle, record.EXIT)
            return lost() if fields is None else exit_status(fields)
        return exit_status(reply)

    async def kill(self, signal: int, *, all_processes: bool = False) -> None:
        """Raises Conflict when it has ended."""
        await self._connection.call("kill", {"signal": signal, "all": all_processes})

    async def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> SocketStream:
        ours, theirs = _stream_pair()
        with theirs:
            try:
                await self._connection.call(
                    "attach", {"stdin": stdin, "stdout": stdout, "stderr": stderr}, [theirs.fileno()]
                )
            except BaseException:
                ours.close()
                raise
        return SocketStream(ours)

    async def resize(self, rows: int, columns: int) -> None:
        await self._connection.call("resize", {"rows": rows, "columns": columns})

    async def prepare_exec(self) -> None:
        await self._connection.call("prepare_exec")

    async def exec(
        self, launch: ExecLaunch, *, attach: tuple[bool, bool, bool] | None
    ) -> tuple[Exec, SocketStream | None]:
        """Raises LaunchError, Conflict when the container does not run."""
        arguments: dict[str, Any] = {"launch": launch, "attach": attach}
        if attach is None:
            reply, _ = await self._connection.call("exec", arguments)
            return Exec(self._connection, launch["exec_id"], reply["pid"]), None
        ours, theirs = _stream_pair()
        with theirs:
            try:
                reply, _ = await self._connection.call("exec", arguments, [theirs.fileno()])
            except BaseException:
                ours.close()
                raise
        return Exec(self._connection, launch["exec_id"], reply["pid"]), SocketStream(ours)

    async def probe(self, probe: HealthProbe, process: Process) -> tuple[int, bytes]:
        reply, _ = await self._connection.call("probe", {"probe": probe, "process": process})
        return reply["code"], reply["output"].encode("latin-1")

    async def pause(self) -> None:
        await self._connection.call("pause")

    async def resume(self) -> None:
        await self._connection.call("resume")

    async def update(self, resources: Resources) -> None:
        await self._connection.call("update", {"resources": resources})

    async def processes(self) -> list[int]:
        reply, _ = await self._connection.call("processes")
        return cast("list[int]", reply["pids"])

    async def reopen_logs(self) -> None:
        await self._connection.call("reopen_logs")

    async def keep(self, name: str, fds: list[int]) -> None:
        await self._connection.call("keep", {"name": name}, fds)

    async def kept(self, name: str) -> list[int]:
        _, descriptors = await self._connection.call("kept", {"name": name})
        return descriptors

    async def close(self) -> None:
        if self._pidfd < 0:
            return
        stays = False
        try:
            stay = self._spare is not None and self._pool.wants_back
            reply, _ = await self._connection.call("close", {"stay": stay})
            stays = reply.get("stays", False)
            if not stays:
                await readable(self._pidfd)
        except ShimLost:
            await readable(self._pidfd)
            await asyncio.to_thread(self._remove_remains, self._bundle)
        remove_bundle(self._bundle)
        if stays and self._spare is not None:
            spare, self._spare = self._spare, None
            self._pool.give_back(spare.child, self._connection.renew())
            self._release()
        else:
            self._dispose()

    def detach(self) -> None:
        """Disconnect and leave shim and container as they are."""
        if self._pidfd >= 0:
            self._dispose()

    def _dispose(self) -> None:
        self._connection.close()
        if self._spare is not None:
            self._spare.child.close()
            self._spare = None
        self._release()

    def _release(self) -> None:
        os.close(self._pidfd)
        self._pidfd = -1
        self.drop_sandbox()
        self._on_closed(self)

    def _event(self, message: dict[str, Any], descriptors: list[int]) -> None:
        _close_all(descriptors)
        if message["event"] == "oom" and self.on_oom is not None:
            self.on_oom()


def remove_bundle(bundle: str) -> None:
    """Remove what its shim did not: usually nothing, else a handful of files on a tmpfs."""
    if os.path.lexists(bundle):
        shutil.rmtree(bundle, ignore_errors=True)


async def readable(descriptor: int) -> None:
    """Wait until a descriptor is readable; of a pidfd, until the process has ended."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    # A duplicate: several waits for one pidfd must not take each other's place in the selector.
    watched = os.dup(descriptor)
    loop.add_reader(watched, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(watched)
        os.close(watched)


def open_pidfd(pid: int, started: int) -> int:
    """A pidfd of exactly that process. Raises ProcessLookupError when it has ended."""
    pidfd = process.pidfd_open(pid)
    if not process.is_running(pid, started):
        os.close(pidfd)
        raise ProcessLookupError(3, f"process {pid} has ended")
    return pidfd
