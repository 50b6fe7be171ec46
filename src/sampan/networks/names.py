"""Names for containers: who is served by the embedded resolver, and the three files that every container has.

The resolver (and with it dnslib, whose import takes tens of milliseconds) is loaded when the first container joins a network that
resolves names.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.dns.directory import Directory
from sampan.dns.hosts import hosts_file
from sampan.dns.resolvconf import Overrides, ResolvConf, direct, internal, ndots_set
from sampan.dns.sockets import ResolverSockets, adopt, make, redirection
from sampan.errors import InvalidParameter, SystemFailure, reason_of
from sampan.firewall.nftables import Nftables
from sampan.networks.interface import SandboxRequest
from sampan.networks.kernel import Kernel
from sampan.networks.model import Live
from sampan.networks.options import NetworkOptions

if TYPE_CHECKING:
    from sampan.dns.resolver import Resolver
    from sampan.runtime.interface import Sandbox

HOST_GATEWAY = "host-gateway"


class Names:
    """The service's resolver and file writer."""

    def __init__(self, kernel: Kernel, options: NetworkOptions) -> None:
        self.directory = Directory()
        self._kernel = kernel
        self._options = options
        self._resolver: Resolver | None = None
        self._loading = asyncio.Lock()

    async def serve(self, live: Live, sandbox: Sandbox) -> None:
        """Let a container's queries be answered, from now on or anew; a running one's view is changed in place."""
        networks = [endpoint.network for endpoint in live.endpoints.values()]
        resolving = [network.record.id for network in networks if network.resolves]
        container = live.request.container.id
        if not resolving:
            self.stop(container)
            return
        resolver = await self._loaded()
        forward = any(not network.record.internal for network in networks)
        view = resolver.view(container)
        if view is not None:
            view.networks, view.forward = resolving, forward
            return
        from sampan.dns.origin import Origin
        from sampan.dns.resolver import View

        overrides = self.overrides(live.request)
        kept = live.request.kept.pop("dns", None)  # once: later ones are made anew
        sockets = adopt(kept) if kept else await self._kernel.visitor.run(sandbox.netns_fd, self._open)
        origin = Origin(self._kernel.visitor, sandbox.netns_fd, own_servers=bool(live.request.dns))
        view = View(
            container, resolving, list(overrides.nameservers), forward, ndots_set(overrides.options), origin
        )
        await resolver.serve(view, sockets)

    def sockets(self, container: str) -> list[int]:
        """Where a container's queries arrive; empty for one that is not served."""
        return self._resolver.sockets(container) if self._resolver is not None else []

    def stop(self, container: str) -> None:
        """The container's queries are not answered any more. Idempotent."""
        if self._resolver is not None:
            self._resolver.stop(container)

    def close(self) -> None:
        """Answer nobody any more."""
        if self._resolver is not None:
            self._resolver.close()

    def register(self, live: Live) -> None:
        """Let the others find a container on the networks that it is on now."""
        for identifier, endpoint in live.endpoints.items():
            if endpoint.network.resolves:
                self.directory.register(
                    identifier,
                    endpoint.network.name,
                    live.request.container.id,
                    endpoint.network_names,
                    [address.ip for address in endpoint.addresses],
                )

    def forget(self, live: Live) -> None:
        """Nobody finds the container any more, and it finds nobody."""
        for identifier in live.endpoints:
            self.directory.unregister(identifier, live.request.container.id)
            self.directory.link(identifier, live.request.container.id, {})
        self.stop(live.request.container.id)

    def overrides(self, request: SandboxRequest) -> Overrides:
        """What the container's own options or the engine's configuration put in place of the host's resolv.conf."""
        return Overrides(
            request.dns or self._options.dns,
            request.dns_search or self._options.dns_search,
            request.dns_options or self._options.dns_opts,
        )

    def write_files(self, live: Live, extra: Sequence[tuple[str, str]], *, first: bool) -> None:
        """Write hostname, hosts and resolv.conf in place. Called on the network thread.

        After the start (`first` false) only hosts is written, and resolv.conf where the container has not changed it.
        """
        request = live.request
        hostname = request.container.hostname
        resolv_conf = self._resolv_conf(live)
        on_host = request.sandbox is None
        if on_host:
            hosts = _host_file(extra)
        else:
            addresses = [
                str(address.ip) for endpoint in live.endpoints.values() for address in endpoint.addresses
            ]
            hosts = hosts_file(
                hostname=hostname, domainname=request.domainname, addresses=addresses, extra=extra
            )
        _write(request.files.hosts, hosts)
        if first:
            _write(request.files.hostname, f"{hostname}\n")
            _write(request.files.resolv_conf, resolv_conf)
        elif _read(request.files.resolv_conf) == live.resolv_conf:
            _write(request.files.resolv_conf, resolv_conf)
        live.resolv_conf = resolv_conf

    def _resolv_conf(self, live: Live) -> str:
        host, overrides = ResolvConf.of_host(), self.overrides(live.request)
        if any(endpoint.network.resolves for endpoint in live.endpoints.values()):
            return internal(host, overrides)
        ipv6 = any(endpoint.v6 is not None for endpoint in live.endpoints.values())
        return direct(host, overrides, ipv6=ipv6, loopback=live.request.sandbox is None)

    async def _loaded(self) -> Resolver:
        async with self._loading:
            if self._resolver is None:
                self._resolver = await asyncio.to_thread(self._load)
            return self._resolver

    def _load(self) -> Resolver:
        from sampan.dns.forwarder import Forwarder
        from sampan.dns.resolver import Resolver

        return Resolver(self.directory, Forwarder(lambda: ResolvConf.of_host().nameservers))

    @staticmethod
    def _open() -> ResolverSockets:
        """Inside the container's namespace: the sockets, and the rules that lead port 53 to them."""
        sockets = make()
        try:
            nft = Nftables()
            try:
                nft.run(redirection(sockets.udp.getsockname()[1], sockets.tcp.getsockname()[1]))
            finally:
                nft.close()
        except BaseException:
            sockets.close()
            raise
        return sockets


def extra_hosts(request: SandboxRequest, gateways: Sequence[str]) -> list[tuple[str, str]]:
    """(address, name) of `--add-host`; `gateways` stand for `host-gateway`. Raises `InvalidParameter`, `SystemFailure`."""
    found = []
    for text in request.extra_hosts:
        name, separator, address = text.partition("=" if "=" in text else ":")
        if not separator or not name:
            raise InvalidParameter(f"bad format for add-host: {text!r}")
        if address == HOST_GATEWAY:
            if not gateways:
                raise SystemFailure("unable to derive the IP value for host-gateway")
            found += [(gateway, name) for gateway in gateways]
            continue
        try:
            found.append((str(ipaddress.ip_address(address.strip("[]"))), name))
        except ValueError:
            raise InvalidParameter(f"invalid IP address in add-host: {address!r}") from None
    return found


def _host_file(extra: Sequence[tuple[str, str]]) -> str:
    """The host's own hosts file and what was added."""
    text = _read(Path("/etc/hosts"))
    if text and not text.endswith("\n"):
        text += "\n"
    return text + "".join(f"{address}\t{name}\n" for address, name in extra)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    """In place: the inode is what the container has mounted. Shortened last, not emptied first: ext4 flushes a file that was
    truncated to nothing when it is closed, which costs a millisecond."""
    data = text.encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(descriptor, data, 0)
            os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SystemFailure(f"cannot write {path}: {reason_of(error)}") from error
