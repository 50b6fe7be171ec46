"""Other engines and other people's rules on the same machine; and this engine again after it was killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from network_sandboxes import Namespace, container, fetch, request
from sampan.engineapi.container import PortBinding
from sampan.engineapi.network import EndpointSettings, NetworkCreateRequest
from sampan.events import EventBus
from sampan.networks.model import SCHEMA
from sampan.networks.options import NetworkOptions
from sampan.networks.service import NetworkService
from sampan.store import Database

pytestmark = pytest.mark.root

MakeNamespace = Callable[[], Namespace]
PUBLISHED = {"80/tcp": [PortBinding("", "")]}


def nft(commands: str) -> str:
    return subprocess.run(
        ["nft", "-f", "-"], input=commands, capture_output=True, text=True, check=True
    ).stdout


def rules_of_strangers(root: Path) -> list[str]:
    """Their table, with this test's engine's accepts in it, without those of other engines on the machine."""
    done = subprocess.run(
        ["nft", "-s", "list", "table", "ip", "strangers"], capture_output=True, text=True, check=True
    )
    mine = NetworkOptions(data_root=root / "engine").mark
    return [line for line in done.stdout.splitlines() if "sampan-" not in line or mine in line]


@pytest.fixture
def dropping_filter() -> Iterator[None]:
    """A stranger's filter that forwards nothing but for one administrator's rule, as a machine with Docker and ufw has it."""
    nft(
        "add table ip strangers\n"
        "add chain ip strangers DOCKER-USER\n"
        "add chain ip strangers FORWARD { type filter hook forward priority 0; policy drop; }\n"
        "add rule ip strangers FORWARD jump DOCKER-USER\n"
        'add rule ip strangers FORWARD iifname "nosuch0" accept comment "keep me"\n'
    )
    yield
    nft("delete table ip strangers\n")


def test_traffic_flows_through_a_foreign_filter_that_drops(
    service, namespace: MakeNamespace, tmp_path: Path, dropping_filter: None
) -> None:  # type: ignore[no-untyped-def]
    before = rules_of_strangers(tmp_path)

    async def scenario() -> None:
        one, two = namespace(), namespace()
        async with service() as networks:
            await networks.create(NetworkCreateRequest(name="elsewhere"))
            for name, box, network, ports in (
                ("one", one, "bridge", PUBLISHED),
                ("two", two, "elsewhere", {}),
            ):
                await networks.configure(container(name), {network: EndpointSettings()})
                await networks.join(request(tmp_path, name, box.sandbox, published=ports))
            one.serve(80)
            bindings = networks.ports(container("one").id)["80/tcp"]
            assert bindings
            port = int(bindings[0].host_port)
            gateway = networks.endpoints(container("two").id)["elsewhere"].gateway
            assert await asyncio.to_thread(two.fetch, gateway, port)
            # an administrator's drop stands before our accepts
            address = networks.endpoints(container("one").id)["bridge"].ip_address
            nft(f"add rule ip strangers DOCKER-USER ip daddr {address} drop\n")
            assert not await asyncio.to_thread(two.fetch, gateway, port, timeout=0.5)
            nft("flush chain ip strangers DOCKER-USER\n")

    asyncio.run(scenario())
    assert rules_of_strangers(tmp_path) == before


def test_two_engines_side_by_side(service, namespace: MakeNamespace, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        one, two = namespace(), namespace()
        async with service("first") as first:
            async with service("second") as second:
                for networks, name, box in ((first, "one", one), (second, "two", two)):
                    await networks.configure(container(name), {"bridge": EndpointSettings()})
                    await networks.join(request(tmp_path, name, box.sandbox, published=PUBLISHED))
                    box.serve(80)
                mine, theirs = first.inspect("bridge"), second.inspect("bridge")
                assert (mine.ipam.config or [])[0].subnet != (theirs.ipam.config or [])[0].subnet
                ports = [
                    networks.ports(container(name).id)["80/tcp"]
                    for networks, name in ((first, "one"), (second, "two"))
                ]
                numbers = [int(bindings[0].host_port) for bindings in ports if bindings]
                assert len(set(numbers)) == 2
                for number in numbers:
                    assert await asyncio.to_thread(fetch, "127.0.0.1", number)
                # from one engine's container to what the other publishes
                gateway = first.endpoints(container("one").id)["bridge"].gateway
                assert await asyncio.to_thread(one.fetch, gateway, numbers[1])
            assert await asyncio.to_thread(fetch, "127.0.0.1", numbers[0])

    asyncio.run(scenario())


_KILLED = """
import asyncio, json, os, signal, sys
from pathlib import Path
from network_sandboxes import container, request
from sampan.engineapi.container import PortBinding
from sampan.engineapi.network import EndpointSettings, NetworkCreateRequest
from sampan.events import EventBus
from sampan.networks.model import SCHEMA
from sampan.networks.options import NetworkOptions
from sampan.networks.service import NetworkService
from sampan.runtime.interface import Sandbox
from sampan.store import Database

async def main(root, sandboxes):
    database = await Database.open(root / "db", [SCHEMA])
    networks = await NetworkService.open(database, EventBus(), NetworkOptions(data_root=root))
    await networks.restore([])
    await networks.create(NetworkCreateRequest(name="net"))
    ports = {"80/tcp": [PortBinding("", "")]}
    for name, fds in sandboxes.items():
        await networks.configure(container(name), {"net": EndpointSettings(aliases=["the-" + name])})
        await networks.join(request(root, name, Sandbox(*fds), published=ports))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
"""


def test_everything_answers_again_after_the_engine_was_killed(
    namespace: MakeNamespace, tmp_path: Path
) -> None:
    boxes = {"one": namespace(), "two": namespace()}
    root = tmp_path / "engine"
    root.mkdir()
    descriptors = {name: list(box.sandbox) for name, box in boxes.items()}
    killed = subprocess.run(
        [*_python(), "-c", _KILLED, str(root), json.dumps(descriptors)],
        pass_fds=[fd for fds in descriptors.values() for fd in fds],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr

    async def scenario() -> None:
        database = await Database.open(root / "db", [SCHEMA])
        networks = await NetworkService.open(database, EventBus(), NetworkOptions(data_root=root))
        try:
            # only one of the two containers has survived
            await networks.restore([request(root, "one", boxes["one"].sandbox, published=PUBLISHED)])
            shown = networks.inspect("net")
            assert list(shown.containers or ()) == [container("one").id]
            bindings = networks.ports(container("one").id)["80/tcp"]
            assert bindings
            boxes["one"].serve(80)
            for host in ("127.0.0.1", "::1"):
                assert await asyncio.to_thread(fetch, host, int(bindings[0].host_port)), host
            done = await asyncio.to_thread(
                boxes["one"].run, "busybox", "nslookup", "the-one.net.", "127.0.0.11"
            )
            assert networks.endpoints(container("one").id)["net"].ip_address in done.stdout
            # the dead one's address and port are free, and it may start again
            assert networks.endpoints(container("two").id)["net"].ip_address == ""
            again = Namespace()
            try:
                await networks.join(request(root, "two", again.sandbox, published=PUBLISHED))
                assert (
                    "1 packets received"
                    in again.run(
                        "busybox",
                        "ping",
                        "-c1",
                        "-W2",
                        networks.endpoints(container("one").id)["net"].ip_address,
                    ).stdout
                )
            finally:
                again.close()
        finally:
            for name in boxes:
                await networks.forget(container(name).id)
            await networks.remove("net")
            await networks.close()
            await database.close()

    asyncio.run(scenario())


def _python() -> list[str]:
    import sys

    return [sys.executable]


def test_a_bridge_of_a_network_that_was_never_stored_goes(service, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path / "engine"
    root.mkdir()
    options = NetworkOptions(data_root=root)
    name = "br-smpstray"

    def ip(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)

    assert ip("link", "add", name, "alias", f"sampan-{options.mark}", "type", "bridge").returncode == 0
    ip("link", "set", name, "alias", f"sampan-{options.mark}")

    async def scenario() -> None:
        async with service("other"):
            assert ip("link", "show", name).returncode == 0
        async with service("engine"):
            assert ip("link", "show", name).returncode != 0

    asyncio.run(scenario())


def test_another_bip_replaces_the_bridges_address(service, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        database = await Database.open(tmp_path / "db", [SCHEMA])
        for bip in ("10.211.1.1/24", "10.211.2.1/24"):
            networks = await NetworkService.open(
                database, EventBus(), NetworkOptions(data_root=tmp_path, bip=bip)
            )
            await networks.restore([])
            interface = NetworkOptions(data_root=tmp_path).default_bridge
            shown = subprocess.run(
                ["ip", "-4", "addr", "show", interface], capture_output=True, text=True, check=True
            )
            assert bip in shown.stdout and shown.stdout.count("inet ") == 1
            if bip == "10.211.1.1/24":
                await networks._kernel.close()  # as a killed engine leaves it
            else:
                await networks.close()
        await database.close()

    asyncio.run(scenario())
