"""Programs that are no containers: a build's steps. As confined as containers, by the same code, but nobody lists, logs or
keeps them.

::

    async with programs.created(request) as program:      # namespaces, network, root: the program waits
        stream = await program.shim.attach(stdin=False, stdout=True, stderr=True)
        await program.shim.start()
        status = await program.shim.wait()

What such a program has on disk is a directory below the exec root with its three files, by which the next engine knows it when
this one was killed: the shim is ended, the network configuration dropped, the directory removed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sampan.containers import apparmor, cdi, modes
from sampan.containers.creation import Creation, endpoints_of
from sampan.containers.execs import build_process
from sampan.containers.launch_errors import exec_failure, start_failure
from sampan.containers.services import Services
from sampan.containers.spec import SpecContext, build_spec
from sampan.engineapi.container import ContainerConfig, HostConfig
from sampan.errors import SampanError
from sampan.names.names import new_id
from sampan.networks.interface import ContainerName, SandboxFiles, SandboxRequest
from sampan.runtime.interface import ContainerLaunch, ExecLaunch, LaunchError, Sandbox, Shim

if TYPE_CHECKING:
    from sampan.containers.record import ContainerRecord
    from sampan.oci.runtime import Mount
    from sampan.runtime.interface import AttachStream, ExecHandle

_FILES = ("resolv.conf", "hostname", "hosts")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRequest:
    """What is run. `env` is all that it sees but HOME; `rootfs` are the mounts that make its root, as a snapshotter has them."""

    args: Sequence[str]
    env: Sequence[str]
    cwd: str
    user: str
    hostname: str
    rootfs: Sequence[Mount]
    mounts: Sequence[Mount] = ()
    """Beside those of every container; parents before children."""
    host: HostConfig = field(default_factory=HostConfig)
    """Limits, network, privileges."""
    tty: bool = False
    open_stdin: bool = False
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherProcess:
    """What else is run beside a program that runs. `env` is all that it sees but HOME."""

    args: Sequence[str]
    env: Sequence[str]
    cwd: str
    user: str
    privileged: bool = False
    tty: bool = False
    open_stdin: bool = False


class Program(NamedTuple):
    """A program that has its sandbox and waits for `shim.start`."""

    id: str
    shim: Shim
    record: ContainerRecord


class Programs:
    """Makes them."""

    def __init__(self, services: Services, creation: Creation) -> None:
        self._services = services
        self._creation = creation

    @asynccontextmanager
    async def created(self, request: ProgramRequest) -> AsyncIterator[Program]:
        """A program, until the end of the block, which leaves nothing of it. Raises `StartFailure`, `InvalidParameter`."""
        config = ContainerConfig(
            hostname=request.hostname,
            user=request.user,
            tty=request.tty,
            open_stdin=request.open_stdin,
            env=list(request.env),
            cmd=list(request.args),
            working_dir=request.cwd,
        )
        record = self._creation.confined(request.id, config, request.host)
        directory = self._directory(request.id)
        await asyncio.to_thread(_make, directory, request.hostname)
        shim: Shim | None = None
        try:
            try:
                shim = await self._launch(record, request, directory)
            except (SampanError, LaunchError, OSError) as error:
                raise start_failure(error) from error
            yield Program(request.id, shim, record)
        finally:
            await asyncio.shield(self._end(request.id, shim))

    async def exec(self, program: Program, further: FurtherProcess) -> tuple[ExecHandle, AttachStream]:
        """Start another process beside one that runs, as confined, attached to all its streams. It ends with the program.

        Raises `StartFailure` when it cannot be executed.
        """
        process = build_process(
            self._services.settings,
            program.record,
            list(further.args),
            env=[],
            working_dir=further.cwd,
            privileged=further.privileged,
            tty=further.tty,
        )
        process["env"] = list(further.env)
        launch: ExecLaunch = {
            "exec_id": new_id(),
            "process": process,
            "stdio": {"tty": further.tty, "open_stdin": further.open_stdin, "stdin_once": True},
            "privileged": further.privileged,
            "user": further.user,
            "groups": list(program.record.host_config.group_add or ()),
        }
        try:
            handle, stream = await program.shim.exec(launch, attach=(further.open_stdin, True, True))
        except LaunchError as error:
            raise exec_failure(error) from error
        assert stream is not None
        return handle, stream

    async def devices(self) -> frozenset[str]:
        """The devices that a program can ask for by name (CDI)."""
        return frozenset(await asyncio.to_thread(cdi.load, self._services.settings.cdi_spec_dirs))

    async def recover(self) -> None:
        """Once at start: end what an engine that was killed has left."""
        directory = self._services.settings.exec_root / "programs"
        for id in sorted(os.listdir(directory)) if directory.is_dir() else ():
            await self._end(id, await self._services.launcher.adopt(id))

    async def _launch(self, record: ContainerRecord, request: ProgramRequest, directory: Path) -> Shim:
        services, host = self._services, record.host_config
        name = ContainerName(record.id, record.name, record.config.hostname)
        await services.networks.configure(name, endpoints_of(record.config, host, {}))
        await apparmor.ensure_loaded(services.workers, record.app_armor_profile)
        settings = services.settings
        remapping = settings.remapping_of(host)
        context = SpecContext(
            mounts=[*_file_mounts(directory), *request.mounts],
            cgroup_parent=settings.cgroup_parent,
            remapping=remapping,
            default_ulimits=settings.default_ulimits,
            default_no_new_privileges=settings.no_new_privileges,
            seccomp_default=settings.seccomp_profile,
        )
        spec = build_spec(record, context)
        spec["process"]["env"] = list(request.env)
        if host.device_requests:
            await asyncio.to_thread(cdi.inject, spec, host.device_requests, settings.cdi_spec_dirs)
        private = modes.network_is_private(host.network_mode)
        rootfs = list(request.rootfs)
        launch: ContainerLaunch = {
            "id": record.id,
            "bundle": services.bundle(record.id),
            "spec": spec,
            "rootfs": remapping.mapped(rootfs) if remapping is not None else rootfs,
            "stdio": {"tty": request.tty, "open_stdin": request.open_stdin, "stdin_once": True},
            "log": {"driver": "none", "path": "", "max_size": -1, "max_file": 1, "compress": False},
            "private_network": private,
            "init": False,
            "user": record.config.user,
            "groups": list(host.group_add or ()),
        }
        join = partial(self._join, name, host, directory)
        shim = await services.launcher.launch(launch, configure=join if private else None)
        try:
            if not private:
                await join(None)
        except BaseException:
            await shim.close()
            raise
        return shim

    async def _join(
        self, name: ContainerName, host: HostConfig, directory: Path, sandbox: Sandbox | None
    ) -> None:
        settings = self._services.settings
        await self._services.networks.join(
            SandboxRequest(
                container=name,
                sandbox=sandbox,
                files=SandboxFiles(directory / "hosts", directory / "resolv.conf", directory / "hostname"),
                dns=tuple(host.dns or settings.dns),
                dns_search=tuple(host.dns_search or settings.dns_search),
                dns_options=tuple(host.dns_options or settings.dns_options),
                extra_hosts=tuple(host.extra_hosts or ()),
            )
        )

    async def _end(self, id: str, shim: Shim | None) -> None:
        try:
            if shim is not None:
                await shim.close()
        finally:
            await self._services.networks.forget(id)
            await asyncio.to_thread(shutil.rmtree, self._directory(id), True)

    def _directory(self, id: str) -> Path:
        return self._services.settings.exec_root / "programs" / id


def _make(directory: Path, hostname: str) -> None:
    directory.mkdir(mode=0o700, parents=True)
    for name in _FILES:
        (directory / name).touch(mode=0o644)
    (directory / "hostname").write_text(f"{hostname}\n")


def _file_mounts(directory: Path) -> list[Mount]:
    return [
        {
            "destination": f"/etc/{name}",
            "type": "bind",
            "source": str(directory / name),
            "options": ["rbind", "rprivate"],
        }
        for name in _FILES
    ]
