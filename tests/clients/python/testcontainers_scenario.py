"""A program on Testcontainers for Python, run in an environment of its own: the first failure ends it."""

from __future__ import annotations

import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy


def a_server_that_is_ready() -> None:
    server = (
        DockerContainer("busybox")
        .with_command(
            ["sh", "-c", "echo body > /tmp/index.html; echo serving; exec httpd -f -p 8080 -h /tmp"]
        )
        .with_exposed_ports(8080)
        .with_env("X", "1")
        .waiting_for(LogMessageWaitStrategy("serving"))
    )
    with server:
        port = server.get_exposed_port(8080)
        HttpWaitStrategy(8080, "/").wait_until_ready(server)
        host = server.get_container_host_ip()
        assert urllib.request.urlopen(f"http://{host}:{port}/", timeout=10).read() == b"body\n"
        assert server.exec("sh -c 'echo $X; exit 3'") == (3, b"1\n")
        assert server.get_logs()[0] == b"serving\n"


def two_that_talk_by_name() -> None:
    with Network() as network:
        one = (
            DockerContainer("busybox")
            .with_command("sleep 100")
            .with_network(network)
            .with_network_aliases("one")
        )
        two = DockerContainer("busybox").with_command("sleep 100").with_network(network)
        with one, two:
            code, output = two.exec("ping -c 1 one")
            assert code == 0, output


def the_reaper() -> None:
    """Ryuk is an image of Testcontainers' own, which no machine without a registry has; RYUK_DISABLED is set."""
    from testcontainers.core.config import testcontainers_config

    assert testcontainers_config.ryuk_disabled


for step in (the_reaper, a_server_that_is_ready, two_that_talk_by_name):
    step()
    print("ok", step.__name__)
