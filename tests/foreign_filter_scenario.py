"""Run by test_iptables.py inside a network namespace that stands for the host: traffic beside somebody's iptables rules that drop,
there before the engine (`before`) or put there while it runs (`meanwhile`).

unshare -n python foreign_filter_scenario.py before iptables-nft DIRECTORY
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from network_sandboxes import Namespace, container, request
from sampan.engineapi.container import PortBinding
from sampan.engineapi.network import EndpointSettings, NetworkCreateRequest
from sampan.events import EventBus
from sampan.networks.model import SCHEMA
from sampan.networks.options import NetworkOptions
from sampan.networks.service import NetworkService
from sampan.store import Database


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def drop_like_docker(program: str) -> None:
    run(program, "-P", "FORWARD", "DROP")
    run(program, "-N", "DOCKER-USER")
    run(program, "-A", "FORWARD", "-j", "DOCKER-USER")
    run(program, "-A", "FORWARD", "-i", "docker0", "-o", "docker0", "-j", "ACCEPT")


class World:
    """A machine elsewhere, which the host forwards to."""

    ADDRESS = "192.0.2.2"

    def __init__(self) -> None:
        self._namespace = Namespace()
        run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "inside")
        place = f"/proc/{os.getpid()}/fd/{self._namespace.sandbox.netns_fd}"
        run("ip", "link", "set", "inside", "netns", place)
        run("ip", "address", "add", "192.0.2.1/24", "dev", "uplink")
        run("ip", "link", "set", "uplink", "up")
        for command in ("address add 192.0.2.2/24 dev inside", "link set inside up"):
            assert self._namespace.run("ip", *command.split()).returncode == 0
        self._namespace.serve(80)

    async def until_it_answers(self, client: Namespace) -> None:
        for _ in range(30):
            if await asyncio.to_thread(client.fetch, self.ADDRESS, 80, timeout=1):
                return
        raise AssertionError("nothing is forwarded any more: " + run("nft", "list", "ruleset"))

    def close(self) -> None:
        self._namespace.close()


async def changes(client: Namespace, program: str) -> None:
    """What others do while the engine runs."""
    world = World()
    try:
        await world.until_it_answers(client)
        drop_like_docker(program)
        assert not client.fetch(world.ADDRESS, 80, timeout=0.05), "it does not drop at all"
        await world.until_it_answers(client)
        run(program, "-F", "FORWARD")  # as firewalld does when it is reloaded
        run(program, "-A", "FORWARD", "-j", "DOCKER-USER")
        run(program, "-A", "FORWARD", "-i", "docker0", "-o", "docker0", "-j", "ACCEPT")
        await world.until_it_answers(client)
        if program == "iptables-nft":
            run("nft", "flush", "ruleset")
            drop_like_docker(program)
            await world.until_it_answers(client)
    finally:
        world.close()


async def traffic(networks: NetworkService, directory: Path, program: str, order: str) -> None:
    one, two = Namespace(), Namespace()
    try:
        await networks.create(NetworkCreateRequest(name="other"))
        await networks.configure(container("one"), {"bridge": EndpointSettings()})
        await networks.configure(container("two"), {"other": EndpointSettings()})
        published = {"80/tcp": [PortBinding("", "8080")]}
        await networks.join(request(directory, "one", one.sandbox, published=published))
        joined = await networks.join(request(directory, "two", two.sandbox))
        one.serve(80)
        if order == "meanwhile":
            await changes(two, program)
        rules = run(program, "-S", "FORWARD").splitlines()
        assert rules[1] == "-A FORWARD -j DOCKER-USER", rules
        assert sum("sampan-" in rule for rule in rules) == 4, rules
        answer = await asyncio.to_thread(two.fetch, joined.endpoints["other"].gateway, 8080)
        assert answer.startswith("hello"), answer
    finally:
        one.close()
        two.close()
        await networks.forget(container("one").id)
        await networks.forget(container("two").id)
        await networks.remove("other")


async def main(order: str, program: str, directory: Path) -> None:
    run("ip", "link", "set", "lo", "up")
    if order == "before":
        drop_like_docker(program)
    before = run(program, "-S")
    database = await Database.open(directory / "db", [SCHEMA])
    networks = await NetworkService.open(database, EventBus(), NetworkOptions(data_root=directory))
    await networks.restore([])
    await traffic(networks, directory, program, order)
    await networks.close()
    await database.close()
    if order == "before":
        assert run(program, "-S") == before
    assert "sampan-" not in run(program, "-S")
    print("passed")


asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
