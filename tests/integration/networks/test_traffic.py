"""Packets: what flows, what does not. Real namespaces, real rules; nothing leaves the machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from network_sandboxes import Namespace, container, fetch, request
from sampan.engineapi.container import PortBinding
from sampan.engineapi.network import (
    IPAM,
    EndpointIPAMConfig,
    EndpointSettings,
    IPAMConfig,
    NetworkCreateRequest,
)
from sampan.errors import SystemFailure
from sampan.networks.interface import Joined
from sampan.networks.service import NetworkService

pytestmark = pytest.mark.root

MakeNamespace = Callable[[], Namespace]
EVERYWHERE = {"80/tcp": [PortBinding("", "")]}


async def start(
    networks: NetworkService,
    directory: Path,
    name: str,
    box: Namespace,
    network: str = "bridge",
    **more: object,
) -> Joined:
    settings = more.pop("settings", None) or EndpointSettings()
    await networks.configure(container(name), {network: settings})  # type: ignore[dict-item]
    return await networks.join(request(directory, name, box.sandbox, **more))


def host_port(joined: Joined, name: str = "80/tcp") -> int:
    bindings = joined.ports[name]
    assert bindings
    return int(bindings[0].host_port)


def uplink_address() -> str:
    """An address of this machine that is not loopback; the packets to it stay on the machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def test_two_containers_reach_each_other_and_the_files_say_so(
    service, namespace: MakeNamespace, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        one, two = namespace(), namespace()
        async with service() as networks:
            await start(networks, tmp_path, "one", one)
            joined = await start(networks, tmp_path, "two", two)
            address = joined.endpoints["bridge"].ip_address
            assert "1 packets received" in one.run("busybox", "ping", "-c1", "-W2", address).stdout
            hosts = (tmp_path / "two-files/hosts").read_text()
            assert hosts.endswith(f"{address}\ttwo-host\n") and hosts.startswith("127.0.0.1\tlocalhost\n")
            assert (tmp_path / "two-files/hostname").read_text() == "two-host\n"
            assert "inet6 fe80" not in two.run("ip", "addr").stdout

    asyncio.run(scenario())


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_is_reached_from_everywhere(
    service, namespace: MakeNamespace, tmp_path: Path, protocol: str
) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        server, neighbour, other = namespace(), namespace(), namespace()
        async with service() as networks:
            await networks.create(NetworkCreateRequest(name="elsewhere"))
            name = f"80/{protocol}"
            joined = await start(
                networks, tmp_path, "server", server, published={name: [PortBinding("", "")]}
            )
            await start(networks, tmp_path, "neighbour", neighbour)
            await start(networks, tmp_path, "other", other, "elsewhere")
            server.serve(80, protocol=protocol)
            port = host_port(joined, name)
            ask = asyncio.to_thread
            for host in ("127.0.0.1", "::1", uplink_address()):
                assert await ask(fetch, host, port, protocol=protocol), host
            for box in (server, neighbour, other):
                assert await ask(box.fetch, uplink_address(), port, protocol=protocol)
            gateway = joined.endpoints["bridge"].gateway
            assert await ask(server.fetch, gateway, port, protocol=protocol)
            await networks.leave(container("server").id)
            assert not await ask(fetch, "127.0.0.1", port, protocol=protocol, timeout=0.5)

    asyncio.run(scenario())


def test_bridges_are_isolated_and_only_published_ports_are_entered(
    service, namespace: MakeNamespace, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        server, outside = namespace(), namespace()
        async with service() as networks:
            await networks.create(NetworkCreateRequest(name="elsewhere"))
            joined = await start(networks, tmp_path, "server", server, published=EVERYWHERE)
            await start(networks, tmp_path, "outside", outside, "elsewhere")
            server.serve(80)
            server.serve(81)
            address = joined.endpoints["bridge"].ip_address
            # the published port's own address too: only what was translated may enter (direct routing)
            for port in (80, 81):
                assert not await asyncio.to_thread(outside.fetch, address, port, timeout=0.5)
                assert await asyncio.to_thread(fetch, address, port)

    asyncio.run(scenario())


def test_a_port_on_one_address_is_on_no_other(service, namespace: MakeNamespace, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        server, neighbour = namespace(), namespace()
        async with service() as networks:
            published = {"80/tcp": [PortBinding("127.0.0.1", "")]}
            joined = await start(networks, tmp_path, "server", server, published=published)
            await start(networks, tmp_path, "neighbour", neighbour)
            server.serve(80)
            port = host_port(joined)
            assert joined.ports["80/tcp"] == [PortBinding("127.0.0.1", str(port))]
            assert await asyncio.to_thread(fetch, "127.0.0.1", port)
            assert not await asyncio.to_thread(fetch, uplink_address(), port, timeout=0.5)
            # CVE-2020-8558's way in: a neighbour that routes 127.0.0.0/8 to the bridge
            gateway = joined.endpoints["bridge"].gateway
            neighbour.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet")
            own = networks.endpoints(container("neighbour").id)["bridge"].ip_address
            for destination in ("127.0.0.1", "127.0.0.0/8"):
                neighbour.run("ip", "route", "del", "local", destination, "dev", "lo", "table", "local")
            added = neighbour.run("ip", "route", "add", "127.0.0.0/8", "via", gateway, "src", own)
            assert added.returncode == 0, added.stderr
            assert not await asyncio.to_thread(neighbour.fetch, "127.0.0.1", port, timeout=0.5)
            # the answer would not find back, but not even the question may reach the container
            assert f"src={own} dst=127.0.0.1" not in Path("/proc/net/nf_conntrack").read_text()

    asyncio.run(scenario())


def test_internal_networks_and_networks_without_icc(
    service, namespace: MakeNamespace, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        boxes = [namespace() for _ in range(4)]
        async with service() as networks:
            await networks.create(NetworkCreateRequest(name="inner", internal=True))
            options = {"com.docker.network.bridge.enable_icc": "false"}
            await networks.create(NetworkCreateRequest(name="apart", options=options))
            found = [
                await start(networks, tmp_path, f"box{number}", box, network, published=EVERYWHERE)
                for number, (box, network) in enumerate(
                    zip(boxes, ["inner", "inner", "apart", "apart"], strict=True)
                )
            ]
            for box in boxes:
                box.serve(80)
            inner, apart = found[1].endpoints["inner"], found[3].endpoints["apart"]
            assert inner.gateway == "" and found[1].ports == {"80/tcp": None}
            assert "default" not in boxes[0].run("ip", "route").stdout
            assert await asyncio.to_thread(boxes[0].fetch, inner.ip_address, 80)
            assert not await asyncio.to_thread(boxes[2].fetch, apart.ip_address, 80, timeout=0.5)
            assert await asyncio.to_thread(boxes[2].fetch, uplink_address(), host_port(found[3]))

    asyncio.run(scenario())


def test_ipv6(service, namespace: MakeNamespace, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        one, two = namespace(), namespace()
        async with service() as networks:
            ipam = IPAM(config=[IPAMConfig("fd00:5a:1::/64")])
            await networks.create(NetworkCreateRequest(name="six", enable_ipv6=True, ipam=ipam))
            await start(networks, tmp_path, "one", one, "six")
            wanted = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv6_address="fd00:5a:1::77"))
            joined = await start(networks, tmp_path, "two", two, "six", settings=wanted, published=EVERYWHERE)
            endpoint = joined.endpoints["six"]
            assert endpoint.global_ipv6_address == "fd00:5a:1::77" and endpoint.ipv6_gateway == "fd00:5a:1::1"
            two.serve(80, family="6")
            assert await asyncio.to_thread(one.fetch, "fd00:5a:1::77", 80)
            assert await asyncio.to_thread(fetch, "::1", host_port(joined))
            assert await asyncio.to_thread(one.fetch, "fd00:5a:1::1", host_port(joined))

    asyncio.run(scenario())


def test_a_port_that_is_taken_fails_and_leaves_nothing(
    service, namespace: MakeNamespace, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        one, two = namespace(), namespace()
        async with service() as networks:
            joined = await start(networks, tmp_path, "one", one, published=EVERYWHERE)
            port = str(host_port(joined))
            with pytest.raises(SystemFailure) as caught:
                await start(networks, tmp_path, "two", two, published={"80/tcp": [PortBinding("", port)]})
            assert str(caught.value).startswith(
                "failed to set up container networking: driver failed programming external connectivity on endpoint two ("
            )
            assert str(caught.value).endswith(f"): Bind for 0.0.0.0:{port} failed: port is already allocated")
            assert list(networks.inspect("bridge").containers or ()) == [container("one").id]
            assert "eth0" not in two.run("ip", "link").stdout
            await networks.leave(container("one").id)
            await start(networks, tmp_path, "two", two, published={"80/tcp": [PortBinding("", port)]})

    asyncio.run(scenario())


def test_without_a_packet_filter_ports_are_relayed(service, namespace: MakeNamespace, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        box = namespace()
        async with service(iptables=False) as networks:
            joined = await start(networks, tmp_path, "box", box, published=EVERYWHERE)
            box.serve(80)
            assert await asyncio.to_thread(fetch, "127.0.0.1", host_port(joined))

    asyncio.run(scenario())
