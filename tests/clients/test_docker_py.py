"""docker-py, the Python library that most tools stand on."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator

import docker
import pytest
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import IPAMConfig, IPAMPool, Mount

from running_engine import RunningEngine

pytestmark = pytest.mark.root


@pytest.fixture
def client(engine: RunningEngine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=engine.host)
    yield client
    client.close()


def archive_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_run_returns_output_and_raises_what_failed(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", "echo hi", remove=True) == b"hi\n"
    with pytest.raises(ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    assert (caught.value.exit_status, caught.value.stderr) == (3, b"bad\n")
    assert client.containers.list(all=True) == []


def test_errors_are_the_library_s_classes(client: docker.DockerClient) -> None:
    with pytest.raises(ImageNotFound):
        client.images.get("nosuch:1")
    with pytest.raises(NotFound):
        client.containers.get("nosuch")
    with pytest.raises(APIError) as caught:
        client.containers.create("busybox", name="a/b")
    assert caught.value.status_code == 400
    client.containers.create("busybox", name="taken")
    with pytest.raises(APIError) as caught:
        client.containers.create("busybox", name="taken")
    assert caught.value.status_code == 409


def test_a_container_s_life(client: docker.DockerClient) -> None:
    container = client.containers.run(
        "busybox",
        ["sh", "-c", "while :; do echo tick; sleep 0.05; done"],
        detach=True,
        name="first",
        labels={"a": "b"},
        environment={"X": "1"},
        ports={"80/tcp": None},
        mem_limit="64m",
        ulimits=[docker.types.Ulimit(name="nofile", soft=100, hard=200)],
        extra_hosts={"there": "10.9.9.9"},
        tmpfs={"/scratch": "size=1m"},
    )
    container.reload()
    assert container.status == "running"
    assert int(container.ports["80/tcp"][0]["HostPort"]) > 1024
    follow = container.logs(stream=True, follow=True)
    assert next(follow) == b"tick\n"
    follow.close()
    assert container.stats(stream=False)["memory_stats"]["limit"] == 64 << 20
    assert next(container.stats(stream=True, decode=True))["pids_stats"]["current"] >= 1
    # Not the first: numbers of processes begin anew, and a child may have a smaller one.
    assert any("while :" in " ".join(process) for process in container.top()["Processes"])
    assert [found.name for found in client.containers.list(filters={"label": "a=b"})] == ["first"]
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.rename("second")
    container.update(mem_limit="80m", memswap_limit="160m")
    container.restart(timeout=0)
    container.reload()
    assert (container.name, container.attrs["HostConfig"]["Memory"]) == ("second", 80 << 20)
    container.stop(timeout=0)
    assert container.wait()["StatusCode"] == 137
    container.remove()


def test_exec_in_all_its_shapes(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", "sleep 100", detach=True, environment={"X": "1"})
    done = container.exec_run("sh -c 'echo $X$Y; exit 4'", environment=["Y=2"])
    assert done == (4, b"12\n")
    assert container.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True).output == (b"o\n", b"e\n")
    assert b"".join(container.exec_run(["seq", "3"], stream=True).output) == b"1\n2\n3\n"
    assert container.exec_run("id -u", user="1000", workdir="/tmp").output == b"1000\n"
    stream = container.exec_run("cat", stdin=True, socket=True, tty=False).output
    stream._sock.sendall(b"abc\n")
    stream._sock.shutdown(1)
    assert stream.read(100) == b"\1\0\0\0\0\0\0\4abc\n"
    stream.close()


def test_an_attached_socket_both_ways(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", "cat", stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    stream._sock.sendall(b"hello\n")
    stream._sock.shutdown(1)
    assert container.wait(timeout=10)["StatusCode"] == 0
    assert stream.read(100) == b"\1\0\0\0\0\0\0\6hello\n"
    stream.close()


def test_a_terminal_has_its_size(client: docker.DockerClient) -> None:
    container = client.containers.create(
        "busybox", ["sh", "-c", "read go; stty size"], stdin_open=True, tty=True
    )
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    container.resize(20, 50)
    stream._sock.sendall(b"\n")
    container.wait(timeout=10)
    stream.close()
    assert container.logs().endswith(b"20 50\r\n")


def test_files_go_in_and_come_out(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", "sleep 100", detach=True)
    assert container.put_archive("/tmp", archive_of("file", b"content"))
    chunks, stat = container.get_archive("/tmp/file")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        member = tar.extractfile("file")
        assert member is not None
        assert member.read() == b"content"
    assert (stat["name"], stat["size"]) == ("file", 7)
    assert {"Path": "/tmp/file", "Kind": 1} in container.diff()
    image = container.commit("committed", "1", changes="ENV A=1")
    assert (
        client.containers.run("committed:1", "sh -c 'cat /tmp/file; echo $A'", remove=True) == b"content1\n"
    )
    client.images.remove(image.id, force=True)
    assert len(b"".join(container.export())) > 1 << 20


def test_networks(client: docker.DockerClient) -> None:
    pool = IPAMPool(subnet="10.199.7.0/24", gateway="10.199.7.1")
    network = client.networks.create(
        "net", driver="bridge", ipam=IPAMConfig(pool_configs=[pool]), labels={"n": "1"}
    )
    server = client.containers.run("busybox", "sleep 100", detach=True, network="net", name="server")
    assert b"1 packets received" in client.containers.run(
        "busybox", "ping -c 1 server", network="net", remove=True
    )
    network.reload()
    assert [found.name for found in network.containers] == ["server"]
    network.disconnect(server)
    network.connect(server, aliases=["other"], ipv4_address="10.199.7.9")
    out = client.containers.run("busybox", "ping -c 1 other", network="net", remove=True)
    assert b"(10.199.7.9)" in out
    with pytest.raises(APIError):
        network.remove()
    server.remove(force=True)
    network.remove()
    assert client.networks.list(names=["net"]) == []


def test_volumes(client: docker.DockerClient) -> None:
    volume = client.volumes.create("data", labels={"k": "v"})
    client.containers.run(
        "busybox", "sh -c 'echo 1 > /d/f'", volumes={"data": {"bind": "/d", "mode": "rw"}}, remove=True
    )
    mount = Mount(target="/d", source="data", read_only=True)
    assert client.containers.run("busybox", "cat /d/f", mounts=[mount], remove=True) == b"1\n"
    assert [found.name for found in client.volumes.list(filters={"label": "k=v"})] == ["data"]
    volume.remove()
    assert client.volumes.prune()["SpaceReclaimed"] == 0


def test_images(client: docker.DockerClient) -> None:
    image = client.images.get("busybox")
    saved = b"".join(image.save(named=True))
    assert image.tag("again", "x")
    client.images.remove("again:x")
    assert [loaded.id for loaded in client.images.load(saved)] == [image.id]
    assert image.history()[0]["CreatedBy"] == "busybox-static"
    assert ["busybox:latest"] in [found.tags for found in client.images.list()]


def test_events_arrive_in_order(client: docker.DockerClient) -> None:
    stream = client.events(decode=True, filters={"type": "container"})
    seen: list[str] = []

    def listen() -> None:
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    listener = threading.Thread(target=listen)
    listener.start()
    client.containers.run("busybox", "true", remove=True)
    listener.join(10)
    stream.close()
    assert seen == ["create", "start", "die", "destroy"]


def test_what_the_engine_says_about_itself(client: docker.DockerClient) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"] >= "1.51"
    assert client.info()["OSType"] == "linux"
    assert "ImageUsage" in client.df()  # `Images` until API 1.52
    assert client.containers.prune()["SpaceReclaimed"] == 0
