"""env: what points other clients at this engine."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from sampan.cli.command import flag, verb

if TYPE_CHECKING:
    from sampan.cli.session import Session


@verb(
    "[OPTIONS]",
    "Print what points other clients at this engine",
    aliases=("env",),
    examples='$ eval "$(sampan env)"\n$ docker ps',
)
@flag("-u", "--unset", help="Print what takes it back")
def env(session: Session, args: tuple[str, ...], unset: bool) -> None:
    """Shell code. The engine is started, so that the clients find it."""
    variables = _variables(session)
    if unset:
        print("unset " + " ".join(variables))
        return
    session.engine.ping()
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")


def _variables(session: Session) -> dict[str, str]:
    endpoint = session.api.endpoint
    variables = {"DOCKER_HOST": endpoint.url}
    if endpoint.socket_path:
        # Testcontainers mounts the socket into its helper containers under this path of the host.
        variables["TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE"] = endpoint.socket_path
    # Its reaper is an image from a hub, which an engine without one cannot pull.
    variables["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    if endpoint.tls is not None:
        variables["DOCKER_TLS_VERIFY"] = "1" if endpoint.tls.verify else ""
    return variables
