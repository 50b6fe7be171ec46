"""The network service: what `sampan.networks.interface.Networks` promises, composed of the modules beside this one.

Order of a start: addresses and host ports are taken in memory (on the loop, no waiting), then one visit to the network thread makes
interfaces, files and rules while the database stores what was taken, then names are served. Undone in reverse when a step fails.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from sampan.engineapi.network import EndpointSettings, Network, NetworkCreateRequest
from sampan.errors import Forbidden, InvalidParameter, NotFound, SampanError, SystemFailure
from sampan.events import EventBus
from sampan.faults import point
from sampan.firewall.rules import LinkRules, PublishedPort
from sampan.names.names import new_id
from sampan.networks import endpoints as ep
from sampan.networks import filters, rows
from sampan.networks.catalog import Catalog
from sampan.networks.departed import DepartedLinks
from sampan.networks.describe import describe_network
from sampan.networks.filter_watch import FilterWatch
from sampan.networks.interface import ContainerName, Joined, PortMap, SandboxRequest
from sampan.networks.kernel import Kernel
from sampan.networks.links import legacy_hosts, link_rules
from sampan.networks.model import Attachment, Endpoint, Live, NetworkState, SandboxRecord
from sampan.networks.names import Names, extra_hosts
from sampan.networks.options import NetworkOptions
from sampan.networks.publish import Publisher, port_map
from sampan.networks.sandbox import InterfacePlan, set_default_routes
from sampan.networks.sysctls import apply_sysctls
from sampan.networks.validate import check_endpoint
from sampan.store import Database

if TYPE_CHECKING:
    from sampan.engineapi.filters import Filters
    from sampan.runtime.interface import Sandbox

log = logging.getLogger(__name__)


class NetworkService:
    """Make one with `open`, then `restore` once with the containers that run, then use it, then `close`."""

    def __init__(self, database: Database, events: EventBus, kernel: Kernel, options: NetworkOptions) -> None:
        self._database = database
        self._events = events
        self._kernel = kernel
        self._options = options
        self._catalog = Catalog(database, kernel, options)
        self._publisher = Publisher(options)
        self._names = Names(kernel, options)
        self._departed = DepartedLinks(kernel)
        self._attachments: dict[str, Attachment] = {}
        self._stored: dict[str, SandboxRecord] = {}
        self._watch: FilterWatch | None = None

    @classmethod
    async def open(cls, database: Database, events: EventBus, options: NetworkOptions) -> NetworkService:
        """Take up the stored networks. The database must have `sampan.networks.model.SCHEMA`.

        Raises `SystemFailure` with one line that says what is missing (libnftables, a bridge, a right).
        """
        service = cls(database, events, await Kernel.open(options), options)
        await service._catalog.open()
        for container, settings in (await database.read(rows.load_endpoints)).items():
            service._attachments[container] = Attachment(ContainerName(container, container[:12]), settings)
        service._stored = await database.read(rows.load_sandboxes)
        return service

    # --- networks --------------------------------------------------------------------------------------------------------

    async def create(self, request: NetworkCreateRequest) -> str:
        """See `Networks.create`."""
        state = await self._catalog.create(request)
        self._publish("create", state)
        return state.record.id

    def inspect(self, reference: str, *, scope: str = "") -> Network:
        """See `Networks.inspect`."""
        state = self._catalog.find(reference)
        if scope not in ("", "local"):
            raise NotFound(f"network {reference} not found")
        shown = describe_network(state)
        shown.containers = {
            container: ep.resource(self._attachments[container].container.name, endpoint)
            for container, endpoint in state.endpoints.items()
            if container in self._attachments
        }
        shown.status = {"IPAM": {"Subnets": {str(pool.subnet): pool.status() for pool in state.pools}}}
        return shown

    def search(self, wanted: Filters) -> list[Network]:
        """See `Networks.search`."""
        return [describe_network(state) for state in filters.select(self._catalog.all(), wanted)]

    async def remove(self, reference: str) -> None:
        """See `Networks.remove`."""
        state = self._catalog.find(reference)
        await self._catalog.remove(state)
        self._publish("destroy", state)

    async def prune(self, wanted: Filters) -> list[str]:
        """See `Networks.prune`."""
        removed = []
        for state in filters.prunable(self._catalog.all(), wanted):
            try:
                await self._catalog.remove(state)
            except Forbidden:
                continue  # a container has joined meanwhile, or it is the source of another network
            self._publish("destroy", state)
            removed.append(state.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    # --- endpoints -------------------------------------------------------------------------------------------------------

    async def validate(self, endpoints: Mapping[str, EndpointSettings]) -> None:
        """Raise `InvalidParameter` for settings that cannot work. Networks that do not exist are Docker's business at start."""
        states = []
        for reference, settings in endpoints.items():
            state = self._catalog.get(reference)
            pools = None if state is None else state.record.ipam.config or []
            check_endpoint(settings, state.name if state else reference, pools)
            if state is not None:
                states.append(state)
        ep.check_combination(states)

    async def configure(self, container: ContainerName, endpoints: Mapping[str, EndpointSettings]) -> None:
        """See `Networks.configure`."""
        await self.validate(endpoints)
        settings = {}
        for reference, each in endpoints.items():
            state = self._catalog.get(reference)
            kept = settings[state.name if state else reference] = ep.configuration(each)
            kept.network_id = state.record.id if state else ""
        self._attachments[container.id] = Attachment(container, settings)
        await self._store_settings(container.id)

    async def connect(
        self,
        container: ContainerName,
        network: str,
        settings: EndpointSettings,
        *,
        sandbox: Sandbox | None = None,
    ) -> EndpointSettings:
        """See `Networks.connect`."""
        state = self._catalog.find(network)
        attachment = self._attachments.setdefault(container.id, Attachment(container))
        attachment.container = container
        if state.name in attachment.settings:
            if attachment.live is None:
                return self.endpoints(container.id)[state.name]
            raise Forbidden(f"endpoint with name {container.name} already exists in network {state.name}")
        if state.record.driver == "host":
            raise InvalidParameter(
                "cannot connect container to host network - container must be created in host network mode"
            )
        check_endpoint(settings, state.name, state.record.ipam.config or [])
        present = [found for name in attachment.settings if (found := self._catalog.get(name))]
        ep.check_combination([*present, state])
        attachment.settings[state.name] = ep.configuration(settings)
        try:
            if sandbox is not None and attachment.live is not None:
                await self._plug(attachment, attachment.live, state, sandbox)
                point("connect.plugged")
            await self._store_settings(container.id)
        except BaseException:
            del attachment.settings[state.name]
            live = attachment.live
            if live is not None and state.record.id in live.endpoints:
                await self._take_back(attachment, live, state, sandbox)
            raise
        return self.endpoints(container.id)[state.name]

    async def disconnect(
        self, container: ContainerName, network: str, *, sandbox: Sandbox | None = None, force: bool = False
    ) -> None:
        """See `Networks.disconnect`."""
        state = self._catalog.find(network)
        attachment = self._attachments.get(container.id)
        if attachment is None or state.name not in attachment.settings:
            the = (
                "the " if attachment is None or attachment.live is None else ""
            )  # dockerd has two places that say it
            raise SystemFailure(f"container {container.id} is not connected to {the}network {state.name}")
        if state.record.driver == "host":
            raise Forbidden(
                "cannot disconnect container from host network - container was created in host network mode"
            )
        live = attachment.live
        del attachment.settings[state.name]
        if live is not None and state.record.id in live.endpoints:
            await self._unplug(attachment, live, state, sandbox)
            point("disconnect.unplugged")
        await self._store_settings(container.id)

    def endpoints(self, container_id: str) -> dict[str, EndpointSettings]:
        """See `Networks.endpoints`."""
        attachment = self._attachments.get(container_id)
        if attachment is None:
            return {}
        shown = {}
        for name, settings in attachment.settings.items():
            state = self._catalog.get(name)
            endpoint = state.endpoints.get(container_id) if state else None
            shown[name] = ep.describe(settings, endpoint, state)
            if endpoint is None and state is not None and state.resolves:
                shown[name].dns_names = ep.dns_names(attachment.container, settings)
        return shown

    def ports(self, container_id: str) -> PortMap:
        """See `Networks.ports`."""
        attachment = self._attachments.get(container_id)
        return dict(attachment.live.ports) if attachment and attachment.live else {}

    def sockets(self, container_id: str, kind: str) -> list[int]:
        """See `Networks.sockets`."""
        if kind == "dns":
            return self._names.sockets(container_id)
        attachment = self._attachments.get(container_id)
        held = attachment.live.reservations if attachment and attachment.live else []
        return [each.socket.fileno() for each in held if each.socket is not None]

    async def rename(self, container: ContainerName) -> None:
        """See `Networks.rename`."""
        attachment = self._attachments.get(container.id)
        if attachment is None:
            return
        attachment.container = container
        if attachment.live is not None:
            for endpoint in attachment.live.endpoints.values():
                if endpoint.network.resolves:
                    settings = attachment.settings[endpoint.network.name]
                    endpoint.network_names = ep.dns_names(container, settings)
            self._names.register(attachment.live)

    # --- a container's start and end ---------------------------------------------------------------------------------------

    async def join(self, request: SandboxRequest) -> Joined:
        """See `Networks.join`. Errors carry dockerd's prefix "failed to set up container networking"."""
        await self.leave(request.container.id)
        attachment = self._attachments.setdefault(request.container.id, Attachment(request.container))
        attachment.container = request.container
        live = Live(request, new_id())
        try:
            self._take(attachment, live)
            await self._make(attachment, live)
        except SampanError as error:
            await self._let_go(live)
            raise _kind(error)(f"failed to set up container networking: {error}") from error
        except BaseException:
            await self._let_go(live)
            raise
        attachment.live = live
        for endpoint in live.endpoints.values():
            self._publish("connect", endpoint.network, container=request.container.id)
        return Joined(self.endpoints(request.container.id), dict(live.ports), live.sandbox_id)

    def _take(self, attachment: Attachment, live: Live) -> None:
        """Addresses, names of interfaces, host ports: in memory only."""
        container = attachment.container
        settings: dict[str, EndpointSettings] = {}
        for reference, each in attachment.settings.items():  # the network mode's first, as it was created
            state = self._still_there(reference, each)
            check_endpoint(each, state.name, state.record.ipam.config or [])
            settings[state.name] = each
            taken = [endpoint.interface for endpoint in live.endpoints.values()]
            endpoint = ep.allocate(state, container, each, taken)
            live.endpoints[state.record.id] = state.endpoints[container.id] = endpoint
        attachment.settings = settings
        leading = ep.gateways(live.endpoints, settings)
        outside = leading.get(4) or leading.get(6)
        bridged = outside if outside and outside.network.record.driver == "bridge" else None
        self._publisher.reserve(live, bridged)
        live.ports = port_map(live.request, live.reservations) if live.private else {}

    def _still_there(self, reference: str, settings: EndpointSettings) -> NetworkState:
        """A container's network. Raises `NotFound`, with the id of one that was there when the container was made."""
        state = self._catalog.get(reference)
        if state is None:
            raise NotFound(f"network {settings.network_id or reference} not found")
        return state

    async def _make(self, attachment: Attachment, live: Live) -> None:
        """Interfaces, files, rules, names."""
        request = live.request
        leading = ep.gateways(live.endpoints, attachment.settings)
        live.published = self._publisher.translate(live, leading)
        extra = [*extra_hosts(request, self._host_gateways()), *legacy_hosts(request, self._attachments)]
        stored = asyncio.ensure_future(
            self._database.write(
                lambda cx: rows.put_sandbox(cx, request.container.id, live.record()), durable=False
            )
        )
        try:
            point("join.addresses-taken")
            await self._make_links(live, leading, extra)
            point("join.linked")
        finally:
            await stored
        point("join.row-written")
        await self._publisher.relay(live, leading)
        if request.sandbox is not None:
            await self._finish_sandbox(attachment, live, request.sandbox)
        if request.links:
            await self._kernel.set_links(self._link_rules(live))

    async def _make_links(
        self, live: Live, leading: dict[int, Endpoint], extra: Sequence[tuple[str, str]]
    ) -> None:
        def files(macs: dict[str, str]) -> None:
            for endpoint in live.endpoints.values():
                endpoint.mac = macs.get(endpoint.interface, endpoint.mac)
            self._names.write_files(live, extra, first=True)

        sandbox = live.request.sandbox
        if sandbox is None:
            await self._kernel.run(lambda host: files({}))
            return
        published = bool(live.reservations)
        plans = self._plans(live.endpoints.values(), published)
        ports, live.published = live.published, []
        await self._kernel.attach(sandbox, plans, ep.default_routes(leading), ports, files)
        live.published = ports
        _reach_inside(live, sandbox)

    async def _finish_sandbox(self, attachment: Attachment, live: Live, sandbox: Sandbox) -> None:
        """Names, and what can only be set from within the namespace."""
        self._link_aliases(attachment, live)
        self._names.register(live)
        await self._names.serve(live, sandbox)
        for endpoint in live.endpoints.values():
            options = attachment.settings[endpoint.network.name].driver_opts or {}
            await apply_sysctls(self._kernel.visitor, sandbox, endpoint.interface, options)

    async def leave(self, container_id: str) -> None:
        """See `Networks.leave`."""
        attachment = self._attachments.get(container_id)
        live = attachment.live if attachment else None
        if attachment is None or live is None:
            return
        attachment.live = None
        await self._let_go(live)
        for endpoint in live.endpoints.values():
            self._publish("disconnect", endpoint.network, container=container_id)

    async def _let_go(self, live: Live) -> None:
        """Give back everything that a container holds; its interfaces die with its namespace, or are made to."""
        container = live.request.container.id
        self._departed.add(ep.host_links(live.endpoints.values()))
        await self._remove_inner_links(live)
        self._names.forget(live)
        self._publisher.release(live)
        published, live.published = live.published, []
        await self._kernel.withdraw(published)
        for endpoint in live.endpoints.values():
            if endpoint.network.endpoints.get(container) is endpoint:
                del endpoint.network.endpoints[container]
            endpoint.network.release(endpoint)
        if live.request.links:
            await self._kernel.set_links(self._link_rules(None))
        point("leave.ports-closed")
        await self._database.write(lambda cx: rows.drop_sandbox(cx, container), durable=False)

    async def _remove_inner_links(self, live: Live) -> None:
        """A namespace may outlive its processes by minutes (`departed`), and its macvlan links would answer for their addresses."""
        inside, live.inside = live.inside, -1
        if inside < 0:
            return
        try:
            await self._kernel.remove_inside(inside, ep.inner_links(live.endpoints.values()))
        except (SampanError, OSError) as error:
            log.warning("%s: its links: %s", live.request.container.id, error)
        finally:
            os.close(inside)

    async def forget(self, container_id: str) -> None:
        """See `Networks.forget`."""
        await self.leave(container_id)
        if self._attachments.pop(container_id, None) is not None:
            await self._database.write(lambda cx: rows.drop_container(cx, container_id), durable=False)

    async def forget_others(self, containers: Collection[str]) -> None:
        """See `Networks.forget_others`."""
        strangers = [container for container in self._attachments if container not in containers]
        for container in strangers:
            del self._attachments[container]
        if strangers:
            await self._database.write(lambda cx: rows.drop_containers(cx, strangers), durable=False)

    # --- while it runs ---------------------------------------------------------------------------------------------------

    async def _plug(self, attachment: Attachment, live: Live, state: NetworkState, sandbox: Sandbox) -> None:
        """Add one interface to a running container."""
        container = attachment.container
        taken = [endpoint.interface for endpoint in live.endpoints.values()]
        endpoint = ep.allocate(state, container, attachment.settings[state.name], taken)
        live.endpoints[state.record.id] = state.endpoints[container.id] = endpoint
        plans = self._plans([endpoint], bool(live.reservations))
        await self._kernel.attach(sandbox, plans, [], [], lambda macs: None)
        _reach_inside(live, sandbox)
        await self._rearrange(attachment, live, sandbox)
        self._publish("connect", state, container=container.id)

    async def _take_back(
        self, attachment: Attachment, live: Live, state: NetworkState, sandbox: Sandbox | None
    ) -> None:
        """A connection that failed, at whatever step; the first error is what counts."""
        try:
            await self._unplug(attachment, live, state, sandbox)
        except (SampanError, OSError):
            log.exception("%s: taking back its connection to %s", attachment.container.id, state.name)

    async def _unplug(
        self, attachment: Attachment, live: Live, state: NetworkState, sandbox: Sandbox | None
    ) -> None:
        """Take one interface from a running container."""
        container = attachment.container.id
        endpoint = live.endpoints.pop(state.record.id)
        state.endpoints.pop(container, None)
        self._names.directory.unregister(state.record.id, container)
        self._names.directory.link(state.record.id, container, {})
        try:
            if sandbox is not None:
                if endpoint.interface:
                    await self._kernel.detach(sandbox, [(endpoint.interface, endpoint.host_name)])
                await self._rearrange(attachment, live, sandbox)
        finally:
            state.release(endpoint)
        self._publish("disconnect", state, container=container)

    async def _rearrange(self, attachment: Attachment, live: Live, sandbox: Sandbox) -> None:
        """After a change of networks: default routes, published ports, files and names follow."""
        leading = ep.gateways(live.endpoints, attachment.settings)
        routes = ep.default_routes(leading)
        await self._kernel.withdraw(live.published)
        live.published = []
        outside = leading.get(4) or leading.get(6)
        if outside is None:
            self._publisher.release(live)  # nobody could answer at them
        elif not live.reservations:
            self._publisher.reserve(live, outside if outside.network.record.driver == "bridge" else None)
        published = self._publisher.translate(live, leading)
        extra = [
            *extra_hosts(live.request, self._host_gateways()),
            *legacy_hosts(live.request, self._attachments),
        ]

        await self._kernel.run(lambda host: set_default_routes(sandbox, routes))
        await self._kernel.publish(published)
        live.published = published
        live.ports = port_map(live.request, live.reservations) if live.private else {}
        await self._kernel.run(lambda host: self._names.write_files(live, extra, first=False))
        await self._publisher.relay(live, leading)
        await self._finish_sandbox(attachment, live, sandbox)
        record = live.record()
        await self._database.write(
            lambda cx: rows.put_sandbox(cx, live.request.container.id, record), durable=False
        )

    # --- the engine's life -------------------------------------------------------------------------------------------------

    async def restore(self, requests: Sequence[SandboxRequest]) -> None:
        """See `Networks.restore`."""
        await self._catalog.raise_links()
        revived = [live for request in requests if (live := self._revive(request)) is not None]
        alive = [name for live in revived for name in ep.host_links(live.endpoints.values())]
        await self._catalog.remove_strays(alive)
        gone = [container for container in self._stored if not self._is_live(container)]
        for container in gone:
            self._pass_over(self._stored[container])
        await self._database.write(lambda cx: rows.drop_sandboxes(cx, gone), durable=False)
        self._stored.clear()
        ports = [port for live in revived for port in live.published]
        await self._kernel.reset_firewall(self._catalog.rules(), ports)
        for live in revived:
            attachment = self._attachments[live.request.container.id]
            await self._publisher.relay(live, ep.gateways(live.endpoints, attachment.settings))
            if live.request.sandbox is not None:
                await self._finish_sandbox(attachment, live, live.request.sandbox)
        if self._kernel.firewall is not None:
            self._watch = FilterWatch(self._kernel, self._kernel.firewall.table, self._all_published)

    def _revive(self, request: SandboxRequest) -> Live | None:
        """What an earlier engine gave a container, taken up again."""
        record = self._stored.get(request.container.id)
        attachment = self._attachments.get(request.container.id)
        if record is None or attachment is None:
            for descriptor in chain.from_iterable(request.kept.values()):
                os.close(descriptor)
            return None
        attachment.container = request.container
        live = Live(request, record.sandbox_id)
        for each in record.endpoints:
            state = self._catalog.get(each.network)
            if state is None:
                continue
            endpoint = Endpoint(state, each.endpoint, each.interface, each.host_name, each.mac)
            endpoint.claim(each.addresses)
            # An engine that was killed while it connected a running container had plugged the interface in already:
            # the connection is there, only its settings were not stored.
            settings = attachment.settings.setdefault(state.name, EndpointSettings())
            if state.resolves:
                endpoint.network_names = ep.dns_names(request.container, settings)
            live.endpoints[state.record.id] = state.endpoints[request.container.id] = endpoint
        self._publisher.restore(live, record.ports, request.kept.pop("ports", ()))
        live.published = self._publisher.translate(live, ep.gateways(live.endpoints, attachment.settings))
        live.ports = port_map(request, live.reservations) if live.private else {}
        attachment.live = live
        if request.sandbox is not None:
            _reach_inside(live, request.sandbox)
        return live

    def _pass_over(self, record: SandboxRecord) -> None:
        """The addresses of a container that has ended meanwhile are free, but not the next ones to be handed out."""
        for each in record.endpoints:
            if (state := self._catalog.get(each.network)) is not None:
                endpoint = Endpoint(state, each.endpoint)
                held = {address for other in state.endpoints.values() for address in other.addresses}
                endpoint.claim([text for text in each.addresses if ipaddress.ip_interface(text) not in held])
                state.release(endpoint)

    def _is_live(self, container: str) -> bool:
        attachment = self._attachments.get(container)
        return attachment is not None and attachment.live is not None

    async def close(self) -> None:
        """See `Networks.close`."""
        self._names.close()
        if self._watch is not None:
            await self._watch.close()
        running = [attachment.live for attachment in self._attachments.values() if attachment.live]
        for live in running:
            self._publisher.release(live)
            if live.inside >= 0:
                os.close(live.inside)
        try:
            await self._departed.close()
            if not running:
                await self._kernel.remove_firewall()
                await self._catalog.lower_links()
        finally:
            await self._kernel.close()

    # --- small parts ---------------------------------------------------------------------------------------------------------

    def _plans(self, endpoints: Iterable[Endpoint], published: bool) -> list[InterfacePlan]:
        mark = self._options.link_mark
        return [ep.plan(each, published=published, mark=mark) for each in endpoints if each.interface]

    def _host_gateways(self) -> list[str]:
        """What `host-gateway` stands for: as configured, else the default bridge's own addresses."""
        if self._options.host_gateway_ips:
            return list(self._options.host_gateway_ips)
        state = self._catalog.get("bridge")
        return [str(pool.gateway) for pool in state.pools if pool.gateway] if state else []

    def _link_aliases(self, attachment: Attachment, live: Live) -> None:
        """`--link` on user-defined networks: aliases that only this container knows."""
        for identifier, endpoint in live.endpoints.items():
            aliases = {}
            for link in attachment.settings[endpoint.network.name].links or ():
                target, _, alias = link.partition(":")
                aliases[alias or target] = target.lstrip("/")
            self._names.directory.link(identifier, live.request.container.id, aliases)

    def _all_published(self) -> list[PublishedPort]:
        lives = [attachment.live for attachment in self._attachments.values() if attachment.live]
        return [port for live in lives for port in live.published]

    def _link_rules(self, joining: Live | None) -> list[LinkRules]:
        lives = [attachment.live for attachment in self._attachments.values() if attachment.live]
        return link_rules([*lives, joining] if joining else lives, self._attachments)

    async def _store_settings(self, container_id: str) -> None:
        settings = dict(self._attachments[container_id].settings)
        await self._database.write(lambda cx: rows.put_endpoints(cx, container_id, settings), durable=False)

    def _publish(self, action: str, state: NetworkState, **more: str) -> None:
        attributes = {**more, "name": state.name, "type": state.record.driver}
        self._events.publish("network", action, state.record.id, attributes)


def _reach_inside(live: Live, sandbox: Sandbox) -> None:
    if live.inside < 0 and ep.inner_links(live.endpoints.values()):
        live.inside = os.dup(sandbox.route_fd)


def _kind(error: SampanError) -> type[SampanError]:
    """The error's kind as the faces know it; errors of mechanisms have constructors of their own."""
    return type(error) if type(error).__module__ == SampanError.__module__ else SystemFailure
