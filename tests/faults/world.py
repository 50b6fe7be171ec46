"""An engine under load, and what it has promised: every acknowledged object, held against what it really has.

A verb runs in a thread; when it returns, what it did is *acknowledged* and must exist from then on. When it dies with the
engine its object is *uncertain*: it may exist, whole, or not at all.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import sampan
from busybox_image import busybox_archive
from running_engine import RunningEngine
from sampan.errors import NotFound, SampanError

COUNTING = "httpd -h /etc -p 80; i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"
KEPT = 3
"""Objects of a kind, after which the next verb of it removes one."""
PATIENCE = 20.0

Failure = (SampanError, OSError, ValueError, EOFError)
"""What a client sees of an engine that dies: a connection that ends in the middle of anything."""


class World:
    """The engine's objects as they have been acknowledged."""

    def __init__(self, engine: RunningEngine, seed: int, directory: Path) -> None:
        self.engine = engine
        self.random = random.Random(seed)
        self._directory = directory
        self._count = 0
        self.seen: set[str] = set()
        """Ids of all containers that have ever been there."""
        self.containers: dict[str, str] = {}
        """Name → created, running, exited; "?" for uncertain."""
        self._lost: dict[str, int] = {}
        """Containers whose shim was killed in this round, and the process that ran in them."""
        self.networks: dict[str, bool] = {}
        """Name → whether it is certain; so for the next two."""
        self.volumes: dict[str, bool] = {}
        self.images: dict[str, bool] = {}
        self.exit_codes: dict[str, int] = {}
        """What programs are to end with, or have."""
        with engine.client() as client:
            client.networks.create("home")
            for name in ("keeper", "asker"):
                command = ["sh", "-c", COUNTING] if name == "keeper" else ["sleep", "100000"]
                options = {"ports": {80: ("127.0.0.1", None)}} if name == "keeper" else {}
                container = client.run(
                    "busybox",
                    command,
                    detach=True,
                    name=name,
                    network="home",
                    volumes={"treasure": "/treasure"},
                    **options,  # type: ignore[arg-type]
                )
                self.seen.add(container.id)
            keeper = client.containers.get("keeper")
            self._pid = keeper.inspect()["State"]["Pid"]
            self._port = keeper.port(80)
            keeper.write_file("/treasure/gold", b"gold")
        self._archive = busybox_archive("again:1")

    # --- verbs -----------------------------------------------------------------------------------------------------------

    def verbs(self) -> list[Callable[[sampan.Engine], None]]:
        """Those that make sense now."""
        states = set(self.containers.values())
        found = [
            *(self.create, self.create, self.run, self.commit, self.load, self.exec, self.copy),
            *(self.network, self.volume, self.exiting),
        ]
        if states & {"created", "exited"}:
            found += [self.start, self.start]
        if "running" in states:
            found += [self.stop, self.remove]
        if self.containers:
            found.append(self.remove)
        return found

    def _new(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _one(self, *states: str) -> str:
        return self.random.choice([name for name, state in self.containers.items() if state in states])

    def create(self, client: sampan.Engine) -> None:
        """With an anonymous volume that is filled from the image, a named one, a network and a port."""
        if len(self.containers) >= 2 * KEPT:
            return self.remove(client)
        name = self._new("box")
        self.containers[name] = "?"
        container = client.containers.create(
            "busybox",
            ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"],
            name=name,
            network=self.random.choice(["bridge", "home"]),
            ports={80: ("127.0.0.1", None)},
            volumes={"treasure": "/treasure"},
            config={"Volumes": {"/etc": {}}},
        )
        self.seen.add(container.id)
        self.containers[name] = "created"

    def run(self, client: sampan.Engine) -> None:
        self.create(client)
        if "created" in self.containers.values():
            self.start(client)

    def start(self, client: sampan.Engine) -> None:
        name = self._one("created", "exited")
        self.containers[name] = "?"
        client.containers.get(name).start()
        self.containers[name] = "ending" if name in self.exit_codes else "running"

    def stop(self, client: sampan.Engine) -> None:
        name = self._one("running")
        self.containers[name] = "?"
        client.containers.get(name).stop(timeout=5)
        self.containers[name] = "exited"

    def remove(self, client: sampan.Engine) -> None:
        name = self._one(*self.containers.values())
        self.containers[name] = "?"
        client.containers.get(name).remove(force=True, volumes=True)
        del self.containers[name]

    def exiting(self, client: sampan.Engine) -> None:
        """A program that ends by itself, about now or while no engine runs."""
        name, code = self._new("ender"), self.random.randrange(1, 100)
        seconds = self.random.choice(["0", "0.1", "0.3", "1"])
        self.containers[name] = "?"
        container = client.containers.create(
            "busybox", ["sh", "-c", f"seq 1 2000; sleep {seconds}; echo end; exit {code}"], name=name
        )
        self.seen.add(container.id)
        self.exit_codes[name] = code
        container.start()
        self.containers[name] = "ending"

    def commit(self, client: sampan.Engine) -> None:
        if self._drop(client, self.images, client.images.remove):
            return
        name = self._new("made")
        self.images[f"{name}:1"] = False
        client.containers.get("keeper").commit(name, "1")
        self.images[f"{name}:1"] = True

    def load(self, client: sampan.Engine) -> None:
        """An image that is there for a while, goes, comes again."""
        if "again:1" in self.images:
            self.images["again:1"] = False
            client.images.remove("again:1", force=True)
            del self.images["again:1"]
            return
        name = self._new("loaded")
        for tag, archive in (
            ("again:1", self._archive),
            (f"{name}:1", busybox_archive(f"{name}:1", {"etc/extra": os.urandom(1 << 18)})),
        ):
            self.images[tag] = False
            client.images.load(archive)
            self.images[tag] = True

    def network(self, client: sampan.Engine) -> None:
        if self._drop(client, self.networks, client.networks.remove):
            return
        name = self._new("net")
        self.networks[name] = False
        client.networks.create(name)
        self.networks[name] = True

    def volume(self, client: sampan.Engine) -> None:
        if self._drop(client, self.volumes, client.volumes.remove):
            return
        name = self._new("vol")
        self.volumes[name] = False
        client.volumes.create(name)
        self.volumes[name] = True

    def _drop(self, client: sampan.Engine, kept: dict[str, bool], remove: Callable[[str], None]) -> bool:
        """Remove one, when there are enough. True: done instead of the verb."""
        certain = [name for name, sure in kept.items() if sure]
        if len(certain) < KEPT:
            return False
        name = self.random.choice(certain)
        kept[name] = False
        remove(name)
        del kept[name]
        return True

    def exec(self, client: sampan.Engine) -> None:
        word = self._new("word")
        assert client.containers.get("keeper").exec(["echo", word]).check().output == f"{word}\n"

    def copy(self, client: sampan.Engine) -> None:
        keeper = client.containers.get("keeper")
        data = os.urandom(1 << 16)
        keeper.write_file("/tmp/copied", data)
        assert keeper.read_file("/tmp/copied") == data

    # --- shims -----------------------------------------------------------------------------------------------------------

    def shims(self) -> dict[str, int]:
        """Container id → its shim's pid, of all that have one."""
        found = {}
        folder = self.engine.exec_root / "shims"
        for id in os.listdir(folder):
            try:
                found[id] = int(json.loads((folder / id / "state.json").read_text())["pid"])
            except (FileNotFoundError, NotADirectoryError):
                continue
        return found

    def lose_a_shim(self) -> None:
        """Kill the shim of a running container that nobody will miss."""
        running = [name for name, state in self.containers.items() if state == "running"]
        if not running:
            return
        name = self.random.choice(running)
        try:
            with self.engine.client() as client:
                details = client.containers.get(name).inspect()
            os.kill(self.shims()[details["Id"]], signal.SIGKILL)
        except (NotFound, KeyError, ProcessLookupError):
            return  # the verb of this round was faster
        self._lost[name] = details["State"]["Pid"]
        if name in self.containers:
            self.containers[name] = "?"

    def _check_lost(self, client: sampan.Engine) -> None:
        for name in self._lost.keys() & self.containers.keys():
            try:
                container = client.containers.get(name)
            except NotFound:
                continue  # removed in the same moment
            deadline = time.monotonic() + PATIENCE
            while (state := container.inspect()["State"])["Pid"] == self._lost[name]:
                assert time.monotonic() < deadline, f"{name}: nobody noticed the death of its shim"
                time.sleep(0.02)
            assert state["Running"] or state["ExitCode"] in (137, 3), state
            self.containers[name] = "?"
        self._lost.clear()

    # --- the truth -------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Find out what became of the uncertain ones; each must be usable, or not there."""
        with self.engine.client() as client:
            self._check_lost(client)
            for name in [name for name, state in self.containers.items() if state == "?"]:
                try:
                    details = client.containers.get(name).inspect()
                except NotFound:
                    del self.containers[name]
                    continue
                self.seen.add(details["Id"])
                status = details["State"]["Status"]
                self.containers[name] = (
                    "ending" if name in self.exit_codes and status != "created" else status
                )
            for kept, look in (
                (self.networks, client.networks.inspect),
                (self.volumes, client.volumes.inspect),
                (self.images, client.images.inspect),
            ):
                for name in [name for name, sure in kept.items() if not sure]:
                    try:
                        look(name)
                        kept[name] = True
                    except NotFound:
                        del kept[name]

    def check(self) -> None:
        """Everything acknowledged is there and works."""
        with self.engine.client() as client:
            self._check_keeper(client)
            for name in self.networks:
                client.networks.inspect(name)
            for name in self.volumes:
                assert Path(client.volumes.inspect(name)["Mountpoint"]).is_dir()
            for name in self.images:
                client.images.inspect(name)
            for name, state in list(self.containers.items()):
                details = client.containers.get(name).inspect()
                if state == "ending":
                    self._check_end(client, name)
                else:
                    assert details["State"]["Status"] == state, (name, state, details["State"])
                    if state == "running":
                        os.kill(details["State"]["Pid"], 0)
            mountpoint = Path(client.volumes.inspect("treasure")["Mountpoint"])
            assert (mountpoint / "gold").read_bytes() == b"gold"

    def _check_keeper(self, client: sampan.Engine) -> None:
        keeper = client.containers.get("keeper")
        state = keeper.inspect()["State"]
        assert (state["Status"], state["Pid"]) == ("running", self._pid), state
        lines = [int(line) for line in keeper.logs(tail=400).split()]
        assert lines == list(range(lines[0], lines[0] + len(lines))), "lines of the keeper's log are lost"
        _answers(self._port)
        asked = client.containers.get("asker").exec(["nslookup", "keeper", "127.0.0.11"]).check().output
        assert "keeper" in asked

    def _check_end(self, client: sampan.Engine, name: str) -> None:
        container = client.containers.get(name)
        assert container.wait() == self.exit_codes[name], container.inspect()["State"]
        lines = container.logs().split()
        assert lines == [*(str(number).encode() for number in range(1, 2001)), b"end"]
        self.containers[name] = "exited"
        container.remove(volumes=True)
        del self.containers[name], self.exit_codes[name]

    def check_whole_log(self) -> None:
        """Of the container that has counted from the beginning."""
        with self.engine.client() as client:
            lines = client.containers.get("keeper").logs().split()
        assert lines == [str(number).encode() for number in range(len(lines))]

    def use_images(self) -> None:
        """Run something from each image."""
        with self.engine.client() as client:
            for name in self.images:
                assert client.run(name, ["echo", "usable"]).check().output == "usable\n"

    def interrupt(self, verb: Callable[[sampan.Engine], None], strike: Callable[[], None]) -> str:
        """Run a verb, meanwhile `strike`; what the verb died of, "" when it did not."""
        outcome: list[str] = []

        def run() -> None:
            try:
                with self.engine.client() as client:
                    verb(client)
                outcome.append("")
            except Failure as error:
                outcome.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=run)
        thread.start()
        strike()
        thread.join(60)
        assert not thread.is_alive(), "a client still waits for an engine that is gone"
        assert outcome, "the verb failed (see the thread's trace)"
        return outcome[0]


def _answers(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                sock.settimeout(5)
                sock.sendall(b"GET /passwd HTTP/1.0\r\n\r\n")
                if b"root:" in b"".join(iter(lambda: sock.recv(4096), b"")):
                    return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"the published port {port} does not answer"
        time.sleep(0.05)
