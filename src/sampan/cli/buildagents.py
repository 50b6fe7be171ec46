"""`--ssh`: agents that a build's programs may talk to, and keys, for which an agent is run while the build lasts."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from sampan.errors import InvalidParameter, NotFound


@contextmanager
def agents(texts: Sequence[str]) -> Iterator[dict[str, str]]:
    """`default`, `ID=SOCKET`, `ID=KEY,KEY…`: sockets by id, for the block. Raises `InvalidParameter`, `NotFound`."""
    with ExitStack() as until_end:
        found = {}
        for text in texts:
            id, _, paths = text.partition("=")
            found[id or "default"] = until_end.enter_context(_agent(text, paths))
        yield found


@contextmanager
def _agent(text: str, given: str) -> Iterator[str]:
    paths = [each for each in given.split(",") if each] or [os.environ.get("SSH_AUTH_SOCK", "")]
    if not paths[0]:
        id = text.partition("=")[0]
        raise InvalidParameter(f"invalid empty ssh agent socket for {id}: make sure SSH_AUTH_SOCK is set")
    sockets = [each for each in paths if _is_socket(text, each)]
    if not sockets:
        with _with_keys(paths) as socket:
            yield socket
    elif len(paths) > 1:
        raise InvalidParameter(f"--ssh {text}: only a single socket allowed")
    else:
        yield paths[0]


def _is_socket(text: str, path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as error:
        raise InvalidParameter(f"--ssh {text}: {path}: {(error.strerror or '').lower()}") from None


@contextmanager
def _with_keys(paths: Sequence[str]) -> Iterator[str]:
    """The machine's own ssh-agent with these keys; it ends with us, however we end. ssh-add asks for passphrases."""
    with tempfile.TemporaryDirectory(prefix="sampan-ssh-") as directory:
        socket = os.path.join(directory, "agent")
        # Its command waits for our end of the pipe to close, and the agent for its command.
        command = ["ssh-agent", "-a", socket, "sh", "-c", "echo; exec cat"]
        try:
            agent = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except FileNotFoundError:
            raise NotFound("--ssh with keys needs ssh-agent, which is not on this machine") from None
        with agent:
            assert agent.stdin is not None and agent.stdout is not None  # it was made with both
            if not agent.stdout.readline():
                raise InvalidParameter("--ssh: ssh-agent did not start")
            try:
                added = subprocess.run(
                    ["ssh-add", "-q", *paths],
                    env={**os.environ, "SSH_AUTH_SOCK": socket},
                    stderr=subprocess.PIPE,
                    text=True,
                    check=False,
                )
                if added.returncode:
                    raise InvalidParameter(
                        f"--ssh: failed to parse {', '.join(paths)}: {added.stderr.strip()}"
                    )
                yield socket
            finally:
                agent.stdin.close()
                agent.wait()
