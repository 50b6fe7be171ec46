"""Over TCP with client certificates: streams that half-close, and strangers who are refused."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import docker
import pytest
from docker.tls import TLSConfig

import sampan
from buildkit_peer import BUILD_SECONDS, buildctl, docker_config
from certificates import Authority
from running_engine import RunningEngine

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * BUILD_SECONDS)]

Docker = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="session")
def certificates(authority: Authority) -> Path:
    """A client's that the engine knows."""
    return authority.issue("client")


@pytest.fixture
def cli(tls_engine: tuple[RunningEngine, str], certificates: Path) -> Docker:
    """The real docker CLI with --tlsverify."""
    running, address = tls_engine

    def run(
        *arguments: str, input: bytes = b"", with_certificates: Path = certificates
    ) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "DOCKER_HOST": address, "DOCKER_CERT_PATH": str(with_certificates)}
        return subprocess.run(
            ["docker", "--tlsverify", *arguments],
            input=input,
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )

    yield run
    running.remove_everything()


def test_run(cli: Docker) -> None:
    done = cli("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.returncode, done.stdout, done.stderr) == (5, b"out\n", b"err\n")


@pytest.mark.parametrize("size", [0, 1, 70_000, 20_000_000])
def test_input_that_ends_comes_back_whole(cli: Docker, size: int) -> None:
    """`cat` ends at the end of its input; everything after the client's close_notify must still arrive."""
    data = os.urandom(size)
    done = cli("run", "--rm", "-i", "busybox", "cat", input=data)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_output_after_the_input_s_end(cli: Docker) -> None:
    done = cli(
        "run",
        "--rm",
        "-i",
        "busybox",
        "sh",
        "-c",
        "cat > /dev/null; sleep 0.2; seq 100000",
        input=b"x" * 100_000,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"".join(b"%d\n" % number for number in range(1, 100_001))


def test_attach_and_exec(cli: Docker) -> None:
    cli("create", "-i", "--name", "held", "busybox", "sh", "-c", "cat; sleep 100")
    assert cli("start", "held").returncode == 0
    done = cli("exec", "-i", "held", "sh", "-c", "wc -c; exit 3", input=b"y" * 3_000_000)
    assert (done.returncode, done.stdout) == (3, b"3000000\n")
    client = subprocess.Popen(["true"])
    client.wait()
    assert cli("rm", "-f", "held").returncode == 0
    cli("create", "-i", "--name", "fed", "busybox", "cat")
    done = cli("start", "-ai", "fed", input=b"z" * 200_000)
    assert (done.returncode, len(done.stdout)) == (0, 200_000)


def test_logs_and_copies(cli: Docker, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(os.urandom(3_000_000))
    cli("create", "--name", "files", "busybox", "seq", "50000")
    assert cli("cp", str(data), "files:/data").returncode == 0
    assert cli("cp", "files:/data", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == data.read_bytes()
    assert cli("start", "-a", "files").returncode == 0
    assert cli("logs", "files").stdout == b"".join(b"%d\n" % number for number in range(1, 50_001))


@pytest.mark.parametrize("kind", ["none", "foreign", "server", "expired"])
def test_strangers_are_refused(
    kind: str, tls_engine: tuple[RunningEngine, str], authority: Authority, tmp_path: Path
) -> None:
    """No certificate, one of another authority, one not meant for clients, one out of date: no request is answered."""
    context = ssl.create_default_context(cafile=authority.certificate)
    if kind == "foreign":
        (tmp_path / "other").mkdir()
        directory = Authority(tmp_path / "other").issue("client")
    elif kind == "server":
        directory = authority.issue("wrong-purpose", server=True)
    elif kind == "expired":
        directory = authority.issue("expired", days=-1)
    if kind != "none":
        context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    port = int(tls_engine[1].rpartition(":")[2])
    answer = b""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as stream,
        ):
            stream.sendall(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = stream.recv(1000)
    except (ssl.SSLError, ConnectionError):
        pass
    assert answer == b""


def test_old_protocols_and_plain_text_are_refused(
    tls_engine: tuple[RunningEngine, str], authority: Authority
) -> None:
    port = int(tls_engine[1].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = plain.recv(1000)
        except ConnectionError:
            answer = b""
    assert b"200 OK" not in answer
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0


def test_docker_py_over_tls(
    tls_engine: tuple[RunningEngine, str], certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, address = tls_engine
    for bundle in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they go before what docker-py asks for
        monkeypatch.delenv(bundle, raising=False)
    tls = TLSConfig(
        client_cert=(str(certificates / "cert.pem"), str(certificates / "key.pem")),
        ca_cert=str(certificates / "ca.pem"),
        verify=True,
    )
    client = docker.DockerClient(base_url=address, tls=tls)
    try:
        assert client.containers.run("busybox", "echo hi", remove=True) == b"hi\n"
        container = client.containers.run("busybox", "sleep 100", detach=True)
        assert container.exec_run("echo there").output == b"there\n"
        assert b"".join(container.exec_run(["seq", "20000"], stream=True).output).count(b"\n") == 20_000
    finally:
        client.close()
        running.remove_everything()


def test_our_own_python_client_over_tls(
    tls_engine: tuple[RunningEngine, str], certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, address = tls_engine
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    with sampan.connect(address) as engine:
        result = engine.run("busybox", ["echo", "hi"])
    assert result.output in ("hi\n", b"hi\n")
    running.remove_everything()


def test_buildctl_over_tls(tls_engine: tuple[RunningEngine, str], certificates: Path, tmp_path: Path) -> None:
    """gRPC's Go library speaks HTTP/2 from the first byte and insists that ALPN says so."""
    running, address = tls_engine
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY word /\n")
    (tmp_path / "word").write_text("over tls")
    built = subprocess.run(
        [
            *(buildctl(), "--addr", address, "--tlscacert", certificates / "ca.pem"),
            *("--tlscert", certificates / "cert.pem", "--tlskey", certificates / "key.pem"),
            *("build", "--progress=plain", "--frontend=dockerfile.v0", "--output=type=image,name=built"),
            *(f"--local=context={tmp_path}", f"--local=dockerfile={tmp_path}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr + running.log[-2000:]
    assert running.docker("run", "--rm", "--net", "none", "built", "cat", "/word").stdout == "over tls"
    running.remove_everything()


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], "h2"), (["spdy/3"], None), ([], None)]
)
def test_who_offers_both_gets_the_api(
    tls_engine: tuple[RunningEngine, str],
    authority: Authority,
    certificates: Path,
    offered: list[str],
    chosen: str | None,
) -> None:
    context = ssl.create_default_context(cafile=authority.certificate)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    if offered:
        context.set_alpn_protocols(offered)
    port = int(tls_engine[1].rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as stream,
    ):
        assert stream.selected_alpn_protocol() == chosen
        if chosen != "h2":
            stream.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert stream.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_buildx_over_tls(cli: Docker, certificates: Path, tmp_path: Path) -> None:
    """It upgrades a request (`POST /grpc`, `POST /session`) on each connection."""
    configured = docker_config(tmp_path / "config")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text("FROM busybox\nCOPY . /app\nRUN echo built > /made\n")
    built = cli("--config", str(configured), "buildx", "build", "-t", "made", str(tmp_path / "app"))
    assert built.returncode == 0, built.stderr
    assert cli("run", "--rm", "--net", "none", "made", "cat", "/made").stdout == b"built\n"


@pytest.mark.parametrize(
    "missing", [("--tlscert",), ("--tlskey",), ("--tlscacert",)], ids=lambda names: "+".join(names)
)
def test_an_engine_without_its_files_does_not_start(
    missing: Sequence[str], authority: Authority, tmp_path: Path
) -> None:
    """--tlsverify with a file that is not there must not fall back to anything."""
    directory = tmp_path / "gone"
    running = RunningEngine(
        tmp_path / "engine",
        [
            "-H",
            "tcp://127.0.0.1:0",
            "--tlsverify",
            *(part for name in missing for part in (name, str(directory))),
        ],
    )
    with pytest.raises(AssertionError, match="did not start"):
        running.start()
