"""Port specifications, and sockets that keep ports."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engineapi.container import PortBinding
from sampan.errors import InvalidParameter, SystemFailure
from sampan.networks.ports import HostPorts, Wanted, parse_port, parse_range, wanted_ports

LOOPBACK = ip_address("127.0.0.1")


@given(st.integers(0, 65535), st.sampled_from(["tcp", "udp", "sctp"]))
def test_ports_parse(port: int, protocol: str) -> None:
    assert parse_port(f"{port}/{protocol}") == (port, protocol)


@given(st.text(max_size=12))
def test_whatever_is_written_is_a_range_or_an_error(text: str) -> None:
    try:
        first, last = parse_range(text)
    except InvalidParameter:
        return
    assert 0 <= first <= last <= 65535


@pytest.mark.parametrize("text", ["70000/tcp", "x/tcp", "80/icmp", "-1", "٣/tcp"])
def test_ports_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_port(text)


def test_fixed_ports_come_before_ranges_and_free_ones() -> None:
    published = {
        "1/tcp": [PortBinding("127.0.0.1", "")],
        "2/tcp": [PortBinding("127.0.0.1", "8000-8010")],
        "3/tcp": [PortBinding("127.0.0.1", "8001")],
    }
    assert [wanted.port for wanted in wanted_ports(published, [], False, LOOPBACK)] == [3, 2, 1]


def test_publish_all_takes_what_is_exposed_and_not_published() -> None:
    published = {"80/tcp": [PortBinding("", "8080")]}
    found = wanted_ports(published, ["80/tcp", "53/udp"], True, LOOPBACK)
    assert [(wanted.port, wanted.protocol, wanted.first) for wanted in found] == [
        (80, "tcp", 8080),
        (53, "udp", 0),
    ]


def test_a_port_of_ours_and_a_port_of_anybody() -> None:
    ports = HostPorts()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(
            SystemFailure,
            match=rf"failed to bind host port 127.0.0.1:{taken}/tcp: address already in use",
        ):
            ports.reserve(Wanted("tcp", 80, (LOOPBACK,), taken, taken))
    held = ports.reserve(Wanted("tcp", 80, (LOOPBACK,), taken, taken))
    with pytest.raises(SystemFailure, match=rf"Bind for 0.0.0.0:{taken} failed: port is already allocated"):
        ports.reserve(Wanted("tcp", 80, (ip_address("0.0.0.0"),), taken, taken))
    with socket.socket() as other, pytest.raises(OSError):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", taken))
        other.listen()
    ports.release(held)
    ports.release(ports.reserve(Wanted("tcp", 80, (LOOPBACK,), taken, taken)))


def test_free_ports_are_the_same_on_all_addresses_and_go_on() -> None:
    ports = HostPorts()
    wanted = Wanted("udp", 53, (LOOPBACK, ip_address("::1")), 0, 0)
    first = ports.reserve(wanted)
    second = ports.reserve(wanted)
    assert len({held.host_port for held in first}) == 1
    assert second[0].host_port != first[0].host_port
    ports.release([*first, *second])


def test_a_range_gives_its_first_free_port_and_runs_out() -> None:
    ports = HostPorts()
    free = ports.reserve(Wanted("tcp", 80, (LOOPBACK,), 0, 0))
    start = free[0].host_port
    ports.release(free)
    wanted = Wanted("tcp", 80, (LOOPBACK,), start, start + 1)
    held = []
    with pytest.raises(SystemFailure, match="all ports are allocated"):
        for _ in range(3):
            held += ports.reserve(wanted)
    assert 1 <= len(held) <= 2 and held[0].host_port in (start, start + 1)
    ports.release(held)


def test_an_address_of_another_machine_fails_at_once() -> None:
    ports = HostPorts()
    with pytest.raises(SystemFailure, match="cannot assign requested address"):
        ports.reserve(Wanted("tcp", 80, (ip_address("198.51.100.77"),), 0, 0))
    first = ports.reserve(Wanted("tcp", 80, (LOOPBACK,), 0, 0))
    ports.release(first)
