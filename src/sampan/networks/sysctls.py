"""Settings of one interface inside a container: the endpoint option `com.docker.network.endpoint.sysctls`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter, reason_of
from sampan.networks.validate import SYSCTLS

if TYPE_CHECKING:
    from sampan.netlink.thread import NamespaceVisitor
    from sampan.runtime.interface import Sandbox

_ROOT = Path("/proc/sys")


async def apply_sysctls(
    visitor: NamespaceVisitor, sandbox: Sandbox, interface: str, options: Mapping[str, str]
) -> None:
    """Write `net.X.Y.IFNAME.Z=V,…` inside the namespace. Raises `InvalidParameter` for what the kernel refuses.

    The engine's own /proc is written from a thread that has entered the namespace: /proc/sys/net shows the namespace of whoever
    opens it, and the container's /proc, which the container controls, is never looked at.
    """
    text = options.get(SYSCTLS)
    if not text or not interface:
        return
    settings = [parse(each, interface) for each in text.split(",")]

    def work() -> None:
        for path, value in settings:
            try:
                path.write_text(value)
            except OSError as error:
                raise InvalidParameter(f"cannot set {path}: {reason_of(error)}") from error

    await visitor.run(sandbox.netns_fd, work)


def parse(setting: str, interface: str) -> tuple[Path, str]:
    """`net.ipv4.conf.IFNAME.log_martians=1` → (path, "1"). Raises `InvalidParameter` for names that leave /proc/sys/net."""
    name, equals, value = setting.partition("=")
    parts = name.split(".", 4)
    if not equals or len(parts) != 5 or parts[0] != "net" or parts[3].upper() != "IFNAME":
        raise InvalidParameter(f"unrecognised network interface sysctl '{setting}'")
    words = [parts[0], parts[1], parts[2], interface, parts[4]]
    if any("/" in word or word in ("", ".", "..") for word in words):
        raise InvalidParameter(f"unrecognised network interface sysctl '{setting}'")
    return _ROOT.joinpath(*words), value
