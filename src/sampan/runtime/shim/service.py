"""What each call of the protocol does. One `Service` per shim process."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any

from sampan.cgroups import CgroupError
from sampan.runtime.interface import LaunchError
from sampan.runtime.shim.container import Container
from sampan.runtime.shim.execs import Execs
from sampan.runtime.shim.protocol import VERSION, Connection, Listener, Refused, Request

if TYPE_CHECKING:
    import socket

    from sampan.cgroups import Layout
    from sampan.runtime.shim.loop import Loop
    from sampan.runtime.shim.parking import Parked
    from sampan.runtime.shim.supervised import Supervised


class Service:
    """Answers engines' requests for the one container of this process."""

    def __init__(self, loop: Loop, layout: Layout, parked: Parked | None, seccomp_cache: str) -> None:
        self._seccomp_cache = seccomp_cache
        self._loop = loop
        self._layout = layout
        self._parked = parked
        self._container: Container | None = None
        self._execs: Execs | None = None
        self._listener: Listener | None = None
        self._connections: list[Connection] = []
        self._kept: dict[str, list[int]] = {}
        self._calls = {name[6:]: getattr(self, name) for name in dir(self) if name.startswith("_call_")}

    def accept(self, sock: socket.socket) -> None:
        """Serve one more connection."""
        connection = Connection(self._loop, sock, self._request)
        connection.on_closed = self._closed
        self._connections.append(connection)
        if self._parked is not None and self._parked.sandbox is not None and self._container is None:
            connection.send({"event": "parked"}, list(self._parked.sandbox))

    def _closed(self, connection: Connection) -> None:
        self._connections.remove(connection)
        if self._container is None and not self._connections:
            # Parked, and the engine is gone: nobody will ever want us.
            self._give_up()

    def _give_up(self) -> None:
        if self._parked is not None:
            self._parked.release()
        self._loop.stop()

    def _request(self, connection: Connection, request: Request) -> None:
        call = self._calls.get(request.message.get("call", ""))
        try:
            if call is None:
                raise Refused("unknown-call", f"unknown call {request.message.get('call')!r}")
            call(request, request.message)
        except Refused as error:
            request.refuse(error.kind, str(error))
        except LaunchError as error:
            request.refuse(f"launch:{error.kind}", str(error))
        except (CgroupError, OSError) as error:
            request.refuse("failed", str(error))
        except Exception as error:
            traceback.print_exc()
            request.refuse("failed", f"{type(error).__name__}: {error}")

    # --- the container

    def _call_hello(self, request: Request, message: dict[str, Any]) -> None:
        if self._container is None:
            request.reply({"version": VERSION, "state": "empty", "pid": os.getpid()})
        else:
            request.reply({"version": VERSION} | self._container.describe())

    def _call_launch(self, request: Request, message: dict[str, Any]) -> None:
        if self._container is not None:
            raise Refused("wrong-state", "this shim has a container already")
        launch = message["launch"]
        self._listener = Listener(self._loop, launch["bundle"], self.accept)
        parked, self._parked = self._parked, None
        try:
            container = Container(self._loop, self._layout, launch, parked, self._seccomp_cache)
        except BaseException:
            self._listener.close()
            # The engine reads the error, closes the connection, and with that ends us.
            raise
        container.on_oom = self._oom
        self._container = container
        self._execs = Execs(self._loop, container)
        self._call_hello(request, message)

    def _call_sandbox(self, request: Request, message: dict[str, Any]) -> None:
        sandbox = self._of_container().runtime.sandbox
        if sandbox is None:
            raise Refused("no-sandbox", "container has no network namespace of its own")
        request.reply({}, list(sandbox))

    def _call_start(self, request: Request, message: dict[str, Any]) -> None:
        self._of_container().start()
        request.reply()

    def _call_wait(self, request: Request, message: dict[str, Any]) -> None:
        self._process(message).wait(request)

    def _call_kill(self, request: Request, message: dict[str, Any]) -> None:
        if message.get("all"):
            self._of_container().runtime.kill_all(message["signal"])
        else:
            self._process(message).kill(message["signal"])
        request.reply()

    def _call_resize(self, request: Request, message: dict[str, Any]) -> None:
        self._process(message).resize(message["rows"], message["columns"])
        request.reply()

    def _call_attach(self, request: Request, message: dict[str, Any]) -> None:
        pump = self._of_container().pump
        (descriptor,) = request.take_descriptors()
        pump.attach(descriptor, stdin=message["stdin"], stdout=message["stdout"], stderr=message["stderr"])
        request.reply()

    def _call_pause(self, request: Request, message: dict[str, Any]) -> None:
        self._of_container().runtime.cgroup.freeze()
        request.reply()

    def _call_resume(self, request: Request, message: dict[str, Any]) -> None:
        self._of_container().runtime.cgroup.thaw()
        request.reply()

    def _call_update(self, request: Request, message: dict[str, Any]) -> None:
        self._of_container().runtime.cgroup.update(message["resources"])
        request.reply()

    def _call_processes(self, request: Request, message: dict[str, Any]) -> None:
        request.reply({"pids": self._of_container().runtime.cgroup.processes()})

    def _call_reopen_logs(self, request: Request, message: dict[str, Any]) -> None:
        self._of_container().reopen_log()
        request.reply()

    def _call_close(self, request: Request, message: dict[str, Any]) -> None:
        if self._execs is not None:
            self._execs.close()
        if self._container is not None:
            self._container.close()
        if self._listener is not None:
            self._listener.close()
        request.reply()
        self._loop.stop()

    # --- further processes

    def _call_prepare_exec(self, request: Request, message: dict[str, Any]) -> None:
        self._running().prepare()
        request.reply()

    def _call_exec(self, request: Request, message: dict[str, Any]) -> None:
        attach = message.get("attach")
        descriptors = request.take_descriptors()
        self._running().start(
            request,
            message["launch"],
            tuple(attach) if attach else None,
            descriptors[0] if descriptors else None,
        )

    def _call_probe(self, request: Request, message: dict[str, Any]) -> None:
        self._running().probe(request, message["probe"], message["process"])

    # --- descriptors for an engine to come

    def _call_keep(self, request: Request, message: dict[str, Any]) -> None:
        for descriptor in self._kept.pop(message["name"], []):
            os.close(descriptor)
        self._kept[message["name"]] = request.take_descriptors()
        request.reply()

    def _call_kept(self, request: Request, message: dict[str, Any]) -> None:
        request.reply({}, self._kept.get(message["name"], []))

    # ---

    def _of_container(self) -> Container:
        if self._container is None:
            raise Refused("wrong-state", "this shim has no container yet")
        return self._container

    def _running(self) -> Execs:
        container = self._of_container()
        if container.state != "running" or self._execs is None:
            raise Refused("not-running", "container is not running")
        return self._execs

    def _process(self, message: dict[str, Any]) -> Supervised:
        exec_id = message.get("exec_id")
        container = self._of_container()
        if exec_id is None:
            return container.init
        if self._execs is None:
            raise Refused("no-exec", f"no exec {exec_id}")
        return self._execs.get(exec_id)

    def _oom(self) -> None:
        for connection in list(self._connections):
            connection.send({"event": "oom"})
