"""The verbs on networks and endpoints, and dockerd's words for mistakes."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from network_sandboxes import Namespace, container, fetch, request
from sampan.engineapi.container import PortBinding
from sampan.engineapi.filters import Filters
from sampan.engineapi.network import (
    IPAM,
    EndpointIPAMConfig,
    EndpointSettings,
    IPAMConfig,
    NetworkCreateRequest,
)
from sampan.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure

pytestmark = pytest.mark.root

MakeNamespace = Callable[[], Namespace]


def test_mistakes(service) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        async with service() as networks:
            ipam = IPAM(config=[IPAMConfig("10.212.0.0/24")])
            await networks.create(NetworkCreateRequest(name="one", ipam=ipam))
            mistakes: list[tuple[NetworkCreateRequest, type[Exception], str]] = [
                (NetworkCreateRequest(name="one"), Conflict, "network with name one already exists"),
                (
                    NetworkCreateRequest(name="bridge"),
                    Forbidden,
                    "operation is not permitted on predefined bridge network",
                ),
                (NetworkCreateRequest(name=" "), InvalidParameter, "name is empty"),
                (NetworkCreateRequest(name="x", driver="nosuch"), NotFound, 'plugin "nosuch" not found'),
                (
                    NetworkCreateRequest(name="x", driver="overlay"),
                    Forbidden,
                    "This node is not a swarm manager",
                ),
                (
                    NetworkCreateRequest(name="x", driver="host"),
                    Forbidden,
                    'only one instance of "host" network is allowed',
                ),
                (
                    NetworkCreateRequest(name="x", ipam=ipam),
                    Forbidden,
                    "Pool overlaps with other one on this address space",
                ),
            ]
            for create, kind, words in mistakes:
                with pytest.raises(kind, match=words):
                    await networks.create(create)
            with pytest.raises(NotFound, match="network nosuch not found"):
                networks.inspect("nosuch")
            with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
                await networks.remove("bridge")
            assert [network.name for network in networks.search(Filters())] == [
                "host",
                "none",
                "bridge",
                "one",
            ]
            assert [n.name for n in networks.search(Filters({"type": ["custom"]}))] == ["one"]
            assert [n.name for n in networks.search(Filters({"dangling": ["true"]}))] == ["one"]
            assert [n.name for n in networks.search(Filters({"driver": ["null"]}))] == ["none"]
            await networks.create(NetworkCreateRequest(name="settings", config_only=True))  # never pruned
            assert await networks.prune(Filters()) == ["one"]

    asyncio.run(scenario())


def test_endpoints_and_their_mistakes(service, namespace: MakeNamespace, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        one, two = namespace(), namespace()
        async with service() as networks:
            ipam = IPAM(config=[IPAMConfig("10.212.0.0/24")])
            await networks.create(NetworkCreateRequest(name="net", ipam=ipam))
            fixed = EndpointSettings(
                ipam_config=EndpointIPAMConfig("10.212.0.9"), mac_address="02:42:0A:D4:00:09"
            )
            await networks.configure(container("one"), {"net": fixed})
            await networks.configure(container("two"), {"net": fixed})
            joined = await networks.join(request(tmp_path, "one", one.sandbox))
            assert joined.endpoints["net"].ip_address == "10.212.0.9"
            assert "02:42:0a:d4:00:09" in one.run("ip", "link", "show", "eth0").stdout
            with pytest.raises(
                Forbidden, match="failed to set up container networking: Address already in use"
            ):
                await networks.join(request(tmp_path, "two", two.sandbox))
            with pytest.raises(Forbidden, match="endpoint with name one already exists in network net"):
                await networks.connect(container("one"), "net", EndpointSettings(), sandbox=one.sandbox)
            with pytest.raises(InvalidParameter, match="one of the networks in private"):
                await networks.connect(container("one"), "none", EndpointSettings(), sandbox=one.sandbox)
            with pytest.raises(SystemFailure, match="is not connected to network bridge"):
                await networks.disconnect(container("one"), "bridge", sandbox=one.sandbox)
            with pytest.raises(Forbidden, match="has active endpoints"):
                await networks.remove("net")
            await networks.configure(container("two"), {"missing": EndpointSettings()})
            with pytest.raises(
                NotFound, match="failed to set up container networking: network missing not found"
            ):
                await networks.join(request(tmp_path, "two", two.sandbox))

    asyncio.run(scenario())


def test_none_and_host(service, namespace: MakeNamespace, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        box = namespace()
        async with service() as networks:
            await networks.configure(container("alone"), {"none": EndpointSettings()})
            joined = await networks.join(request(tmp_path, "alone", box.sandbox, exposed=["80/tcp"]))
            assert joined.endpoints["none"].endpoint_id and joined.ports == {}
            assert box.run("ip", "-br", "link").stdout.split()[:2] == ["lo", "UNKNOWN"]
            await networks.configure(container("open"), {"host": EndpointSettings()})
            joined = await networks.join(request(tmp_path, "open", None))
            assert joined.endpoints["host"].network_id == networks.inspect("host").id
            assert (tmp_path / "open-files/hosts").read_text() == Path("/etc/hosts").read_text()

    asyncio.run(scenario())


def test_udp_clients_follow_a_container_that_comes_back_elsewhere(
    service, namespace: MakeNamespace, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        import socket

        first, second, client = namespace(), namespace(), namespace()
        async with service() as networks:
            await networks.create(NetworkCreateRequest(name="elsewhere"))
            await networks.configure(container("client"), {"elsewhere": EndpointSettings()})
            await networks.join(request(tmp_path, "client", client.sandbox))
            gateway = networks.endpoints(container("client").id)["elsewhere"].gateway
            published = {"80/udp": [PortBinding("", "")]}
            seen = []
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(3)
                for box in (first, second):
                    await networks.configure(container("box"), {"bridge": EndpointSettings()})
                    joined = await networks.join(request(tmp_path, "box", box.sandbox, published=published))
                    bindings = joined.ports["80/udp"]
                    assert bindings
                    published = {"80/udp": [PortBinding("", bindings[0].host_port)]}
                    box.serve(80, protocol="udp")
                    seen.append(joined.endpoints["bridge"].ip_address)
                    sock.sendto(b"x", (gateway, int(bindings[0].host_port)))
                    assert (await asyncio.to_thread(sock.recv, 100)).startswith(b"hello")
                    await networks.leave(container("box").id)
                    box.stop()
            assert seen[0] != seen[1]

    asyncio.run(scenario())


@pytest.fixture
def parent() -> Iterator[str]:
    """A link that macvlan can stand on."""
    name = "smpparent0"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    yield name
    subprocess.run(["ip", "link", "del", name], check=True)


def test_macvlan(service, namespace: MakeNamespace, tmp_path: Path, parent: str) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        one, two = namespace(), namespace()
        async with service() as networks:
            await networks.create(
                NetworkCreateRequest(name="lan", driver="macvlan", options={"parent": parent})
            )
            for name, box in (("one", one), ("two", two)):
                await networks.configure(container(name), {"lan": EndpointSettings()})
                await networks.join(request(tmp_path, name, box.sandbox))
            one.serve(80)
            address = networks.endpoints(container("one").id)["lan"].ip_address
            assert await asyncio.to_thread(two.fetch, address, 80)
            assert not await asyncio.to_thread(fetch, address, 80, timeout=0.5)
            await networks.disconnect(container("two"), "lan", sandbox=two.sandbox)
            assert "eth0" not in two.run("ip", "link").stdout

    asyncio.run(scenario())
