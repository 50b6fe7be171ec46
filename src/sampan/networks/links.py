"""Legacy links on the default bridge: names in the hosts file, and a way through where containers may not talk to each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sampan.firewall.rules import LinkRules
from sampan.networks import drivers
from sampan.networks.interface import SandboxRequest
from sampan.networks.model import Attachment, Endpoint, Live
from sampan.networks.ports import parse_port


def legacy_hosts(request: SandboxRequest, attachments: Mapping[str, Attachment]) -> list[tuple[str, str]]:
    """(address, names) of the linked containers: alias, host name, name, each once."""
    found = []
    for target, alias, _ in request.links:
        endpoint = _default_endpoint(attachments.get(target.id))
        if endpoint is None:
            continue
        names = " ".join(dict.fromkeys(name for name in (alias, target.hostname, target.name) if name))
        found += [(str(address.ip), names) for address in endpoint.addresses]
    return found


def link_rules(lives: Iterable[Live], attachments: Mapping[str, Attachment]) -> list[LinkRules]:
    """What the packet filter is to let through, in both directions' first packets: to the exposed ports of the targets only."""
    found = []
    for live in lives:
        for target, _, exposed in live.request.links:
            source = next((each for each in live.endpoints.values() if each.network.name == "bridge"), None)
            aim = _default_endpoint(attachments.get(target.id))
            if source is None or aim is None or source.v4 is None or aim.v4 is None:
                continue
            if drivers.boolean(source.network.record.options, drivers.ICC, True):
                continue
            ports = tuple((protocol, port) for port, protocol in map(parse_port, exposed))
            found.append(LinkRules(source.network.record.interface, source.v4.ip, aim.v4.ip, ports))
    return found


def _default_endpoint(attachment: Attachment | None) -> Endpoint | None:
    if attachment is None or attachment.live is None:
        return None
    return next((each for each in attachment.live.endpoints.values() if each.network.name == "bridge"), None)
