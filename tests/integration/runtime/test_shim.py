"""Containers under their shims: streams, execs, and who survives whose death."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from sampan.errors import Conflict
from sampan.linux import mount
from sampan.runtime.interface import LaunchError
from sampan.runtime.shimclient import SHIM_LOST, readable

from .containers import Bench, payload, process, read_all, unframe

if TYPE_CHECKING:
    from pathlib import Path

    from sampan.runtime.shimclient import ShimHandle

pytestmark = pytest.mark.root


def cgroup_directories(name: str) -> list[str]:
    """Where a cgroup of this name still exists, in any hierarchy."""
    return [
        f"/sys/fs/cgroup/{hierarchy}/docker/{name}"
        for hierarchy in os.listdir("/sys/fs/cgroup")
        if os.path.isdir(f"/sys/fs/cgroup/{hierarchy}/docker/{name}")
    ]


async def first_output(shim: ShimHandle, expected: bytes) -> Any:
    """Attach, start, and read until the program has said what shows that it runs."""
    stream = await shim.attach(stdin=True, stdout=True, stderr=True)
    await shim.start()
    seen = b""
    while expected not in seen:
        data = await stream.read()
        assert data, seen
        seen += data
    return stream


def test_output_exit_code_and_log(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        request = b.request(["sh", "-c", "echo out; echo err >&2; exit 3"])
        shim = await b.launcher.launch(request)
        stream = await shim.attach(stdin=False, stdout=True, stderr=True)
        await shim.start()
        assert unframe(await read_all(stream)) == {1: b"out\n", 2: b"err\n"}
        status = await shim.wait()
        assert (status.code, status.oom_killed, status.reason) == (3, False, "")
        with open(request["log"]["path"], encoding="utf-8") as file:
            logged = [json.loads(line) for line in file]
        assert {(line["stream"], line["log"]) for line in logged} == {
            ("stdout", "out\n"),
            ("stderr", "err\n"),
        }
        await shim.close()
        assert not os.path.exists(request["bundle"])
        assert cgroup_directories(shim.id) == []

    run(scenario)


def test_closed_shim_serves_the_next_container_and_keeps_nothing_of_the_last(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        pids, descriptors = [], []
        for turn in range(4):
            shim = await b.launch(["sh", "-c", f"echo {turn}; read line; echo $line"], stdin=True)
            stream = await shim.attach(stdin=True, stdout=True, stderr=True)
            await shim.start()
            handle, output = await shim.exec(
                {
                    "exec_id": "same",
                    "process": process(["sleep", "1000"]),  # type: ignore[typeddict-item]
                    "stdio": {"tty": False, "open_stdin": False, "stdin_once": False},
                },
                attach=(False, True, True),
            )
            assert output is not None
            read, write = os.pipe()
            await shim.keep("port", [read])
            os.close(read)
            await stream.write(b"end\n")
            assert unframe(await read_all(stream))[1] == f"{turn}\nend\n".encode()
            assert (await shim.wait()).code == 0
            await shim.close()
            assert (await handle.wait()).code == 137
            await output.close()
            # Nobody holds the reading end any more.
            with pytest.raises(BrokenPipeError):
                os.write(write, b"x")
            os.close(write)
            assert cgroup_directories(shim.id) == []
            while not (spares := b.launcher._pool._spares):
                await asyncio.sleep(0.005)
            pids.append(shim.pid)
            descriptors.append(len(os.listdir(f"/proc/{spares[-1].child.pid}/fd")))
        assert len(set(pids)) < len(pids)
        assert len(set(descriptors)) == 1

    run(scenario)


def test_parked_shim_sees_what_was_mounted_after_it_was_parked(run: Any, tmp_path: Path) -> None:
    async def scenario(b: Bench) -> None:
        while not b.launcher._pool._spares:
            await asyncio.sleep(0.005)
        source = tmp_path / "late"
        source.mkdir()
        mount.mount("sampan-test", str(source), "tmpfs")
        try:
            (source / "news").write_text("arrived")
            request = b.request(["cat", "/late/news"])
            request["spec"]["mounts"].append(
                {"destination": "/late", "type": "bind", "source": str(source), "options": ["rbind"]}
            )
            shim = await b.launcher.launch(request)
            stream = await shim.attach(stdin=False, stdout=True, stderr=True)
            await shim.start()
            assert unframe(await read_all(stream))[1] == b"arrived"
            await shim.close()
        finally:
            mount.umount(str(source), mount.MNT_DETACH)

    run(scenario)


def test_parked_and_fresh_shims_make_the_same_container(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        script = "cat /proc/self/cgroup; cat /proc/self/mountinfo | wc -l; ls /proc/self/fd; env; id"
        while not b.launcher._pool._spares:
            await asyncio.sleep(0.01)
        identity = "a" * 64
        spare = b.launcher._pool._spares[0].child.pid
        outputs = []
        for usual in (True, False):
            request = b.request(["sh", "-c", script])
            request["id"] = identity
            request["bundle"] = f"{b.config.exec_root}/shims/{identity}"
            request["spec"]["linux"]["cgroupsPath"] = f"/docker/{identity}"
            if not usual:
                b.launcher._is_usual = lambda launch: False  # type: ignore[method-assign]
            shim = await b.launcher.launch(request)
            assert (shim.pid == spare) is usual
            stream = await shim.attach(stdin=False, stdout=True, stderr=True)
            await shim.start()
            outputs.append(unframe(await read_all(stream)))
            await shim.close()
        assert outputs[0] == outputs[1]
        assert identity.encode() in outputs[0][1]

    run(scenario)


def test_failed_start_says_why_and_leaves_nothing(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        for command, kind in (("nonsense", "not-found"), ("/etc/passwd", "permission")):
            with pytest.raises(LaunchError) as caught:
                shim = await b.launch([command])
                try:
                    await shim.start()
                finally:
                    await shim.close()
            assert caught.value.kind == kind
        assert os.listdir(f"{b.config.exec_root}/shims") == []

    run(scenario)


@pytest.mark.parametrize("parked", [True, False])
def test_a_launch_may_be_called_off_at_any_moment(run: Any, parked: bool) -> None:
    """Also when the shim has made the container, and nobody has read so yet: nothing is waited for in vain, nothing stays."""

    async def scenario(b: Bench) -> None:
        for number in range(6):
            request = b.request(["sleep", "1000"], private_network=parked)
            launching = asyncio.ensure_future(b.launcher.launch(request))
            while not os.path.exists(request["bundle"]):
                await asyncio.sleep(0)
            await asyncio.sleep(number / 1000)
            time.sleep(0.1)  # the shim goes on, the loop does not: what it has answered lies unread
            launching.cancel()
            done, _ = await asyncio.wait({launching}, timeout=20)
            assert done, "it is still waiting"
            if not launching.cancelled():
                await launching.result().close()
            assert not cgroup_directories(request["id"])
            assert not os.path.exists(request["bundle"])

    run(scenario)


def test_terminal_and_resize(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sh"], tty=True, stdin=True)
        stream = await shim.attach(stdin=True, stdout=True, stderr=True)
        await shim.resize(33, 77)
        await shim.start()
        await stream.write(b"tty; stty size; exit 5\n")
        output = await read_all(stream)
        assert b"/dev/pts/0" in output
        assert b"33 77" in output
        assert (await shim.wait()).code == 5

    run(scenario)


def test_stdin_once_passes_the_end_on(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["md5sum"], stdin=True, once=True)
        stream = await shim.attach(stdin=True, stdout=True, stderr=True)
        await shim.start()
        await stream.write(b"x" * 3_000_000)
        await stream.close_stdin()
        assert payload(await read_all(stream)) == b"8e32e22642bddc89698e25a4e9bf528b  -\n"
        assert (await shim.wait()).code == 0

    run(scenario)


def test_stdin_stays_open_for_the_next_client(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["cat"], stdin=True, once=False)
        await shim.start()
        for word in (b"one\n", b"two\n"):
            stream = await shim.attach(stdin=True, stdout=True, stderr=False)
            await stream.write(word)
            assert payload(await stream.read()) == word
            await stream.close_stdin()
            assert await stream.read() == b""  # detached, as dockerd does
            await stream.close()
        await shim.kill(9)
        assert (await shim.wait()).code == 137

    run(scenario)


def test_slow_client_holds_the_container_and_loses_nothing(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sh", "-c", "seq 1 400000; echo done >&2"], log={"driver": "none"})
        slow = await shim.attach(stdin=False, stdout=True, stderr=True)
        other = await shim.attach(stdin=False, stdout=True, stderr=False)
        await shim.start()
        waiting = asyncio.create_task(shim.wait())
        reading = asyncio.create_task(read_all(other))
        done, _ = await asyncio.wait([waiting, reading], timeout=0.5)
        assert not done, "the container must be held up by the client that does not read"
        expected = b"".join(b"%d\n" % n for n in range(1, 400001))
        streams = unframe(await read_all(slow))
        assert streams == {1: expected, 2: b"done\n"}
        assert payload(await reading) == expected
        assert (await waiting).code == 0

    run(scenario)


def test_exec_shares_the_container(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sleep", "1000"])
        await shim.start()
        for prepared in (False, True):
            if prepared:
                await shim.prepare_exec()
            handle, stream = await shim.exec(
                {
                    "exec_id": f"e{prepared}",
                    "process": process(["sh", "-c", "cat; cat /proc/self/cgroup; cat /proc/1/comm; exit 4"]),  # type: ignore[typeddict-item]
                    "stdio": {"tty": False, "open_stdin": True, "stdin_once": True},
                },
                attach=(True, True, True),
            )
            assert stream is not None
            await stream.write(b"to the exec\n")
            await stream.close_stdin()
            output = unframe(await read_all(stream))[1]
            assert output.startswith(b"to the exec\n")
            # One line on v2, on v1 one for each hierarchy.
            lines = output.splitlines()[1:-1]
            assert sum(shim.id.encode() in line for line in lines) >= min(5, len(lines)) > 0
            assert output.endswith(b"sleep\n")
            assert (await handle.wait()).code == 4
        with pytest.raises(LaunchError) as caught:
            await shim.exec(
                {
                    "exec_id": "x",
                    "process": process(["nonsense"]),  # type: ignore[typeddict-item]
                    "stdio": {"tty": False, "open_stdin": False, "stdin_once": False},
                },
                attach=None,
            )
        assert caught.value.kind == "not-found", caught.value

    run(scenario)


def test_probe_gives_output_and_keeps_its_deadline(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sleep", "1000"])
        await shim.start()
        template: Any = process([])
        assert await shim.probe(
            {"args": ["sh", "-c", "echo ok; exit 1"], "timeout_ns": 10**10}, template
        ) == (
            1,
            b"ok\n",
        )
        code, _ = await shim.probe({"args": ["sleep", "100"], "timeout_ns": 10**8}, template)
        assert code == -1
        _, output = await shim.probe({"args": ["seq", "1", "5000"], "timeout_ns": 10**10}, template)
        assert len(output) == 4099 and output.endswith(b"...")  # there was more

    run(scenario)


def test_pause_processes_and_kill(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sh", "-c", "sleep 1000 & echo up; wait"])
        await first_output(shim, b"up")
        assert len(await shim.processes()) == 2
        await shim.pause()
        await shim.resume()
        await shim.kill(signal.SIGKILL)
        assert (await shim.wait()).code == 137
        with pytest.raises(Conflict):
            await shim.kill(signal.SIGTERM)

    run(scenario)


@pytest.mark.parametrize("kill_zygote", [False, True])
def test_engine_and_zygote_may_die_and_the_container_is_adopted(run: Any, kill_zygote: bool) -> None:
    async def scenario(b: Bench) -> None:
        request = b.request(["sh", "-c", "echo up; read x; echo got $x; exit 9"], stdin=True, once=False)
        shim = await b.launcher.launch(request)
        await first_output(shim, b"up")
        port, other = os.pipe()
        await shim.keep("ports", [port])
        await b.restart(kill_zygote=kill_zygote)
        adopted = await b.launcher.adopt(shim.id)
        assert adopted is not None
        assert (adopted.init_pid, adopted.init_start_time) == (shim.init_pid, shim.init_start_time)
        assert adopted.state == "running"
        (kept,) = await adopted.kept("ports")
        assert os.fstat(kept).st_ino == os.fstat(port).st_ino
        for descriptor in (kept, port, other):
            os.close(descriptor)
        stream = await adopted.attach(stdin=True, stdout=True, stderr=True)
        await stream.write(b"it\n")
        assert payload(await read_all(stream)) == b"got it\n"
        assert (await adopted.wait()).code == 9
        with open(request["log"]["path"], encoding="utf-8") as file:
            assert [json.loads(line)["log"] for line in file] == ["up\n", "got it\n"]
        await adopted.close()

    run(scenario)


def test_exit_while_no_engine_listened_is_known(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sh", "-c", "echo up; read x; exit 6"], stdin=True, once=False)
        stream = await first_output(shim, b"up")
        ended = os.pidfd_open(shim.init_pid)
        await stream.close()
        await b.restart()
        os.kill(shim.init_pid, signal.SIGKILL)
        await readable(ended)
        os.close(ended)
        adopted = await b.launcher.adopt(shim.id)
        assert adopted is not None
        status = await adopted.wait()
        assert status.code == 137
        assert await b.launcher.exit_record(shim.id) == status
        await adopted.close()

    run(scenario)


def test_killed_shim_takes_its_container_with_it(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sh", "-c", "sleep 1000 & echo up; wait"])
        await first_output(shim, b"up")
        ended = os.pidfd_open(shim.init_pid)
        os.kill(shim.pid, signal.SIGKILL)
        status = await shim.wait()
        assert (status.code, status.reason) == (137, SHIM_LOST)
        await asyncio.wait_for(readable(ended), 5)
        os.close(ended)
        await shim.close()
        assert await b.launcher.adopt(shim.id) is None
        assert cgroup_directories(shim.id) == []
        assert not os.path.exists(f"{b.config.exec_root}/shims/{shim.id}")

    run(scenario)


def test_parked_shims_leave_with_the_engine(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        while not b.launcher._pool._spares:
            await asyncio.sleep(0.01)
        pid = b.launcher._pool._spares[0].child.pid
        await b.launcher.close()
        assert not os.path.exists(f"/proc/{pid}")
        parents = ("/sys/fs/cgroup/memory/docker", "/sys/fs/cgroup/docker")
        left = [name for parent in parents if os.path.isdir(parent) for name in os.listdir(parent)]
        assert not [name for name in left if b.config.engine_id in name]

    run(scenario)


def test_shim_is_out_of_the_containers_reach(run: Any) -> None:
    """CVE-2016-9962, CVE-2024-21626, CVE-2020-15257: no descriptor of ours, no socket others could use, nothing to dump."""

    async def scenario(b: Bench) -> None:
        shim = await b.launch(["sleep", "1000"])
        await shim.start()
        assert sorted(os.listdir(f"/proc/{shim.init_pid}/fd"), key=int) == ["0", "1", "2"]
        socket_path = f"{b.config.exec_root}/shims/{shim.id}/shim.sock"
        assert os.stat(socket_path).st_mode & 0o777 == 0o600
        with open("/proc/net/unix", encoding="utf-8") as file:
            assert not any("@" in line and "sampan" in line for line in file)

    run(scenario)


def test_init_forwards_signals_reaps_and_passes_the_code_on(run: Any) -> None:
    async def scenario(b: Bench) -> None:
        # An orphan ends: without an init it would stay a zombie, and ps would show it.
        script = "trap 'exit 7' TERM; (sleep 0.01 &); sleep 0.2; ps | grep -c '[s]leep'; echo up; while :; do sleep 0.1; done"
        shim = await b.launch(["sh", "-c", script], init=True)
        stream = await first_output(shim, b"up")
        await shim.kill(signal.SIGTERM)
        assert (await shim.wait()).code == 7
        await stream.close()
        await shim.close()
        with pytest.raises(LaunchError) as caught:
            await (await b.launch(["nonsense"], init=True)).start()
        assert caught.value.kind == "not-found", caught.value
        code, output = await b.output_of(["sh", "-c", "echo $$"], init=True)
        assert (code, payload(output)) == (0, b"2\n")

    run(scenario)
