"""Networks as the API shows them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from itertools import zip_longest

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
    """The address configuration as the API shows it: what the user gave, else what was chosen."""
    if not record.pools and not record.ipam.config:
        return None
    given: Mapping[int, list[IPAMConfig]] = _by_version(record.ipam.config or [])
    chosen = _by_version(record.pools)
    shown: list[IPAMConfig] = []
    for version in (4, 6):
        user, made = given.get(version, []), chosen.get(version, [])
        shown += [one or other for one, other in zip_longest(user, made) if one or other]
    return shown


def _by_version(configs: Iterable[IPAMConfig]) -> dict[int, list[IPAMConfig]]:
    found: dict[int, list[IPAMConfig]] = {}
    for config in configs:
        if config.subnet:
            found.setdefault(ipaddress.ip_network(config.subnet).version, []).append(config)
    return found
