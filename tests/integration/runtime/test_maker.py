"""The process that makes containers for a shim: it goes when it is not wanted, and nothing but its work fails with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sampan.errors import SystemFailure
from sampan.runtime.interface import LaunchError
from sampan.runtime.shim.maker import LOST
from sampan.runtime.shimclient import readable

from .containers import Bench, process, read_all, unframe

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.runtime.shimclient import ShimHandle

pytestmark = pytest.mark.root


def makers(shim: int) -> list[int]:
    """The living makers of a shim."""
    children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
    return [int(pid) for pid in children if _is_maker(pid)]


def _is_maker(pid: str) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    # A stub bears its maker's name for a moment, but lives in a pid namespace of its own.
    return (
        fields["Name"] == "sampan-maker"
        and len(fields["NSpid"].split()) == 1
        and not fields["State"].startswith("Z")
    )


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def parked(b: Bench) -> int:
    """A parked shim's pid."""
    await until(lambda: b.launcher._pool._spares)
    return b.launcher._pool._spares[0].child.pid


def cgroups_of(b: Bench, *names: str) -> list[str]:
    """Cgroups of these names, and this launcher's parked ones."""
    found = []
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        docker = hierarchy / "docker"
        if docker.is_dir():
            found += [
                name.name
                for name in docker.iterdir()
                if name.name in names or b.config.engine_id in name.name
            ]
    return found


def an_exec(name: str, *command: str) -> Any:
    return {
        "exec_id": name,
        "process": process(list(command)),
        "stdio": {"tty": False, "open_stdin": False, "stdin_once": False},
    }


async def output_of_exec(shim: Any, name: str) -> bytes:
    handle, stream = await shim.exec(an_exec(name, "echo", name), attach=(False, True, True))
    output = unframe(await read_all(stream))[1]
    assert (await handle.wait()).code == 0
    return output


def test_maker_leaves_a_running_container_and_comes_back_for_an_exec(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sleep", "1000"])
        await shim.start()
        assert len(makers(shim.pid)) == 1
        await until(lambda: not makers(shim.pid))
        assert await output_of_exec(shim, "one") == b"one\n"
        assert len(makers(shim.pid)) == 1
        await until(lambda: not makers(shim.pid))
        await shim.kill(9)
        assert (await shim.wait()).code == 137

    run(scenario)


def test_each_of_several_execs_at_once_has_a_maker(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sleep", "1000"])
        await shim.start()
        names = [f"exec{number}" for number in range(6)]
        outputs = await asyncio.gather(*(output_of_exec(shim, name) for name in names))
        assert outputs == [f"{name}\n".encode() for name in names]
        await until(lambda: not makers(shim.pid))
        await shim.close()

    run(scenario)


def test_killed_maker_of_a_parked_shim_costs_that_shim(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        spare = await parked(b)
        ended = os.pidfd_open(spare)
        os.kill(makers(spare)[0], signal.SIGKILL)
        await readable(ended)
        os.close(ended)
        shim = await b.launch(["true"])
        assert shim.pid != spare
        await shim.start()
        assert (await shim.wait()).code == 0
        await shim.close()
        await b.launcher.close()
        assert cgroups_of(b, shim.id) == []

    run(scenario)


@pytest.mark.parametrize("victim", ["maker", "shim"])
def test_killed_before_it_makes_the_container(run: Any, victim: str) -> None:
    async def scenario(b: Bench) -> None:
        spare = await parked(b)
        (maker,) = makers(spare)
        os.kill(maker, signal.SIGSTOP)
        request = b.request(["true"])
        launching = asyncio.create_task(b.launcher.launch(request))
        await until(lambda: os.path.exists(f"{request['bundle']}/shim.sock"))
        os.kill(maker if victim == "maker" else spare, signal.SIGKILL)
        shim = await launching  # by another one
        await shim.start()
        assert (await shim.wait()).code == 0
        await shim.close()
        assert request["id"] not in cgroups_of(b, request["id"])

    run(scenario)


@pytest.mark.parametrize("victim", ["maker", "shim"])
def test_killed_while_it_makes_the_container(run: Any, victim: str, tmp_path: Path) -> None:
    async def scenario(b: Bench) -> None:
        request = b.request(["true"])
        up, down = tmp_path / "up", tmp_path / "down"
        os.mkfifo(up)
        os.mkfifo(down)
        # The maker waits for this hook, the stub for the maker.
        command = {"path": "/bin/sh", "args": ["sh", "-c", f"echo up > {up}; read x < {down}"]}
        request["spec"]["hooks"] = {"createRuntime": [command]}  # type: ignore[typeddict-unknown-key]
        spare = await parked(b)
        (maker,) = makers(spare)
        launching = asyncio.create_task(b.launcher.launch(request))
        with open(up, "r+b", buffering=0) as said, open(down, "r+b", buffering=0) as answer:
            await readable(said.fileno())
            assert said.readline() == b"up\n"
            await fails_and_leaves_nothing(b, launching, request, {"maker": maker, "shim": spare}, victim)
            answer.write(b"go on\n")

    run(scenario)


async def fails_and_leaves_nothing(
    b: Bench, launching: asyncio.Task[Any], request: Any, pids: dict[str, int], victim: str
) -> None:
    children = Path(f"/proc/{pids['shim']}/task/{pids['shim']}/children").read_text().split()
    ended = [os.pidfd_open(int(pid)) for pid in [*children, pids["shim"]]]
    os.kill(pids[victim], signal.SIGKILL)
    expected = LaunchError if victim == "maker" else SystemFailure
    with pytest.raises(expected, match=LOST if victim == "maker" else "shim ended"):
        await launching
    for pidfd in ended:
        await asyncio.wait_for(readable(pidfd), 5)
        os.close(pidfd)
    assert not os.path.exists(request["bundle"])
    assert request["id"] not in cgroups_of(b, request["id"])
    # And the next one is none the worse.
    assert await b.output_of(["true"]) == (0, b"")


def test_killed_maker_of_an_exec_costs_that_exec(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sleep", "1000"])
        await shim.start()
        await until(lambda: not makers(shim.pid))
        await shim.prepare_exec()
        await until(lambda: makers(shim.pid))
        (maker,) = makers(shim.pid)
        os.kill(maker, signal.SIGSTOP)
        starting = asyncio.create_task(shim.exec(an_exec("lost", "echo", "lost"), attach=None))
        # Answered after the exec was begun: the shim works, whatever its maker does.
        assert shim.init_pid in await shim.processes()
        os.kill(maker, signal.SIGKILL)
        with pytest.raises(LaunchError, match=LOST):
            await starting
        assert await output_of_exec(shim, "next") == b"next\n"
        await until(lambda: not makers(shim.pid))
        assert await shim.processes() == [shim.init_pid]
        await shim.close()

    run(scenario)


def test_what_is_ready_for_an_exec_does_not_stand_in_the_way_of_a_pause(run: Any) -> None:
    """It would be frozen in the container's cgroup, where no signal ends it: whoever waits for its end waits for ever."""

    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sleep", "1000"])
        await shim.start()
        await shim.prepare_exec()
        while len(await shim.processes()) < 2:
            await asyncio.sleep(0.01)
        await shim.pause()
        assert await shim.processes() == [shim.init_pid]
        await shim.resume()
        assert await output_of_exec(shim, "one") == b"one\n"
        await shim.close()

    run(scenario)


def test_container_closed_while_an_exec_starts(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sleep", "1000"])
        await shim.start()
        await shim.prepare_exec()
        await until(lambda: makers(shim.pid))
        (maker,) = makers(shim.pid)
        os.kill(maker, signal.SIGSTOP)
        starting = asyncio.create_task(shim.exec(an_exec("late", "echo", "late"), attach=None))
        await shim.processes()
        closing = asyncio.create_task(shim.close())
        os.kill(maker, signal.SIGCONT)
        await closing
        with pytest.raises((LaunchError, SystemFailure)):
            await starting
        assert cgroups_of(b, shim.id) == [] or all(b.config.engine_id in n for n in cgroups_of(b, shim.id))

    run(scenario)


def test_shim_at_rest_gives_memory_back_and_works_on(run: Any) -> None:
    def own(pid: int) -> int:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_Dirty"))

    async def after_an_exec(shim: ShimHandle, number: int) -> int:
        while True:
            assert await output_of_exec(shim, f"exec{number}") == f"exec{number}\n".encode()
            memory = own(shim.pid)
            if makers(shim.pid):
                return memory
            # On a slow machine it has come to rest already, which is not what was to be measured.

    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sh", "-c", "while read line; do echo $line; done"], stdin=True, once=False)
        stream = await shim.attach(stdin=True, stdout=True, stderr=True)
        await shim.start()
        given_back = False
        for number in range(6):
            await stream.write(b"line\n")
            assert unframe(await stream.read())[1] == b"line\n"
            busy = await after_an_exec(shim, number)
            await until(lambda: not makers(shim.pid))
            # On a very slow machine the helper may be late: then the next rest does it.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(until(lambda busy=busy: own(shim.pid) < 0.9 * busy), 5)  # type: ignore[misc]
            given_back = own(shim.pid) < 0.9 * busy
            if given_back:
                break
        assert given_back
        await stream.write(b"last\n")
        assert unframe(await stream.read())[1] == b"last\n"
        await shim.kill(9)
        assert (await shim.wait()).code == 137
        await stream.close()

    run(scenario)
