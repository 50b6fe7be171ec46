"""system enable, system disable: a socket-activated unit, so that clients which cannot start an engine find one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from sampan.cli.command import flag, option, verb
from sampan.cli.values import STRING
from sampan.client.endpoint import default_host
from sampan.errors import InvalidParameter, NotFound, NotSupported, SystemFailure

if TYPE_CHECKING:
    from sampan.cli.session import Session

_FOLDER = "/etc/systemd/system"
_NAMES = ("sampan.socket", "sampan.service")

_SOCKET = """\
[Unit]
Description=Sampan engine's socket

[Socket]
ListenStream={path}
SocketMode=0660
SocketUser=root
SocketGroup={group}

[Install]
WantedBy=sockets.target
"""

_SERVICE = """\
[Unit]
Description=Sampan engine
After=network-online.target nss-lookup.target firewalld.service
Wants=network-online.target
Requires=sampan.socket

[Service]
Type=notify
ExecStart={python} -I -m sampan.serve -H fd:// --on-demand
ExecReload=/bin/kill -s HUP $MAINPID
Restart=on-failure
# Containers outlive the engine: only its own process is stopped, and its cgroups are its own business.
KillMode=process
Delegate=yes
LimitNOFILE=infinity
LimitNPROC=infinity
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


def _usual_group() -> str:
    """Whom `sampan serve` would let in, and dockerd."""
    import grp

    try:
        return grp.getgrnam("docker").gr_name
    except KeyError:
        return "root"


@verb(
    "[OPTIONS]",
    "Install a socket-activated unit, so that any client starts the engine",
    aliases=("system enable",),
    examples="$ sudo sampan system enable\n$ sudo sampan system enable --socket /run/docker.sock",
)
@option(
    "--group",
    kind=STRING,
    default="",
    help="Group that may use the socket (default docker, where there is one)",
)
@flag("--print", help="Print the units and change nothing")
@option("--socket", kind=STRING, default="", help="Path of the socket (Sampan's own)")
def enable(session: Session, args: tuple[str, ...], group: str, print: bool, socket: str) -> None:
    """Say everything that was done."""
    path = socket or default_host().removeprefix("unix://")
    if not os.path.isabs(path):
        raise InvalidParameter(f"--socket {path}: an absolute path is needed")
    units = {
        "sampan.socket": _SOCKET.format(path=path, group=group or _usual_group()),
        "sampan.service": _SERVICE.format(python=sys.executable),
    }
    if print:
        for name, text in units.items():
            sys.stdout.write(f"# {name}\n{text}\n")
        return
    _require_systemd()
    for name, text in units.items():
        target = os.path.join(_FOLDER, name)
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
        sys.stdout.write(f"wrote {target}\n")
    _run("systemctl", "daemon-reload")
    # The service, too: at the machine's start it brings back the containers that are to be restarted, or finds itself idle.
    _run("systemctl", "enable", *_NAMES)
    _run("systemctl", "start", "sampan.socket")
    sys.stdout.write(
        f"The engine starts with the first client at unix://{path}, and leaves when it is idle\n"
    )


@verb("", "Take the unit away that `system enable` installed", aliases=("system disable",))
def disable(session: Session, args: tuple[str, ...]) -> None:
    """Its engine stops, with its containers unless it has --live-restore; images and volumes stay."""
    _require_systemd()
    installed = [path for name in _NAMES if os.path.exists(path := os.path.join(_FOLDER, name))]
    if not installed:
        raise NotFound(f"no unit of Sampan's in {_FOLDER}: `sampan system enable` installs one")
    _run("systemctl", "disable", "--now", *_NAMES)
    for path in installed:
        os.unlink(path)
        sys.stdout.write(f"removed {path}\n")
    _run("systemctl", "daemon-reload")


def _run(*command: str) -> None:
    sys.stdout.write("+ " + " ".join(command) + "\n")
    sys.stdout.flush()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemFailure(f"{' '.join(command)} failed: {done.stderr.strip()}")


def _require_systemd() -> None:
    if not shutil.which("systemctl") or not os.path.isdir("/run/systemd/system"):
        raise NotSupported(
            "this machine was not started by systemd, so there is no unit to install; "
            "`sampan` itself starts the engine when it is needed, and `sampan serve &` keeps one for other clients"
        )
    if os.geteuid() != 0:
        raise InvalidParameter("units are root's: sudo sampan system enable (or disable)")
