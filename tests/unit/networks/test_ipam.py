"""Addresses and subnets: nothing twice, nothing reserved, everything in range."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engineapi.network import IPAMConfig
from sampan.errors import Forbidden, InvalidParameter, SystemFailure
from sampan.networks.ipam import DEFAULT_POOLS, AddressPool, check_overlap, choose_subnet


@given(st.integers(24, 30), st.lists(st.booleans(), max_size=80))
def test_no_address_is_handed_out_twice(bits: int, steps: list[bool]) -> None:
    pool = AddressPool(IPAMConfig(f"10.0.0.0/{bits}"))
    held = {pool.take_gateway()}
    mine = []
    for take in steps:
        if take:
            try:
                address = pool.allocate()
            except SystemFailure:
                assert len(held) == 2 ** (32 - bits) - 2
                continue
            assert address.ip not in held and address.ip in pool.subnet
            assert address.ip not in (pool.subnet.network_address, pool.subnet.broadcast_address)
            held.add(address.ip)
            mine.append(address)
        elif mine:
            address = mine.pop(0)
            pool.release(address)
            held.discard(address.ip)


def test_addresses_go_round() -> None:
    pool = AddressPool(IPAMConfig("10.0.0.0/29", "", "10.0.0.1"))
    first = pool.allocate()
    pool.release(first)
    assert str(first) == "10.0.0.2/29"
    assert [str(pool.allocate().ip) for _ in range(5)] == [f"10.0.0.{n}" for n in (3, 4, 5, 6, 2)]


def test_range_gateway_and_auxiliary_addresses() -> None:
    pool = AddressPool(IPAMConfig("10.0.0.0/16", "10.0.5.0/30", "10.0.0.1", {"router": "10.0.5.1"}))
    assert [str(pool.allocate().ip) for _ in range(3)] == ["10.0.5.0", "10.0.5.2", "10.0.5.3"]
    with pytest.raises(SystemFailure):
        pool.allocate()
    assert str(pool.allocate(ip_address("10.0.77.7"))) == "10.0.77.7/16"


def test_wanted_addresses() -> None:
    pool = AddressPool(IPAMConfig("10.0.0.0/24", "", "10.0.0.1"))
    pool.allocate(ip_address("10.0.0.9"))
    for taken in ("10.0.0.9", "10.0.0.0", "10.0.0.255"):
        with pytest.raises(Forbidden, match="Address already in use"):
            pool.allocate(ip_address(taken))
    with pytest.raises(InvalidParameter, match="out of range"):
        pool.allocate(ip_address("10.0.1.1"))


def test_a_vast_ipv6_subnet_costs_nothing() -> None:
    pool = AddressPool(IPAMConfig("fd00::/64"))
    assert str(pool.take_gateway()) == "fd00::1" and str(pool.allocate()) == "fd00::2/64"
    assert pool.status() == {"IPsInUse": 3, "DynamicIPsAvailable": 2**64 - 3}


def test_claimed_addresses_are_taken() -> None:
    pool = AddressPool(IPAMConfig("10.0.0.0/29", "", "10.0.0.1"))
    pool.claim(ip_interface("10.0.0.2/29"))
    assert str(pool.allocate().ip) == "10.0.0.3"


subnets = st.builds(
    lambda number, bits: ip_network((number, bits), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(8, 32),
)


@given(st.lists(subnets, max_size=20))
def test_the_chosen_subnet_overlaps_nothing(taken: list) -> None:  # type: ignore[type-arg]
    try:
        chosen = choose_subnet(DEFAULT_POOLS, taken)
    except InvalidParameter:
        return
    assert not any(chosen.overlaps(other) for other in taken if other.prefixlen)
    assert any(
        chosen.subnet_of(ip_network(base)) and chosen.prefixlen == size for base, size in DEFAULT_POOLS
    )  # type: ignore[arg-type]


def test_pools_run_out_and_default_routes_do_not_count() -> None:
    assert str(choose_subnet([("10.0.0.0/8", 24)], [ip_network("0.0.0.0/0")])) == "10.0.0.0/24"
    assert str(choose_subnet([("10.0.0.0/8", 24)], [ip_network("10.0.0.0/9")])) == "10.128.0.0/24"
    with pytest.raises(InvalidParameter, match="fully subnetted"):
        choose_subnet([("10.0.0.0/24", 24)], [ip_network("10.0.0.128/25")])


def test_overlap_is_refused_in_dockers_words() -> None:
    with pytest.raises(
        Forbidden, match="invalid pool request: Pool overlaps with other one on this address space"
    ):
        check_overlap(ip_network("10.0.0.0/24"), [ip_network("10.0.0.0/8")])
