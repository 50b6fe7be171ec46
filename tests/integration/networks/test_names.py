"""The embedded resolver, asked from inside real namespaces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from network_sandboxes import Namespace, container, request
from sampan.engineapi.network import EndpointSettings, NetworkCreateRequest

pytestmark = pytest.mark.root

MakeNamespace = Callable[[], Namespace]

_LOOKUP = """
import socket, struct, sys
name, kind, tcp = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "tcp"
query = struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0)
query += b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\\0" + struct.pack(">HH", kind, 1)
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
s.settimeout(5); s.connect(("127.0.0.11", 53))
if tcp:
    s.sendall(struct.pack(">H", len(query)) + query); data = s.recv(4096)[2:]
else:
    s.send(query); data = s.recv(4096)
rcode, answers = data[3] & 15, struct.unpack(">H", data[6:8])[0]
print(rcode, answers, ".".join(map(str, data[-4:])) if answers and kind == 1 else "")
"""


async def lookup(box: Namespace, name: str, kind: int = 1, transport: str = "udp") -> str:
    done = await asyncio.to_thread(box.run, "python3", "-c", _LOOKUP, name, str(kind), transport)
    return done.stdout.strip()


def test_names_aliases_links_and_what_happens_to_them(
    service, namespace: MakeNamespace, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        web, db = namespace(), namespace()
        async with service() as networks:
            await networks.create(NetworkCreateRequest(name="net"))
            await networks.configure(container("web"), {"net": EndpointSettings(links=["db:database"])})
            await networks.configure(container("db"), {"net": EndpointSettings(aliases=["store"])})
            await networks.join(request(tmp_path, "web", web.sandbox))
            joined = await networks.join(request(tmp_path, "db", db.sandbox))
            address = joined.endpoints["net"].ip_address
            found = f"0 1 {address}"
            for name in ("db", "db.net", "store", container("db").id[:12], "db-host", "database"):
                assert await lookup(web, name) == found, name
            assert await lookup(web, "db", transport="tcp") == found
            assert await lookup(web, "db", kind=28) == "0 0"
            backwards = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
            assert (await lookup(web, backwards, kind=12)).startswith("0 1")
            assert "nameserver 127.0.0.11" in (tmp_path / "web-files/resolv.conf").read_text()
            assert joined.endpoints["net"].dns_names == ["db", "store", container("db").id[:12], "db-host"]

            renamed = container("db").__class__(container("db").id, "newdb", "db-host")
            await networks.rename(renamed)
            assert await lookup(web, "newdb") == found
            await networks.disconnect(renamed, "net", sandbox=db.sandbox)
            assert await lookup(web, "newdb") != found
            assert "eth0" not in db.run("ip", "link").stdout
            await networks.connect(renamed, "net", EndpointSettings(aliases=["back"]), sandbox=db.sandbox)
            again = networks.endpoints(renamed.id)["net"].ip_address
            assert await lookup(web, "back") == f"0 1 {again}"
            assert (
                await lookup(db, "web") == f"0 1 {networks.endpoints(container('web').id)['net'].ip_address}"
            )

    asyncio.run(scenario())


def test_port_53_is_free_for_the_container(service, namespace: MakeNamespace, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        box = namespace()
        async with service() as networks:
            await networks.create(NetworkCreateRequest(name="net"))
            await networks.configure(container("box"), {"net": EndpointSettings()})
            await networks.join(request(tmp_path, "box", box.sandbox))
            box.serve(53, protocol="udp")
            assert await asyncio.to_thread(box.fetch, "127.0.0.1", 53, protocol="udp")
            assert (await lookup(box, "box")).startswith("0 1")

    asyncio.run(scenario())


def test_connecting_a_container_of_the_default_bridge_gives_it_the_resolver(
    service, namespace: MakeNamespace, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        box = namespace()
        async with service() as networks:
            await networks.create(NetworkCreateRequest(name="net"))
            await networks.configure(container("box"), {"bridge": EndpointSettings()})
            await networks.join(request(tmp_path, "box", box.sandbox))
            resolv_conf = tmp_path / "box-files/resolv.conf"
            inode = resolv_conf.stat().st_ino
            assert "127.0.0.11" not in resolv_conf.read_text()
            await networks.connect(container("box"), "net", EndpointSettings(), sandbox=box.sandbox)
            assert "nameserver 127.0.0.11" in resolv_conf.read_text() and resolv_conf.stat().st_ino == inode
            assert (await lookup(box, "box")).startswith("0 1")
            routes = box.run("ip", "route").stdout
            assert routes.count("default") == 1 and "dev eth1" in routes

    asyncio.run(scenario())
