"""The rules as text: what a network and a port become."""

from __future__ import annotations

import ipaddress

import pytest

from sampan.firewall import rules
from sampan.firewall.nftables import quote
from sampan.firewall.rules import BridgeRules, PublishedPort

NET = ipaddress.ip_network("172.20.0.0/16")


def _forward(*bridges: BridgeRules, **more: object) -> list[str]:
    text = rules.ruleset("t", bridges, **more)  # type: ignore[arg-type]
    return [
        line.split(" forward ", 1)[1]
        for line in text.splitlines()
        if line.startswith("add rule inet t forward")
    ]


def test_what_is_not_accepted_before_is_dropped_into_a_bridge() -> None:
    chain = _forward(BridgeRules("br0", (NET,)))
    assert chain[-1] == "oifname @bridges drop"
    assert 'iifname "br0" oifname "br0" accept' in chain
    assert not any(
        "accept" in rule and "br0" not in rule and "ct" not in rule and "!=" not in rule for rule in chain
    )


def test_no_icc_drops_what_no_published_port_has_translated() -> None:
    chain = _forward(BridgeRules("br0", (NET,), icc=False))
    assert 'iifname "br0" oifname "br0" ct status & dnat == 0 drop' in chain
    assert 'iifname "br0" oifname "br0" accept' not in chain


def test_an_internal_network_has_no_way_out_and_no_masquerade() -> None:
    text = rules.ruleset("t", [BridgeRules("br0", (NET,), internal=True)])
    assert 'forward iifname "br0" drop' in text and 'forward oifname "br0" drop' in text
    assert "172.20.0.0/16" not in text


def test_routed_networks_are_not_translated_but_opened() -> None:
    text = rules.ruleset("t", [BridgeRules("br0", (NET,), mode4="routed")])
    assert "saddr 172.20.0.0/16" not in text
    assert 'oifname "br0" ip daddr . meta l4proto . th dport @open4 accept' in text


def test_physical_interfaces_are_not_routed_between() -> None:
    assert _forward(uplinks=["eth0", "eth1"])[0] == "iifname @uplinks oifname @uplinks drop"


def test_a_port_on_one_address_and_on_all() -> None:
    inner = ipaddress.ip_address("172.20.0.2")
    one = PublishedPort("tcp", ipaddress.ip_address("127.0.0.1"), 8080, inner, 80)
    every = PublishedPort("udp", ipaddress.ip_address("0.0.0.0"), 53, inner, 53)
    text = rules.add_ports("t", [one, every], [one])
    assert "add element inet t ports4 { 127.0.0.1 . tcp . 8080 : 172.20.0.2 . 80 }" in text
    assert "add element inet t ports4_any { udp . 53 : 172.20.0.2 . 53 }" in text
    assert text.count("open4") == 1
    undone = rules.remove_ports("t", [one, every], [one])
    assert undone == text.replace("add element", "delete element")


@pytest.mark.parametrize("name", ['a"b', "a\nb", "a\\b", "br*"])
def test_a_name_cannot_end_the_rule(name: str) -> None:
    with pytest.raises(ValueError):
        quote(name)
