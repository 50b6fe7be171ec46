"""Networks through the unmodified CLI: gateway modes, addresses of the user's, macvlan."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

HTTPD = ("busybox", "sh", "-c", "httpd -h /etc && echo ready && sleep 1000")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def started(engine: RunningEngine, name: str, *flags: str) -> None:
    """A web server that listens when this returns."""
    engine.docker("run", "-d", "--name", name, *flags, *HTTPD)
    with subprocess.Popen(
        ["docker", "-H", engine.host, "logs", "-f", name], stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None and following.stdout.readline() == "ready\n"
        following.kill()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_routed_network_publishes_at_the_containers_own_address(engine: RunningEngine) -> None:
    engine.docker("network", "create", "-o", "com.docker.network.bridge.gateway_mode_ipv4=routed", "routed")
    with socket.create_server(("127.0.0.1", 0)) as held:  # by us: publishing takes no port of the host
        port = held.getsockname()[1]
        started(engine, "web", "--network", "routed", "-p", f"{port}:80")
    network = json.loads(engine.docker("inspect", "web").stdout)[0]["NetworkSettings"]
    assert network["Ports"] == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": ""}]}
    address = network["Networks"]["routed"]["IPAddress"]
    assert fetch(f"http://{address}/passwd").startswith("root:")
    with pytest.raises(urllib.error.URLError, match="refused"):
        fetch(f"http://127.0.0.1:{port}/passwd")
    assert "80/tcp" in engine.docker("ps", "--format", "{{.Ports}}").stdout
    engine.kill()
    engine.start()
    assert fetch(f"http://{address}/passwd").startswith("root:")


def test_ipv6_is_published_too(engine: RunningEngine) -> None:
    engine.docker("network", "create", "--ipv6", "six")
    subnets = json.loads(engine.docker("network", "inspect", "six").stdout)[0]["IPAM"]["Config"]
    assert any(each["Subnet"].startswith("fd") for each in subnets)
    started(engine, "web", "--network", "six", "-p", "80")
    ports = json.loads(engine.docker("inspect", "web").stdout)[0]["NetworkSettings"]["Ports"]["80/tcp"]
    assert [each["HostIp"] for each in ports] == ["0.0.0.0", "::"]
    assert fetch(f"http://127.0.0.1:{ports[0]['HostPort']}/passwd").startswith("root:")
    assert fetch(f"http://[::1]:{ports[1]['HostPort']}/passwd").startswith("root:")


def test_addresses_that_the_user_chose(engine: RunningEngine) -> None:
    engine.docker(
        "network", "create", "--subnet", "10.249.7.0/24", "--subnet", "fd0a:7::/64", "--ipv6", "chosen"
    )
    flags = (
        "--ip",
        "10.249.7.77",
        "--ip6",
        "fd0a:7::77",
        "--link-local-ip",
        "169.254.9.9",
        "--mac-address",
        "02:00:00:00:00:77",
    )
    shown = engine.docker(
        "run", "--rm", "--network", "chosen", *flags, "busybox", "ip", "addr", "show", "dev", "eth0"
    ).stdout
    for address in ("10.249.7.77/24", "fd0a:7::77/64", "169.254.9.9/16", "02:00:00:00:00:77"):
        assert address in shown


def test_macvlan_on_a_link_of_the_host(engine: RunningEngine) -> None:
    name = f"mv{secrets.token_hex(3)}"
    ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b")
    try:
        for end in "ab":
            ip("link", "set", f"{name}{end}", "up")
        ip("addr", "add", "10.249.8.1/24", "dev", f"{name}b")
        engine.docker(
            "network", "create", "-d", "macvlan", "--subnet", "10.249.8.0/24", "-o", f"parent={name}a", "lan"
        )
        started(engine, "web", "--network", "lan", "--ip", "10.249.8.10")
        assert fetch("http://10.249.8.10/passwd").startswith("root:")
        other = engine.docker(
            "run", "--rm", "--network", "lan", "busybox", "wget", "-qO-", "http://web/hostname"
        )
        assert other.stdout.strip() == engine.docker("exec", "web", "hostname").stdout.strip()
    finally:
        engine.remove_everything()
        ip("link", "del", f"{name}a")
