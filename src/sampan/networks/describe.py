"""Networks as the API shows them."""

from __future__ import annotations

import ipaddress

from sampan.engineapi.network import IPAM, ConfigReference, IPAMConfig, Network
from sampan.names.times import format_rfc3339_nano
from sampan.networks.model import NetworkRecord, NetworkState


def describe_network(state: NetworkState) -> Network:
    """A network without its containers."""
    record = state.record
    return Network(
        name=record.name,
        id=record.id,
        created=format_rfc3339_nano(record.created_ns),
        driver=record.driver,
        enable_ipv4=record.enable_ipv4,
        enable_ipv6=record.enable_ipv6,
        ipam=IPAM(record.ipam.driver, record.ipam.options, describe_pools(record)),
        internal=record.internal,
        attachable=record.attachable,
        config_from=ConfigReference(record.config_from),
        config_only=record.config_only,
        options=record.options,
        labels=record.labels,
    )


def describe_pools(record: NetworkRecord) -> list[IPAMConfig] | None:
    """The address configuration as the API shows it: IPv4 first, with the subnets and gateways that were chosen."""
    if not record.pools:
        return None
    return sorted(record.pools, key=lambda pool: ipaddress.ip_network(pool.subnet).version)
