"""The networks that exist: found, made, removed; their bridges and rules follow."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Iterable

from sampan.engineapi.network import IPAM, IPAMConfig, NetworkCreateRequest
from sampan.errors import Conflict, Forbidden, InvalidParameter, NotFound, NotSupported, SystemFailure
from sampan.faults import point
from sampan.firewall.rules import BridgeRules
from sampan.names.names import new_id
from sampan.netlink import links
from sampan.netlink.socket import NetlinkSocket
from sampan.networks import bridge, drivers, ipam, rows
from sampan.networks.kernel import Kernel
from sampan.networks.model import NetworkRecord, NetworkState
from sampan.networks.options import NetworkOptions
from sampan.networks.sandbox import new_mac
from sampan.networks.validate import PREDEFINED, check_ipam
from sampan.store import Database

log = logging.getLogger(__name__)


class Catalog:
    """All networks, by id. Changes are serialised: addresses are chosen against what the others have."""

    def __init__(self, database: Database, kernel: Kernel, options: NetworkOptions) -> None:
        self._database = database
        self._kernel = kernel
        self._options = options
        self._networks: dict[str, NetworkState] = {}
        self._changing = asyncio.Lock()

    def all(self) -> list[NetworkState]:
        """Every network, oldest first."""
        return list(self._networks.values())

    def find(self, reference: str) -> NetworkState:
        """By id, name or id prefix. Raises `NotFound`, and `InvalidParameter` when several fit."""
        if reference in self._networks:
            return self._networks[reference]
        named = [state for state in self._networks.values() if state.name == reference]
        if named:
            return named[0]
        begun = [state for identifier, state in self._networks.items() if identifier.startswith(reference)]
        if len(begun) > 1:
            raise InvalidParameter(
                f"network {reference} is ambiguous ({len(begun)} matches found based on ID prefix)"
            )
        if not begun or not reference:
            raise NotFound(f"network {reference} not found")
        return begun[0]

    def get(self, reference: str) -> NetworkState | None:
        """As `find`; None instead of an error."""
        try:
            return self.find(reference)
        except (NotFound, InvalidParameter):
            return None

    # --- at the engine's start and end ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take up the stored networks and make the predefined ones. Links and rules follow with `raise_links`."""
        for record in await self._database.read(rows.load_networks):
            self._networks[record.id] = _state(record)
        for name, driver in (("host", "host"), ("none", "null")):
            if self.get(name) is None:
                await self._add(_predefined(name, driver))
        await self._open_default()

    async def _open_default(self) -> None:
        present = self.get("bridge")
        if self._options.bridge == "none":
            if present is not None:
                del self._networks[present.record.id]
            return
        async with self._changing:
            record = await self._default_record(present.record if present else None)
            if present is not None:
                del self._networks[present.record.id]
            await self._add(record)

    async def _default_record(self, stored: NetworkRecord | None) -> NetworkRecord:
        """The network `bridge` as the configuration wants it; id and subnet stay what they were where nothing says otherwise."""
        options = self._options
        record = _predefined("bridge", "bridge")
        if stored is not None:
            record.id, record.created_ns, record.mac = stored.id, stored.created_ns, stored.mac
        record.mac = record.mac or new_mac()
        record.interface = options.default_bridge
        record.owned = not options.bridge or bool(options.bip)
        record.enable_ipv6 = options.ipv6
        record.options = {
            drivers.DEFAULT_BRIDGE: "true",
            drivers.ICC: str(options.icc).lower(),
            drivers.MASQUERADE: str(options.ip_masq).lower(),
            drivers.HOST_BINDING: options.ip,
            drivers.BRIDGE_NAME: record.interface,
            drivers.MTU: str(options.mtu),
        }
        previous = (
            {ipaddress.ip_network(pool.subnet).version: pool for pool in stored.pools} if stored else {}
        )
        v4 = await self._configured_pool(4) or previous.get(4) or await self._chosen_pool(4, record)
        record.pools = [v4]
        if options.ipv6:
            v6 = await self._configured_pool(6) or previous.get(6) or await self._chosen_pool(6, record)
            record.pools.append(v6)
        record.ipam = IPAM("default", None, list(record.pools))
        return record

    async def _configured_pool(self, version: int) -> IPAMConfig | None:
        """What `--bip`, `--fixed-cidr` and `--default-gateway` say, or the address of a bridge that the user made."""
        options = self._options
        own, cidr, gateway = (
            (options.bip, options.fixed_cidr, options.default_gateway)
            if version == 4
            else (options.bip6, options.fixed_cidr_v6, options.default_gateway_v6)
        )
        if not own and options.bridge:
            own = await self._present_address(options.bridge, version)
        try:
            if own:
                interface = ipaddress.ip_interface(own)
                return IPAMConfig(str(interface.network), cidr, gateway or str(interface.ip))
            if cidr:
                pool = ipam.AddressPool(IPAMConfig(str(ipaddress.ip_network(cidr)), "", gateway))
                return IPAMConfig(str(pool.subnet), "", str(pool.take_gateway()))
        except ValueError as error:
            raise InvalidParameter(f"default bridge: {error}") from error
        return None

    async def _present_address(self, interface: str, version: int) -> str:
        def work(host: NetlinkSocket) -> str:
            from sampan.netlink.addresses import all_addresses

            link = links.find(host, interface)
            if link is None:
                raise SystemFailure(
                    f"bridge {interface} does not exist: make it first, or let the engine make its own"
                )
            for index, address in all_addresses(host):
                if index == link.number and address.version == version and not address.ip.is_link_local:
                    return str(address)
            return ""

        return await self._kernel.run(work)

    async def raise_links(self) -> None:
        """Make every network's link exist. One that cannot is logged; a container that joins it says why."""
        for state in self.all():
            try:
                await self._raise_link(state)
            except SystemFailure as error:
                log.error("network %s: %s", state.name, error)
                if state.name == "bridge":
                    raise

    async def remove_strays(self, alive: Iterable[str]) -> None:
        """Remove every link of ours but the networks' and these: what a killed engine was making, removing or done with."""
        known = {*alive, *(state.record.interface for state in self.all())}
        await self._kernel.run(lambda host: bridge.remove_strays(host, self._options.link_mark, known))

    async def lower_links(self) -> None:
        """Remove every link that is ours."""
        for state in self.all():
            if state.record.owned:
                await self._lower_link(state.record)

    # --- verbs -----------------------------------------------------------------------------------------------------------

    async def create(self, request: NetworkCreateRequest) -> NetworkState:
        """Make a network. Raises with dockerd's words; nothing is left of a failed attempt."""
        if request.name in PREDEFINED:
            raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
        if not request.name.strip():
            raise InvalidParameter("invalid name: name is empty")
        async with self._changing:
            record = await self._new_record(request)
            state = _state(record)
            try:
                await self._raise_link(state)
                point("network-create.link-made")
                await self._add(record, state)
                point("network-create.row-written")
                await self.apply_rules()
                point("network-create.rules-set")
            except BaseException:
                self._networks.pop(record.id, None)
                await self._database.write(lambda cx: rows.drop_network(cx, record.id))
                await self._lower_link(record)
                raise
        return state

    async def remove(self, state: NetworkState) -> None:
        """Remove a network. Raises `Forbidden` for predefined ones and ones in use."""
        record = state.record
        if record.name in PREDEFINED:
            raise Forbidden(f"{record.name} is a pre-defined network and cannot be removed")
        async with self._changing:
            if state.endpoints:
                raise Forbidden(
                    f"error while removing network: network {record.name} has active endpoints"
                    f" ({_users(state)})"
                )
            users = [other.name for other in self.all() if other.record.config_from == record.name]
            if record.config_only and users:
                raise Forbidden(
                    f'error while removing network: configuration network "{record.name}" is in use'
                )
            self._networks.pop(record.id, None)
            await self._database.write(lambda cx: rows.drop_network(cx, record.id))
            point("network-remove.row-deleted")
            await self.apply_rules()
            point("network-remove.rules-set")
            await self._lower_link(record)

    async def apply_rules(self) -> None:
        """Make the packet filter know the networks of now."""
        await self._kernel.set_bridges(self.rules())

    def rules(self) -> list[BridgeRules]:
        """What all networks ask of the packet filter."""
        return drivers.bridge_rules(self.all(), self._options)

    # --- making one --------------------------------------------------------------------------------------------------------

    async def _new_record(self, request: NetworkCreateRequest) -> NetworkRecord:
        if request.config_only and request.config_from and request.config_from.network:
            raise Forbidden("a configuration network cannot depend on another configuration network")
        request = self._with_config_from(request)
        driver = request.driver or "bridge"
        if driver == "overlay":
            raise Forbidden(
                'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to'
                " swarm and try again."
            )
        if driver not in drivers.DRIVERS:
            raise NotFound(f'plugin "{driver}" not found')
        if request.scope == "swarm":
            raise Forbidden("cannot create a swarm scoped network when swarm is not active")
        if request.scope not in ("", "local"):
            raise NotSupported(f"networks of scope {request.scope} need Swarm, which Sampan does not have")
        if request.ingress:
            raise Forbidden("Ingress network can only be global scope network")
        if request.ipam and request.ipam.driver == "null":
            raise InvalidParameter("ipv4 pool is empty")
        if request.ipam and request.ipam.driver not in ("", "default"):
            raise NotFound(f'plugin "{request.ipam.driver}" not found')
        options = {**self._options.default_network_opts.get(driver, {}), **(request.options or {})}
        enable_ipv6 = bool(request.enable_ipv6)
        check_ipam(request.ipam, enable_ipv6)
        if not request.config_only and request.enable_ipv4 is False and not enable_ipv6:
            raise InvalidParameter("IPv4 or IPv6 must be enabled")
        if any(state.name == request.name for state in self._networks.values()):
            raise Conflict(f"network with name {request.name} already exists")
        if not request.config_only:
            drivers.check_options(driver, options, request.internal)
        record = NetworkRecord(
            id=new_id(),
            name=request.name,
            created_ns=time.time_ns(),
            driver="null" if request.config_only else driver,
            enable_ipv4=request.enable_ipv4 is not False,
            enable_ipv6=enable_ipv6,
            internal=request.internal,
            attachable=request.attachable,
            config_only=request.config_only,
            config_from=request.config_from.network if request.config_from else "",
            options=options,
            labels=request.labels or {},
            ipam=request.ipam or IPAM("default"),
        )
        record.ipam.driver = record.ipam.driver or "default"
        if not record.config_only:
            await self._fill_pools(record)
            self._name_interface(record)
        return record

    def _with_config_from(self, request: NetworkCreateRequest) -> NetworkCreateRequest:
        """The request with the configuration of the network that it names."""
        if request.config_from is None or not request.config_from.network:
            return request
        source = self.get(request.config_from.network)
        if source is None or not source.record.config_only:
            raise NotFound(f'configuration network "{request.config_from.network}" does not exist')
        if (request.ipam and request.ipam.config) or request.options:
            raise Forbidden(
                "user-specified configurations are not supported if the network depends on a configuration network"
            )
        record = source.record
        request.ipam, request.options = record.ipam, record.options
        request.internal, request.enable_ipv6 = record.internal, record.enable_ipv6
        request.labels = {**record.labels, **(request.labels or {})}
        return request

    async def _fill_pools(self, record: NetworkRecord) -> None:
        """Choose subnets and gateways that the user left open, and check the ones given against the other networks'."""
        given = [config for config in record.ipam.config or () if config.subnet]
        versions = [version for version, on in ((4, record.enable_ipv4), (6, record.enable_ipv6)) if on]
        others = self._subnets()
        for version in versions:
            configs = [each for each in given if ipaddress.ip_network(each.subnet).version == version]
            if record.driver == "bridge" and len(configs) > 1:
                raise InvalidParameter("bridge driver doesn't support multiple subnets")
            for config in configs:
                ipam.check_overlap(ipaddress.ip_network(config.subnet), others)
                record.pools.append(_complete(config, record))
            if not configs:
                record.pools.append(await self._chosen_pool(version, record))

    async def _chosen_pool(self, version: int, record: NetworkRecord) -> IPAMConfig:
        """A subnet of the default pools that nothing on this machine uses."""
        pools = self._options.default_address_pools or ipam.DEFAULT_POOLS
        if version == 6 and not any(":" in base for base, _ in pools):
            pools = (ipam.local_prefix(str(self._options.data_root)),)
        taken = [*self._subnets(), *await self._kernel.used_subnets()]
        return _complete(IPAMConfig(str(ipam.choose_subnet(pools, taken, version))), record)

    def _subnets(self) -> list[ipam.Subnet]:
        return [pool.subnet for state in self._networks.values() for pool in state.pools]

    def _name_interface(self, record: NetworkRecord) -> None:
        if record.driver == "bridge":
            record.interface = record.options.get(drivers.BRIDGE_NAME) or f"br-{record.id[:12]}"
            record.mac = new_mac()
            for other in self._networks.values():
                if other.record.interface == record.interface:
                    raise Forbidden(
                        f"cannot create network {record.id} ({record.interface}): conflicts with network {other.record.id}"
                        f" ({record.interface}): networks have same bridge name"
                    )
        elif record.driver in ("macvlan", "ipvlan"):
            record.interface = record.options.get("parent") or f"dm-{record.id[:12]}"

    # --- its link ------------------------------------------------------------------------------------------------------------

    async def _raise_link(self, state: NetworkState) -> None:
        record = state.record
        if record.driver == "bridge" and not record.config_only:
            if record.name != "bridge" and not record.owned:
                present = await self._kernel.run(lambda host: links.find(host, record.interface))
                record.owned = present is None
            plan = drivers.bridge_plan(state, self._options)
            state.index, state.isolated_ports = await self._kernel.ensure_bridge(plan)
        elif record.driver in ("macvlan", "ipvlan") and record.interface:
            state.index, made = await self._kernel.run(
                lambda host: _ensure_parent(host, record, self._options.link_mark)
            )
            record.owned = record.owned or made

    async def _lower_link(self, record: NetworkRecord) -> None:
        if record.owned and record.interface:
            await self._kernel.run(lambda host: bridge.remove(host, record.interface))

    async def _add(self, record: NetworkRecord, state: NetworkState | None = None) -> None:
        await self._database.write(lambda cx: rows.put_network(cx, record))
        self._networks[record.id] = state or _state(record)


def _predefined(name: str, driver: str) -> NetworkRecord:
    return NetworkRecord(
        id=new_id(),
        name=name,
        created_ns=time.time_ns(),
        driver=driver,
        ipam=IPAM("default"),
    )


def _state(record: NetworkRecord) -> NetworkState:
    return NetworkState(record, [ipam.AddressPool(config) for config in record.pools])


def _complete(config: IPAMConfig, record: NetworkRecord) -> IPAMConfig:
    """The pool with its gateway filled in, where the network has its own; beside a parent link the user has to say who it is."""
    gateway = config.gateway
    beside = record.driver == "macvlan" or (
        record.driver == "ipvlan" and record.options.get("ipvlan_mode", "l2") == "l2"
    )
    if not gateway and not beside and not (record.internal and record.driver != "bridge"):
        gateway = str(ipam.AddressPool(config).take_gateway())
    return IPAMConfig(config.subnet, config.ip_range, gateway, config.auxiliary_addresses)


def _ensure_parent(host: NetlinkSocket, record: NetworkRecord, mark: str) -> tuple[int, bool]:
    """Index of the link below a macvlan or ipvlan network, and whether we made it (`eth0.50`, or a dummy where none is named)."""
    link = links.find(host, record.interface)
    if link is not None:
        return link.number, False
    below, dot, tag = record.interface.rpartition(".")
    if dot and tag.isascii() and tag.isdigit() and (parent := links.find(host, below)) is not None:
        creation = links.create_vlan(record.interface, parent=parent.number, vlan=int(tag))
    elif dot and tag.isascii() and tag.isdigit() and "parent" in record.options:
        raise InvalidParameter(f"-o parent interface was not found on the host: {below}")
    elif "parent" not in record.options:
        creation = links.create_dummy(record.interface)
    else:
        raise InvalidParameter(
            f"invalid subinterface vlan name {record.interface}, example formatting is eth0.10"
        )
    host.execute([creation, links.set_alias(record.interface, mark)])
    made = links.find(host, record.interface)
    if made is None:
        raise SystemFailure(f"interface {record.interface} did not appear")
    return made.number, True


def _users(state: NetworkState) -> str:
    return ", ".join(
        f'name:"{endpoint.network_names[0] if endpoint.network_names else container[:12]}" id:"{endpoint.id[:12]}"'
        for container, endpoint in state.endpoints.items()
    )
