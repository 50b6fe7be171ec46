"""Network namespaces for tests: made by a thread, kept alive by descriptors, entered with nsenter."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from pathlib import Path

from sampan.networks.interface import ContainerName, SandboxFiles, SandboxRequest
from sampan.runtime.interface import Sandbox

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A fresh network namespace with sockets inside, as a shim gives them."""

    def __init__(self) -> None:
        found: list[Sandbox] = []

        def enter() -> None:
            if _libc.unshare(_CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            netns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            netfilter = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
            found.append(Sandbox(netns, route.detach(), netfilter.detach()))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        self.sandbox = found[0]
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str, timeout: float = 10) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._enter(), *command],
            capture_output=True,
            text=True,
            timeout=timeout,
            pass_fds=[self.sandbox.netns_fd],
            check=False,
        )

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*self._enter(), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            pass_fds=[self.sandbox.netns_fd],
        )
        self._processes.append(process)
        return process

    def serve(self, port: int, *, family: str = "4", protocol: str = "tcp") -> None:
        """An echo-like server inside: answers each connection or datagram with the peer's address. Returns when it listens."""
        process = self.start("python3", "-c", _SERVER, str(port), family, protocol)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

    def fetch(self, host: str, port: int, *, protocol: str = "tcp", timeout: float = 3) -> str:
        """What a server answers to a client inside; "" when it cannot be reached."""
        found: list[str] = []

        def visit() -> None:
            if _libc.setns(self.sandbox.netns_fd, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            found.append(fetch(host, port, protocol=protocol, timeout=timeout))

        thread = threading.Thread(target=visit)  # a fresh one, which ends in there
        thread.start()
        thread.join()
        return found[0]

    def stop(self) -> None:
        """End the servers inside."""
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        self._processes.clear()

    def close(self) -> None:
        self.stop()
        for descriptor in self.sandbox:
            os.close(descriptor)

    def _enter(self) -> list[str]:
        return ["nsenter", f"--net=/proc/self/fd/{self.sandbox.netns_fd}"]


def fetch(host: str, port: int, *, protocol: str = "tcp", timeout: float = 3) -> str:
    """As `Namespace.fetch`, from where the calling thread is."""
    try:
        if protocol == "tcp":
            with socket.create_connection((host, port), timeout) as client:
                data = b""
                while chunk := client.recv(1000):
                    data += chunk
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.settimeout(timeout)
                client.connect((host, port))
                client.send(b"x")
                data = client.recv(1000)
    except OSError:
        return ""
    return data.decode()


def request(directory: Path, name: str, sandbox: Sandbox | None, **more: object) -> SandboxRequest:
    """A container's request, with files of its own below `directory`."""
    place = directory / f"{name}-files"
    place.mkdir(exist_ok=True)
    for file in ("hosts", "resolv.conf", "hostname"):
        (place / file).touch()
    files = SandboxFiles(place / "hosts", place / "resolv.conf", place / "hostname")
    return SandboxRequest(container=container(name), sandbox=sandbox, files=files, **more)  # type: ignore[arg-type]


def container(name: str) -> ContainerName:
    return ContainerName((name.encode().hex() * 64)[:64], name, name + "-host")


_SERVER = """
import socket, sys
port, family, protocol = int(sys.argv[1]), sys.argv[2], sys.argv[3]
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
s = socket.socket(socket.AF_INET if family == "4" else socket.AF_INET6, kind)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0" if family == "4" else "::", port))
if protocol == "tcp": s.listen()
print("ready", flush=True)
while True:
    if protocol == "tcp":
        c, peer = s.accept()
        c.sendall(f"hello {peer[0]}".encode()); c.close()
    else:
        data, peer = s.recvfrom(2000)
        s.sendto(f"hello {peer[0]}".encode(), peer)
"""
