"""version."""

from __future__ import annotations

import json
import platform
import sys
from typing import TYPE_CHECKING, Any

from sampan.cli.command import option, verb
from sampan.cli.formats import VALUE_FORMAT
from sampan.cli.values import STRING
from sampan.client.api import NEWEST_VERSION
from sampan.errors import SampanError
from sampan.version import __version__

if TYPE_CHECKING:
    from sampan.cli.session import Session

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@verb("[OPTIONS]", "Show the version information", aliases=("version",))
@option("-f", "--format", kind=STRING, default="", help=VALUE_FORMAT)
def version(session: Session, args: tuple[str, ...], format: str) -> None:
    failure = None
    try:
        server: dict[str, Any] | None = session.call("GET", "/version")
        spoken = session.api.version
    except SampanError as error:
        failure, server, spoken = error, None, NEWEST_VERSION
    client = {
        "Version": __version__,
        "ApiVersion": "{}.{}".format(*spoken),
        "DefaultAPIVersion": "{}.{}".format(*NEWEST_VERSION),
        "PythonVersion": platform.python_version(),
        "Os": "linux" if sys.platform.startswith("linux") else sys.platform,
        "Arch": _MACHINES.get(platform.machine(), platform.machine()),
        "Context": "default",
    }
    if format in ("json", "{{json .}}"):
        print(json.dumps({"Client": client, "Server": server}, separators=(",", ":")))
    elif format:
        from sampan.cli.gotemplate import Template

        print(Template(format).render({"Client": client, "Server": server}))
    else:
        _print_client(client, spoken)
        if server is not None:
            _print_server(server)
    if failure is not None:
        raise failure


def _print_client(client: dict[str, Any], spoken: tuple[int, int]) -> None:
    api = client["ApiVersion"]
    if spoken != NEWEST_VERSION:
        api += f" (downgraded from {client['DefaultAPIVersion']})"
    print("Client:")
    for name, value in (
        ("Version", client["Version"]),
        ("API version", api),
        ("Python version", client["PythonVersion"]),
        ("OS/Arch", f"{client['Os']}/{client['Arch']}"),
        ("Context", client["Context"]),
    ):
        print(f" {name + ':':<18} {value}")


def _print_server(server: dict[str, Any]) -> None:
    print(f"\nServer: {(server.get('Platform') or {}).get('Name', '')}".rstrip())
    for component in server.get("Components") or []:
        details = component.get("Details") or {}
        print(f" {component['Name']}:")
        rows = [("Version", component["Version"])]
        if "ApiVersion" in details:
            minimum = details.get("MinAPIVersion", "")
            rows.append(("API version", f"{details['ApiVersion']} (minimum version {minimum})"))
            rows.append(("OS/Arch", f"{details.get('Os')}/{details.get('Arch')}"))
        rows += [("GitCommit", details["GitCommit"])] if details.get("GitCommit") else []
        for name, value in rows:
            print(f"  {name + ':':<17} {value}")
