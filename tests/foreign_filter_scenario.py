"""Run by test_iptables.py inside a network namespace that stands for the host: traffic beside somebody's iptables rules that drop.

unshare -n python foreign_filter_scenario.py iptables-nft DIRECTORY
"""

from __future__ import annotations

import asyncio
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


async def traffic(networks: NetworkService, directory: Path, program: str) -> None:
    one, two = Namespace(), Namespace()
    try:
        await networks.create(NetworkCreateRequest(name="other"))
        await networks.configure(container("one"), {"bridge": EndpointSettings()})
        await networks.configure(container("two"), {"other": EndpointSettings()})
        published = {"80/tcp": [PortBinding("", "8080")]}
        await networks.join(request(directory, "one", one.sandbox, published=published))
        joined = await networks.join(request(directory, "two", two.sandbox))
        one.serve(80)
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


async def main(program: str, directory: Path) -> None:
    run("ip", "link", "set", "lo", "up")
    run(program, "-P", "FORWARD", "DROP")
    run(program, "-N", "DOCKER-USER")
    run(program, "-A", "FORWARD", "-j", "DOCKER-USER")
    run(program, "-A", "FORWARD", "-i", "docker0", "-o", "docker0", "-j", "ACCEPT")
    before = run(program, "-S")
    database = await Database.open(directory / "db", [SCHEMA])
    networks = await NetworkService.open(database, EventBus(), NetworkOptions(data_root=directory))
    await networks.restore([])
    await traffic(networks, directory, program)
    await networks.close()
    await database.close()
    assert run(program, "-S") == before
    print("passed")


asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
