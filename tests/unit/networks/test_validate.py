"""dockerd's words for what cannot work."""

from __future__ import annotations

import pytest

from sampan.engineapi.network import IPAM, EndpointIPAMConfig, EndpointSettings, IPAMConfig
from sampan.errors import Forbidden, InvalidParameter
from sampan.networks.drivers import check_options
from sampan.networks.validate import check_endpoint, check_ipam


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (IPAMConfig("10.0.0.0"), "invalid subnet 10.0.0.0: invalid CIDR block notation"),
        (IPAMConfig("10.0.0.1/24"), "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
        (
            IPAMConfig("10.0.0.0/24", "fd00::/64"),
            "invalid ip-range fd00::/64: parent subnet is an IPv4 block",
        ),
        (IPAMConfig("10.0.0.0/24", "10.0.0.0/16"), "CIDR block is bigger than its parent subnet 10.0.0.0/24"),
        (IPAMConfig("10.0.0.0/24", "10.0.1.0/25"), "parent subnet 10.0.0.0/24 doesn't contain ip-range"),
        (
            IPAMConfig("10.0.0.0/24", "", "10.0.1.1"),
            "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address",
        ),
        (IPAMConfig("10.0.0.0/24", "", "x"), "invalid gateway x: invalid address"),
        (
            IPAMConfig("10.0.0.0/24", "", "", {"a": "fd00::1"}),
            "invalid auxiliary address a: parent subnet is an IPv4 block",
        ),
    ],
)
def test_address_configurations(config: IPAMConfig, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_ipam(IPAM(config=[config]), ipv6=False)
    assert str(caught.value).startswith("invalid network config:\n") and message in str(caught.value)


def test_all_faults_at_once() -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_ipam(IPAM(config=[IPAMConfig("x"), IPAMConfig("10.0.0.1/24", "", "11.0.0.1")]), ipv6=False)
    assert len(str(caught.value).splitlines()) == 4


def settings(**more: object) -> EndpointSettings:
    return EndpointSettings(**more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "endpoint", "message"),
    [
        (
            "bridge",
            settings(ipam_config=EndpointIPAMConfig("172.17.0.9")),
            "user-specified IP address is supported on user-defined networks only",
        ),
        (
            "bridge",
            settings(aliases=["a"]),
            "network-scoped aliases are only supported for user-defined networks",
        ),
        (
            "n",
            settings(ipam_config=EndpointIPAMConfig("10.1.0.1")),
            "no configured subnet contains IP address 10.1.0.1",
        ),
        ("n", settings(ipam_config=EndpointIPAMConfig("nonsense")), "invalid IPv4 address: nonsense"),
        (
            "n",
            settings(driver_opts={"com.docker.network.endpoint.sysctls": "net.ipv4.x=1"}),
            "unrecognised network interface sysctl",
        ),
    ],
)
def test_endpoints(name: str, endpoint: EndpointSettings, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_endpoint(endpoint, name, [IPAMConfig("10.0.0.0/24")])
    assert str(caught.value).startswith("invalid endpoint settings:\n") and message in str(caught.value)


def test_a_wanted_address_needs_a_subnet_of_the_users() -> None:
    with pytest.raises(InvalidParameter, match=r"no configured subnet contains IP address 10.0.0.5"):
        check_endpoint(settings(ipam_config=EndpointIPAMConfig("10.0.0.5")), "n", [])
    check_endpoint(settings(ipam_config=EndpointIPAMConfig("10.0.0.5")), "n", None)


@pytest.mark.parametrize("mac", ["nonsense", "02:42:ac:11:00", "02:42-ac:11:00:02", "02:42:ac:11:00:0g"])
def test_mac_addresses(mac: str) -> None:
    with pytest.raises(InvalidParameter, match=f"invalid MAC address {mac}"):
        check_endpoint(settings(mac_address=mac), "n", None)


@pytest.mark.parametrize(
    ("driver", "options", "kind"),
    [
        ("bridge", {"com.docker.network.bridge.enable_icc": "maybe"}, InvalidParameter),
        ("bridge", {"com.docker.network.bridge.name": 'a"; flush ruleset'}, InvalidParameter),
        ("bridge", {"com.docker.network.driver.mtu": "many"}, InvalidParameter),
        ("bridge", {"com.docker.network.bridge.gateway_mode_ipv4": "x"}, InvalidParameter),
        ("macvlan", {"macvlan_mode": "x"}, InvalidParameter),
        ("ipvlan", {"ipvlan_mode": "x"}, InvalidParameter),
        ("host", {}, Forbidden),
    ],
)
def test_driver_options(driver: str, options: dict[str, str], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        check_options(driver, options, internal=False)
