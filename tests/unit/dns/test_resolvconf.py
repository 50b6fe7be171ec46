"""Containers' resolv.conf, as dockerd writes it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sampan.dns.resolvconf import Overrides, ResolvConf, direct, internal

HOST = ResolvConf.parse(
    "nameserver 10.1.1.1\nnameserver 127.0.0.53\nsearch example.org lan\noptions edns0 # fast\n"
)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_default_bridge_has_the_hosts_servers_but_not_its_loopback() -> None:
    text = direct(HOST, Overrides(), ipv6=False)
    assert lines(text) == ["nameserver 10.1.1.1", "search example.org lan", "options edns0"]
    assert "# Based on host file: '/etc/resolv.conf' (legacy)\n# Overrides: []\n" in text


def test_without_a_reachable_server_the_defaults_are_used() -> None:
    text = direct(ResolvConf.parse("nameserver 127.0.0.1\nnameserver ::1"), Overrides(), ipv6=False)
    assert lines(text) == ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]
    assert "# Used default nameservers.\n" in text


def test_ipv6_servers_only_with_ipv6() -> None:
    host = ResolvConf.parse("nameserver 10.1.1.1\nnameserver fd00::1")
    assert "fd00::1" not in direct(host, Overrides(), ipv6=False)
    assert "fd00::1" in direct(host, Overrides(), ipv6=True)


def test_a_user_defined_network_has_the_embedded_resolver() -> None:
    text = internal(HOST, Overrides())
    assert lines(text) == ["nameserver 127.0.0.11", "search example.org lan", "options edns0 ndots:0"]
    assert (
        "# ExtServers: [10.1.1.1 host(127.0.0.53)]\n# Overrides: []\n# Option ndots from: internal\n" in text
    )


def test_overrides_win_and_are_named() -> None:
    text = internal(HOST, Overrides(["9.9.9.9"], ["."], ["ndots:2"]))
    assert lines(text) == ["nameserver 127.0.0.11", "options ndots:2"]
    assert (
        "# ExtServers: [9.9.9.9]\n# Overrides: [nameservers search options]\n# Option ndots from: override\n"
        in text
    )


@given(st.text(max_size=300))
def test_any_text_parses_and_gives_valid_servers(text: str) -> None:
    for server in ResolvConf.parse(text).nameservers:
        assert " " not in server and ("." in server or ":" in server)
