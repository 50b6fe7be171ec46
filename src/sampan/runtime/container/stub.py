"""The parent's side: clone a stub ahead of time, tell it what to become, let it go."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sampan.runtime.container.config import InitConfig, JoinConfig
    from sampan.seccomp.interface import Program


class Stub:
    """A child that waits to become a container's process. Its owner waits for the pid (SIGCHLD, pidfd)."""

    pid: int
    pidfd: int
    """Close-on-exec; closed by `close`."""

    def configure(
        self,
        config: InitConfig,
        *,
        stdio: tuple[int, int, int] | None,
        seccomp: Program | None = None,
        preserved: tuple[int, ...] = (),
        start_listener: int | None = None,
    ) -> int | None:
        """Make the container; when this returns, its state is `created`.

        `stdio`: descriptors that become 0, 1, 2; None with `process.terminal`, whose master side is then
        returned (close-on-exec, the caller's). `preserved` become 3, 4, …. With `start_listener`, a listening
        Unix socket, a later process can start the container by `start_remote`, after this parent has ended.

        The parent's copies of all descriptors stay open. Blocks some milliseconds (longer with hooks).
        Raises LaunchError, the failing step named; the stub has then exited and must be reaped.
        """
        raise NotImplementedError

    def configure_join(
        self,
        config: JoinConfig,
        *,
        stdio: tuple[int, int, int] | None,
        seccomp: Program | None = None,
        preserved: tuple[int, ...] = (),
    ) -> int | None:
        """As `configure`, for a stub of `prefork_join`."""
        raise NotImplementedError

    def start(self) -> None:
        """Let it execute the program; returns when execve succeeded. Raises LaunchError with its kind."""
        raise NotImplementedError

    def close(self) -> None:
        """Drop the connection and pidfd; a stub that was not started exits by itself."""
        raise NotImplementedError


def prefork(
    namespaces: Collection[str],
    *,
    joined: Mapping[str, str] | None = None,
    cgroup_fd: int | None = None,
    spec_mappings: tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]] | None = None,
) -> Stub:
    """Clone a stub with new namespaces of these types ("pid", "mount", "uts", "ipc", "network", "cgroup", "user").

    `joined`: type → path of namespaces to join instead. `cgroup_fd`: on v2, the directory it is born in.
    """
    raise NotImplementedError


def prefork_join(pid: int, *, cgroup_fd: int | None = None) -> Stub:
    """Clone a stub into the pid namespace of the container whose init is `pid`; the rest follows on configure."""
    raise NotImplementedError
