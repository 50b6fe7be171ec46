"""`ExecOp`: a program on a root and other mounts; what it leaves there is the result."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.containers.attach import frames
from sampan.containers.programs import ProgramRequest, Programs
from sampan.engineapi.container import DeviceRequest, HostConfig, Ulimit
from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.linux.path import absolute
from sampan.llb import ops_pb2 as pb
from sampan.llb.graph import Vertex
from sampan.names.names import new_id
from sampan.oci import defaults
from sampan.ops.caches import Caches
from sampan.ops.emulation import check_runnable
from sampan.ops.images import platform_of
from sampan.ops.mounts import MountSet, check_mounts
from sampan.ops.pinning import remove_run
from sampan.ops.trees import Trees
from sampan.solver.failures import ProgramFailed
from sampan.solver.interface import EMPTY, Identity, InputKey, Selector, Task, Tree, digest_of_text
from sampan.solver.progress import Reporter

if TYPE_CHECKING:
    from sampan.oci.runtime import Mount
    from sampan.runtime.interface import AttachStream
    from sampan.solver.build import Build

_NOT_STARTED = "unable to start container process: "
_NO_IDENTITY = ("unable to find user ", "unable to find group ")
HOSTNAME = "buildkitsandbox"
_SHARED_KINDS = (pb.BIND, pb.CACHE)


class RunTools:
    """What all programs of an engine's builds are run with."""

    def __init__(self, trees: Trees, caches: Caches, programs: Programs, directory: Path) -> None:
        self.trees = trees
        self.caches = caches
        self.programs = programs
        self.directory = directory
        """Run-time files, a directory for each program: not kept over a restart of the machine."""

    async def recover(self) -> None:
        """Remove what a killed engine's programs had."""
        await asyncio.to_thread(_remove_all, self.directory)


class RunOperation:
    """One `ExecOp`."""

    def __init__(self, vertex: Vertex, tools: RunTools) -> None:
        self._op = vertex.op.exec
        self._resources = vertex.metadata.linux_resources
        self._inputs = len(vertex.inputs)
        self._tools = tools
        self._platform = platform_of(vertex)
        _check(self._op, self._inputs)

    async def identify(self) -> Identity:
        """See `Operation`. What differs from place to place and run to run is left out: proxies, addresses of extra hosts."""
        described = pb.ExecOp.FromString(self._op.SerializeToString())
        described.meta.ClearField("proxy_env")
        for host in described.meta.extraHosts:
            host.IP = ""
        for mount in described.mounts:
            mount.selector = ""
            if mount.mountType == pb.CACHE and not _is_usual_cache(mount):
                mount.ClearField("cacheOpt")
        text = described.SerializeToString(deterministic=True).hex()
        inputs = tuple(self._input_key(index) for index in range(self._inputs))
        return Identity(digest_of_text("exec", str(self._platform), text), inputs)

    def _input_key(self, index: int) -> InputKey:
        mounts = [each for each in self._op.mounts if each.input == index and each.mountType in _SHARED_KINDS]
        selectors = {absolute(each.selector) for each in mounts}
        by_content = bool(mounts) and all(_counts_by_content(each) for each in mounts)
        if "/" in selectors or not selectors:
            return InputKey((), by_content)
        return InputKey(tuple(Selector(path) for path in sorted(selectors)), by_content)

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """Run it. Raises `ProgramFailed` for an exit status that is not valid, `NotSupported` for what nothing here can run."""
        await self._check_platform(inputs)
        id = new_id()
        directory = self._tools.directory / id
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(directory.mkdir, 0o700, True)
            stack.push_async_callback(asyncio.to_thread, shutil.rmtree, directory, True)
            mounts = MountSet(
                self._tools.trees, self._tools.caches, task.lease, task.build, inputs, directory, stack
            )
            root, others = await mounts.made(self._op.mounts)
            request = await self._request(id, task, root, others)
            try:
                code = await self._run(request, task.report)
            except SampanError as error:
                code = _failed_start(error, request.args, task.report)
            if code not in (list(self._op.meta.validExitCodes) or [0]):
                began = [inputs[each.input] if each.input >= 0 else EMPTY for each in self._op.mounts]
                left = [
                    await _left(mount, mounts, before)
                    for mount, before in zip(self._op.mounts, began, strict=True)
                ]
                raise ProgramFailed(list(self._op.meta.args), code, began, left)
            return [await mounts.growths[index].commit() for index in range(len(mounts.growths))]

    async def _check_platform(self, inputs: Sequence[Tree]) -> None:
        meta = self._op.meta
        root = next((each for each in self._op.mounts if absolute(each.dest) == "/"), None)
        tree = inputs[root.input] if root is not None and root.input >= 0 else EMPTY
        env = {name: value for name, _, value in (each.partition("=") for each in meta.env)}
        await check_runnable(self._platform, self._tools.trees, tree, meta.args, env)

    async def _run(self, request: ProgramRequest, report: Reporter) -> int:
        async with self._tools.programs.created(request) as program:
            stream = await program.shim.attach(stdin=False, stdout=True, stderr=True)
            reading = asyncio.create_task(_read(stream, report))
            try:
                await program.shim.start()
                status = await program.shim.wait()
                await reading
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            if status.oom_killed:
                report.log(2, b"the program was killed for want of memory\n")
            return status.code

    async def _request(
        self, id: str, task: Task, rootfs: Sequence[Mount], mounts: Sequence[Mount]
    ) -> ProgramRequest:
        meta = self._op.meta
        return ProgramRequest(
            id=id,
            args=list(meta.args),
            env=await self._environment(task),
            cwd=meta.cwd or "/",
            user=meta.user,
            hostname=meta.hostname or HOSTNAME,
            rootfs=rootfs,
            mounts=mounts,
            host=self._host_config(task, await self._devices()),
        )

    async def _devices(self) -> list[str]:
        """Those of the operation, without what it can do without and this machine does not have."""
        wanted = self._op.cdiDevices
        if not wanted:
            return []
        known = await self._tools.programs.devices()
        return [each.name for each in wanted if not each.optional or each.name in known]

    async def _environment(self, task: Task) -> list[str]:
        meta = self._op.meta
        env = {name: value for name, _, value in (each.partition("=") for each in meta.env)}
        env.setdefault("PATH", defaults.PATH)
        if meta.HasField("proxy_env"):
            for name in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"):
                if value := getattr(meta.proxy_env, name):
                    env[name] = env[name.upper()] = value
        env |= await secret_variables(self._op.secretenv, task.build)
        return [f"{name}={value}" for name, value in env.items()]

    def _host_config(self, task: Task, devices: list[str]) -> HostConfig:
        """Limits of the build, network and privileges of the operation."""
        op = self._op
        host = confinement(task.build, op.network, op.security, op.mounts, op.meta.extraHosts)
        if devices:
            host.device_requests = [DeviceRequest(driver="cdi", device_ids=devices)]
        limits = [Ulimit(each.Name, hard=each.Hard, soft=each.Soft) for each in self._op.meta.ulimit]
        host.ulimits = [*(host.ulimits or ()), *limits] or None
        if self._op.meta.cgroupParent:
            host.cgroup_parent = self._op.meta.cgroupParent
        limit = self._resources
        host.memory = limit.memory or host.memory
        host.memory_swap = limit.memorySwap or host.memory_swap
        host.cpu_shares = limit.cpuShares or host.cpu_shares
        host.cpu_period = limit.cpuPeriod or host.cpu_period
        host.cpu_quota = limit.cpuQuota or host.cpu_quota
        host.cpuset_cpus = limit.cpusetCpus or host.cpuset_cpus
        host.cpuset_mems = limit.cpusetMems or host.cpuset_mems
        return host


def confinement(
    build: Build,
    network: pb.NetMode,
    security: pb.SecurityMode,
    mounts: Iterable[pb.Mount],
    hosts: Iterable[pb.HostIP],
) -> HostConfig:
    """Limits of the build, and what a program of it may do beside them."""
    host: HostConfig = build.settings.get("host_config", HostConfig)()
    if network == pb.HOST:
        host.network_mode = "host"
    elif network == pb.NONE:
        host.network_mode = "none"
    host.privileged = security == pb.INSECURE
    host.readonly_rootfs = any(each.dest == "/" and each.readonly for each in mounts)
    host.extra_hosts = [*(host.extra_hosts or ()), *(f"{each.Host}:{each.IP}" for each in hosts)] or None
    return host


def _failed_start(error: SampanError, args: Sequence[str], report: Reporter) -> int:
    """The status of a program that could not be started, and why in its output, as BuildKit tells it. Raises the error of one that
    was not tried to start."""
    text = str(error)
    if text.startswith(_NO_IDENTITY):
        shown = json.dumps(" ".join(args), ensure_ascii=False)
        raise InvalidParameter(f"process {shown} did not complete successfully: {text}") from None
    if text.startswith("exec "):  # the kernel refused: it is too late then to say more than a status
        report.log(2, f"{text}\n".encode())
        return 255
    _, found, reason = text.partition(_NOT_STARTED)
    if not found:
        raise error
    report.log(2, f"runc run failed: {_NOT_STARTED}{reason.removesuffix(': unknown')}\n".encode())
    return 1


async def _left(mount: pb.Mount, mounts: MountSet, before: Tree) -> Tree:
    """What the program has left at a mount."""
    growth = mounts.growths.get(mount.output) if _has_output(mount) else None
    return await growth.commit() if growth is not None else before


async def secret_variables(wanted: Iterable[pb.SecretEnv], build: Build) -> dict[str, str]:
    """Secrets of the build's client as variables. Raises `NotFound` for one that it does not have and must."""
    env = {}
    for secret in wanted:
        if not secret.ID:
            raise InvalidParameter(f'secret ID missing for "{secret.name}" environment variable')
        session = build.session
        data = await session.secret(secret.ID) if session is not None else None
        if data is not None:
            env[secret.name] = data.decode(errors="surrogateescape")
        elif not secret.optional:
            raise NotFound(f"secret {secret.ID}: not found")
    return env


async def _read(stream: AttachStream, report: Reporter) -> None:
    """What the program writes, as log events."""
    try:
        async for number, piece in frames(stream):
            report.log(number & 3, piece)
    finally:
        await stream.close()


def _check(op: pb.ExecOp, inputs: int) -> None:
    """Raises `InvalidParameter` for what cannot be run, `NotSupported` for what is not there."""
    if not op.meta.args:
        raise InvalidParameter("invalid exec op with no args")
    check_mounts(op.mounts, inputs)
    outputs = sorted(each.output for each in op.mounts if _has_output(each))
    if outputs != list(range(len(outputs))):
        raise InvalidParameter(f"invalid outputs {outputs}")
    for mount in op.mounts:
        if mount.contentCache == pb.ON and not _may_count_by_content(mount):
            raise InvalidParameter("invalid mount cache content")
    _check_choices(op)


def _has_output(mount: pb.Mount) -> bool:
    """Secrets, agents and memory have none, whatever stands there: BuildKit's own clients leave it 0."""
    return mount.output >= 0 and mount.mountType in (pb.BIND, pb.CACHE)


def _check_choices(op: pb.ExecOp) -> None:
    """Numbers that name none of the choices there are must not be taken for the default."""
    if op.network not in pb.NetMode.values():
        raise InvalidParameter(f"invalid network mode {op.network}")
    if op.security not in pb.SecurityMode.values():
        raise InvalidParameter(f"invalid security mode {op.security}")
    for mount in op.mounts:
        if mount.contentCache not in pb.MountContentCache.values():
            raise InvalidParameter(f"invalid mount cache content {mount.contentCache}")
        if mount.cacheOpt.sharing not in pb.CacheSharingOpt.values():
            raise InvalidParameter(f"invalid cache sharing mode {mount.cacheOpt.sharing}")


def _counts_by_content(mount: pb.Mount) -> bool:
    if mount.contentCache == pb.OFF or not _may_count_by_content(mount):
        return False
    return mount.contentCache == pb.ON or mount.dest != "/"


def _may_count_by_content(mount: pb.Mount) -> bool:
    """Unless files that are not selected could get into the result."""
    return mount.output < 0 or mount.readonly or absolute(mount.selector) == "/"


def _is_usual_cache(mount: pb.Mount) -> bool:
    """A Dockerfile's cache mount without a word on id and sharing, a namespace in front or not."""
    id, dest = mount.cacheOpt.ID, mount.dest
    return mount.cacheOpt.sharing == pb.SHARED and (id == dest or id.partition("/")[2] == dest)


def _remove_all(directory: Path) -> None:
    for name in os.listdir(directory) if directory.is_dir() else ():
        remove_run(str(directory / name))
