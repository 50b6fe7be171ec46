"""The engine's side of the fork server.

::

    zygote = await Zygote.start(preload=["sampan.runtime.shim.main"])
    child = await zygote.fork("sampan.runtime.shim.main:main", {"id": …}, [descriptor])
    status = await child.wait()

A zygote that dies is replaced at the next fork. Its children live on; their `wait` then tells only *that* they ended.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from sampan.errors import SystemFailure
from sampan.linux import mount, process, sockets

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence


class ZygoteLost(SystemFailure):
    """The fork server died before it answered: nobody knows whether it forked. Ask again, with other descriptors."""


class Child:
    """A forked process. `pidfd` is ours until `close`."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._status: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int | None:
        """The exit code, -n after signal n; None when the zygote that knew it died first."""
        return await asyncio.shield(self._status)

    def kill(self, signal: int = 9) -> None:
        """Signal it, if it still exists. Never hits another process."""
        if self.pidfd >= 0:
            try:
                process.pidfd_send_signal(self.pidfd, signal)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        """Give up the handle, not the process."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _ended(self, status: int | None) -> None:
        if not self._status.done():
            self._status.set_result(None if status is None else os.waitstatus_to_exitcode(status))


class Zygote:
    """A running fork server, restarted when it is found dead."""

    def __init__(self, preload: Iterable[str]) -> None:
        self._preload = list(preload)
        self._socket: socket.socket | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._starting = asyncio.Lock()
        self._next_id = 0
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._children: dict[int, Child] = {}
        """By pid, until the zygote reports the end."""
        self._children_waiting: dict[int, Child] = {}
        """By request, until `fork` takes them."""
        self._outgoing: deque[tuple[dict[str, Any], list[int]]] = deque()
        self._closed = False

    @classmethod
    async def start(cls, preload: Iterable[str] = ()) -> Zygote:
        """Spawn the process; it imports `preload` before it answers the first request."""
        zygote = cls(preload)
        await zygote._ensure()
        return zygote

    @property
    def pid(self) -> int:
        """Process id of the present fork server. Raises SystemFailure when there is none."""
        if self._popen is None:
            raise SystemFailure("the fork server is not running")
        return self._popen.pid

    async def fork(self, entry: str, args: dict[str, Any], fds: Sequence[int] = ()) -> Child:
        """Fork a process that calls `entry` ("module:function") with `args` and its own copies of `fds`.

        `fds` stay open here. Raises SystemFailure when the process could not be made, ZygoteLost when that is not known.
        """
        reply = await self._request({"call": "fork", "entry": entry, "args": args}, fds)
        return self._children_waiting.pop(reply["id"])

    async def fork_lasting(self, entry: str, args: dict[str, Any], fds: Sequence[int] = ()) -> Child:
        """As `fork`, for a child that lives long: it keeps less memory to itself, and costs a little more time."""
        reply = await self._request({"call": "fork-lasting", "entry": entry, "args": args}, fds)
        return self._children_waiting.pop(reply["id"])

    async def preload(self, modules: Iterable[str]) -> None:
        """Import these before the next fork, once: what will be asked for often is not to import them each time."""
        wanted = [name for name in modules if name not in self._preload]
        if wanted:
            self._preload += wanted  # whoever takes its place has them too
            await self._request({"call": "preload", "modules": wanted}, [])

    async def close(self) -> None:
        """Stop the fork server. Its children stay."""
        self._closed = True
        self._lost()
        if self._popen is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._popen.wait)
            self._popen = None

    async def _request(self, message: dict[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        await self._ensure()
        self._next_id += 1
        message["id"] = self._next_id
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[self._next_id] = future
        # Duplicates: the caller may close its own while the request waits for room in the socket.
        self._outgoing.append((message, [os.dup(fd) for fd in fds]))
        self._flush()
        try:
            reply = await future
        except asyncio.CancelledError:
            orphan = self._children_waiting.pop(message["id"], None)
            if orphan is not None:
                orphan.kill()
                orphan.close()
            raise
        if reply.get("lost"):
            raise ZygoteLost("fork server: it died before it answered")
        if "error" in reply:
            raise SystemFailure(f"fork server: {reply['error']}")
        return reply

    async def _ensure(self) -> None:
        if self._socket is not None:
            return
        async with self._starting:
            if self._socket is not None:
                return
            if self._closed:
                raise SystemFailure("the fork server is closed")
            ours, theirs = sockets.pair()
            try:
                # posix_spawn-like (vfork) inside Popen: the engine's pages are not copied, its threads not forked.
                self._popen = await asyncio.get_running_loop().run_in_executor(
                    None, spawn_zygote, theirs.fileno(), self._preload
                )
            finally:
                theirs.close()
            ours.setblocking(False)
            self._socket = ours
            asyncio.get_running_loop().add_reader(ours, self._readable)

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._outgoing and self._socket is not None:
            message, descriptors = self._outgoing[0]
            try:
                sockets.send(self._socket, message, descriptors)
            except BlockingIOError:
                loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                self._lost()
                return
            self._outgoing.popleft()
            for descriptor in descriptors:
                os.close(descriptor)
        if self._socket is not None:
            loop.remove_writer(self._socket)

    def _readable(self) -> None:
        while self._socket is not None:
            try:
                message, descriptors = sockets.receive(self._socket)
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            if "exit" in message:
                child = self._children.pop(message["exit"], None)
                if child is not None:
                    child._ended(message["status"])
                continue
            future = self._replies.pop(message["id"])
            if "pid" in message:
                # Here and not in `fork`: the next message may already report the child's end.
                child = Child(message["pid"], descriptors[0])
                self._children[child.pid] = child
                if future.cancelled():
                    child.kill()
                    child.close()
                else:
                    self._children_waiting[message["id"]] = child
            if not future.cancelled():
                future.set_result(message)

    def _lost(self) -> None:
        """The process is gone (or to go): fail what is pending, watch its orphans through their pidfds."""
        loop = asyncio.get_running_loop()
        if self._socket is not None:
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        if self._popen is not None and not self._closed:
            loop.run_in_executor(None, self._popen.wait)
        for _, descriptors in self._outgoing:
            for descriptor in descriptors:
                os.close(descriptor)
        self._outgoing.clear()
        for future in self._replies.values():
            if not future.done():
                future.set_result({"lost": True})
        self._replies.clear()
        for child in self._children.values():
            _watch_orphan(loop, child)
        self._children.clear()


def _watch_orphan(loop: asyncio.AbstractEventLoop, child: Child) -> None:
    if child.pidfd < 0:
        child._ended(None)
        return
    watched = os.dup(child.pidfd)

    def ended() -> None:
        loop.remove_reader(watched)
        os.close(watched)
        child._ended(None)

    loop.add_reader(watched, ended)


def spawn_zygote(socket_fd: int, preload: Iterable[str]) -> subprocess.Popen[bytes]:
    """Execute the interpreter as a fork server whose end of the socket is `socket_fd`."""
    arguments = [sys.executable, "-I", "-m", "sampan.zygote", "--socket", str(socket_fd)]
    for module in preload:
        arguments += ["--preload", module]
    executable = protected_interpreter()
    try:
        return subprocess.Popen(
            arguments,
            # argv[0] stays the virtual environment's python: from it the interpreter finds its packages.
            executable=sys.executable if executable is None else f"/proc/self/fd/{executable}",
            pass_fds=(socket_fd,) if executable is None else (socket_fd, executable),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=_environment(),
        )
    finally:
        if executable is not None:
            os.close(executable)


def _environment() -> dict[str, str]:
    """Nothing of the engine's but Sampan's own variables: tests know the processes of their engines by one."""
    own = {name: value for name, value in os.environ.items() if name.startswith("SAMPAN_")}
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        **own,
    }


def protected_interpreter() -> int | None:
    """A descriptor of the interpreter's file that nobody can write through; None where the kernel has no means.

    CVE-2019-5736: a container that gets hold of /proc/PID/exe of a process of ours would open the interpreter on
    the host for writing. So the file is executed from a detached, read-only clone of its mount: whoever opens it
    from there gets EROFS, root or not.
    """
    try:
        clone = mount.clone_mount(os.path.realpath(sys.executable))
    except OSError:
        return None
    try:
        mount.mount_setattr(clone, set_attributes=mount.MOUNT_ATTR_RDONLY)
        return os.open(f"/proc/self/fd/{clone}", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    finally:
        os.close(clone)
