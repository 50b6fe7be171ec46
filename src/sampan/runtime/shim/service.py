"""What each call of the protocol does. One `Service` per shim process."""

from __future__ import annotations

import contextlib
import os
import traceback
from typing import TYPE_CHECKING, Any

from sampan.cgroups import CgroupError
from sampan.errors import reason_of
from sampan.linux import pages, process
from sampan.runtime.interface import LaunchError
from sampan.runtime.shim import parking, record
from sampan.runtime.shim.container import Container
from sampan.runtime.shim.execs import Execs
from sampan.runtime.shim.foreign import ForeignRuntime
from sampan.runtime.shim.foreign_execs import ForeignExecs
from sampan.runtime.shim.parking import Parked
from sampan.runtime.shim.protocol import VERSION, Connection, Listener, Refused, Request

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sampan.runtime.interface import LaunchHead
    from sampan.runtime.shim.loop import Loop
    from sampan.runtime.shim.maker import Crew, Maker
    from sampan.runtime.shim.parking import Site
    from sampan.runtime.shim.supervised import Supervised


LIVES = 200
"""Containers that one shim serves: what a busy one has left in its heap does not stay for ever."""


def count_descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def only_children(expected: list[int]) -> bool:
    """Whether there are no children but these; those that have ended are reaped."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return not expected
    try:
        return set(process.children()) == set(expected)
    except FileNotFoundError:
        return False


class Service:
    """Answers engines' requests for the one container of this process."""

    def __init__(self, loop: Loop, site: Site, crew: Crew, at_rest: int) -> None:
        """`at_rest`: how many descriptors are open in this process without container, stub and makers."""
        self._loop = loop
        self._site = site
        self._at_rest = at_rest
        self._crew = crew
        self._crew.on_lost = self._maker_lost
        self._crew.on_alone = self._come_to_rest
        self._parked: Parked | None = None
        self._making: list[str] = []
        """Cgroups that exist, or may, while something is being made in them."""
        self._lives = 0
        self._launching = False
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

    def park(self, cgroup: str) -> None:
        """Get ready for a container, and tell the engine with an event; leave when that fails."""

        def parked(error: LaunchError | None) -> None:
            if error is not None:
                self._give_up()
                return
            assert self._parked is not None
            for connection in list(self._connections):
                connection.send({"event": "parked"}, list(self._parked.sandbox))

        self._park(cgroup, parked)

    def _park(self, cgroup: str, then: Callable[[LaunchError | None], None]) -> None:
        maker = self._crew.take()
        self._making = [cgroup]

        def answered(error: LaunchError | None, answer: dict[str, Any], made: dict[str, int]) -> None:
            if error is None:
                self._parked = Parked(self._site, maker, cgroup, answer["pid"], made)
                self._making = []
            then(error)

        maker.ask({"call": "park", "cgroup": cgroup}, (), answered)

    def _maker_lost(self, maker: Maker) -> None:
        if self._parked is not None and self._parked.maker is maker:
            # The stub has ended with it: we are of no use any more, which the engine sees by our end.
            self._give_up()

    def _come_to_rest(self) -> None:
        """The container runs, and nothing is to be done for it: give back what memory that has cost."""
        if self._container is not None:
            with contextlib.suppress(OSError):
                pages.give_back()

    def _closed(self, connection: Connection) -> None:
        self._connections.remove(connection)
        if self._container is None and not self._connections and not self._launching:
            # Parked, and the engine is gone: nobody will ever want us.
            self._give_up()

    def _give_up(self) -> None:
        self._end_remains()
        self._loop.stop()

    def _end_remains(self) -> None:
        """End makers and stubs, and remove the cgroups of what was not finished."""
        self._crew.close()
        parked, self._parked = self._parked, None
        if parked is not None:
            parked.release()
        parking.end_children()
        for path in self._making:
            cgroup = self._site.layout.cgroup(path)
            try:
                cgroup.kill()
                cgroup.delete()
            except CgroupError:
                pass
        self._making = []

    def _request(self, connection: Connection, request: Request) -> None:
        message = request.message
        call = self._calls.get(message.get("call", ""))
        try:
            if call is None:
                raise Refused("unknown-call", f"unknown call {message.get('call')!r}")
            call(request, message)
        except Refused as error:
            request.refuse(error.kind, str(error))
        except LaunchError as error:
            request.refuse(f"launch:{error.kind}", str(error))
        except CgroupError as error:
            request.refuse("failed", str(error))
        except OSError as error:
            request.refuse("failed", f"{error.filename or message['call']}: {reason_of(error)}")
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
        if self._launching:
            raise Refused("wrong-state", "this shim is making a container")
        head: LaunchHead = message["head"]
        (launch,) = request.take_descriptors()
        try:
            self._listener = Listener(self._loop, head["bundle"], self.accept)
            container = Container(self._loop, self._site, head)
            maker = None
            if not head["foreign"]:
                maker = self._parked.maker if self._parked is not None else self._crew.take()
        except BaseException:
            os.close(launch)
            self._stop_listening()
            # The engine reads the error, closes the connection, and with that ends us.
            raise
        if maker is None:
            self._launch_foreign(container, launch)
            self._call_hello(request, message)
            return
        parked, self._parked = self._parked, None
        self._making = [head["cgroup"]]
        if parked is not None and parked.cgroup is not None:
            self._making.append(parked.cgroup.path)
        self._launching = True

        def made(error: LaunchError | None) -> None:
            self._launching = False
            if error is not None:
                self._launch_failed(request, parked, error)
                return
            self._crew.release(maker)
            self._making = []
            self._keep(container, Execs(self._loop, container, self._crew))
            self._call_hello(request, message)

        container.make(maker, launch, parked, made)
        os.close(launch)

    def _launch_foreign(self, container: Container, launch: int) -> None:
        try:
            container.make_foreign(launch)
        except BaseException:
            self._stop_listening()
            raise
        finally:
            os.close(launch)
        assert isinstance(container.runtime, ForeignRuntime)
        self._keep(container, ForeignExecs(self._loop, container, self._crew, container.runtime))

    def _keep(self, container: Container, execs: Execs) -> None:
        container.on_oom = self._oom
        self._container = container
        self._execs = execs

    def _launch_failed(self, request: Request, parked: Parked | None, error: LaunchError) -> None:
        self._stop_listening()
        self._parked = parked
        self._end_remains()
        request.refuse(f"launch:{error.kind}", str(error))
        if not self._connections:
            self._loop.stop()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

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
        container = self._of_container()
        if self._execs is not None:
            self._execs.drop_spare()
        container.runtime.pause()
        request.reply()

    def _call_resume(self, request: Request, message: dict[str, Any]) -> None:
        self._of_container().runtime.resume()
        request.reply()

    def _call_update(self, request: Request, message: dict[str, Any]) -> None:
        self._of_container().runtime.update(message["resources"])
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
        self._stop_listening()
        if self._container is not None:
            record.remove_bundle(self._container.bundle)
        if message.get("stay") and self._forget_container(request):
            request.reply({"stays": True})
            return
        self._end_remains()
        request.reply({"stays": False})
        self._loop.stop()

    def _forget_container(self, request: Request) -> bool:
        """Be as after the fork; whether that went without remainder.

        A descriptor or child of the old container must never get near the next one: a shim with one too many ends.
        """
        if self._container is not None and isinstance(self._container.runtime, ForeignRuntime):
            return False
        self._lives += 1
        for descriptors in self._kept.values():
            for descriptor in descriptors:
                os.close(descriptor)
        self._kept.clear()
        for connection in list(self._connections):
            if not request.is_from(connection):
                connection.close()
        self._loop.forget_timers()
        self._container = self._execs = None
        makers = self._crew.pids
        return (
            self._lives < LIVES
            and only_children(makers)
            and count_descriptors() == self._at_rest + len(makers)
        )

    def _call_park(self, request: Request, message: dict[str, Any]) -> None:
        if self._container is not None or self._parked is not None or self._launching:
            raise Refused("wrong-state", "this shim is in use")

        def parked(error: LaunchError | None) -> None:
            if error is not None:
                request.refuse("failed", str(error))
                self._give_up()
                return
            assert self._parked is not None
            request.reply({}, list(self._parked.sandbox))

        self._park(message["cgroup"], parked)

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
