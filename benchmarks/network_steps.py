"""Where the time of a container's network goes, step by step. Root; makes namespaces and one bridge of its own, and removes them.

    .venv/bin/python benchmarks/network_steps.py [rounds]

Prints medians in milliseconds. The kernel's steps are measured alone first, then the service's `join` and `leave` as the
engine calls them, on the default bridge, with a published port, and on a user-defined network (with the resolver).
"""

from __future__ import annotations

import asyncio
import ctypes
import ipaddress
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sampan.engineapi.container import PortBinding
from sampan.engineapi.network import EndpointSettings, NetworkCreateRequest
from sampan.events import EventBus
from sampan.netlink import addresses, links
from sampan.netlink.socket import NetlinkSocket
from sampan.networks.interface import ContainerName, SandboxFiles, SandboxRequest
from sampan.networks.model import SCHEMA
from sampan.networks.options import NetworkOptions
from sampan.networks.sandbox import new_link_name, new_mac
from sampan.networks.service import NetworkService
from sampan.runtime.interface import Sandbox
from sampan.store import Database

_libc = ctypes.CDLL(None, use_errno=True)
_times: dict[str, list[float]] = {}


def timed(name: str, function: Callable[[], object]) -> None:
    """Run and remember how long it took."""
    start = time.perf_counter()
    function()
    _times.setdefault(name, []).append((time.perf_counter() - start) * 1e3)


def namespace() -> Sandbox:
    """A namespace with sockets inside, made by a thread that ends there."""
    found: list[Sandbox] = []

    def enter() -> None:
        _libc.unshare(0x40000000)
        netns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        sockets = [socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family) for family in (0, 12)]
        found.append(Sandbox(netns, *(each.detach() for each in sockets)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return found[0]


def raw(rounds: int) -> None:
    """The kernel's share: one bridge, and for each round a namespace with a veth and an address."""
    host = NetlinkSocket.open()
    name = "smpbench0"
    host.execute([links.create_bridge(name)])
    bridge = links.find(host, name)
    assert bridge is not None
    try:
        host.execute([links.set_up(bridge.number)])
        for number in range(rounds):
            start = time.perf_counter()
            sandbox = namespace()
            middle = time.perf_counter()
            _times.setdefault("kernel: namespace and sockets", []).append((middle - start) * 1e3)
            _one(host, bridge.number, sandbox, number)
            for descriptor in sandbox:
                os.close(descriptor)
    finally:
        host.execute([links.delete(bridge.number)])


def _one(host: NetlinkSocket, bridge: int, sandbox: Sandbox, number: int) -> None:
    veth = links.create_veth(
        new_link_name(), peer="eth0", peer_netns=sandbox.netns_fd, peer_mac=new_mac(), master=bridge, mtu=None
    )
    timed("kernel: veth pair, our end in the bridge", lambda: host.execute([veth]))
    with NetlinkSocket.adopt(sandbox.route_fd) as inner:
        link = links.find(inner, "eth0")
        assert link is not None
        address = ipaddress.ip_interface(f"198.18.0.{2 + number % 250}/24")
        gateway = ipaddress.ip_address("198.18.0.1")
        batch = [
            links.set_up(1),
            links.set_no_automatic_ipv6(link.number),
            addresses.add_address(link.number, address),
            links.set_up(link.number),
            addresses.add_route(None, version=4, gateway=gateway),
        ]
        timed("kernel: lo, address, up, default route", lambda: inner.execute(batch))


async def service(rounds: int, directory: Path) -> None:
    """The service as the engine uses it."""
    database = await Database.open(directory / "bench.db", [SCHEMA])
    networks = await NetworkService.open(database, EventBus(), NetworkOptions(data_root=directory))
    await networks.restore([])
    await networks.create(NetworkCreateRequest(name="bench"))
    publish = {"80/tcp": [PortBinding("", "")]}
    try:
        for title, network, ports in (
            ("default bridge", "bridge", {}),
            ("default bridge, one port", "bridge", publish),
            ("user-defined network", "bench", {}),
        ):
            for _ in range(rounds):
                await _start_and_stop(networks, directory, title, network, ports)
    finally:
        await networks.remove("bench")
        await networks.close()
        await database.close()


async def _start_and_stop(
    networks: NetworkService,
    directory: Path,
    title: str,
    network: str,
    ports: dict[str, list[PortBinding] | None],
) -> None:
    sandbox = namespace()
    container = ContainerName("c" * 64, "bench", "bench")
    files = SandboxFiles(directory / "hosts", directory / "resolv.conf", directory / "hostname")
    await networks.configure(container, {network: EndpointSettings()})
    request = SandboxRequest(container=container, sandbox=sandbox, files=files, published=ports)
    start = time.perf_counter()
    await networks.join(request)
    joined = time.perf_counter()
    await networks.leave(container.id)
    left = time.perf_counter()
    _times.setdefault(f"join: {title}", []).append((joined - start) * 1e3)
    _times.setdefault(f"leave: {title}", []).append((left - joined) * 1e3)
    await networks.forget(container.id)
    for descriptor in sandbox:
        os.close(descriptor)


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    raw(rounds)
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(service(rounds, Path(directory)))
    print(f"{'step':45} {'median':>8} {'best':>8} {'p90':>8}   (ms, {rounds} rounds)")
    for name, values in _times.items():
        ordered = sorted(values)
        p90 = ordered[int(len(ordered) * 0.9)]
        print(f"{name:45} {statistics.median(values):8.2f} {ordered[0]:8.2f} {p90:8.2f}")


if __name__ == "__main__":
    main()
