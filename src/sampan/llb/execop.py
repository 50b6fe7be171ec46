"""A program to run, and what it sees; `exec_op` makes the message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sampan.llb import ops_pb2 as pb

if TYPE_CHECKING:
    from sampan.llb.state import State

Network = Literal["sandbox", "host", "none"]
Sharing = Literal["shared", "private", "locked"]

_NETWORKS = {"sandbox": pb.UNSET, "host": pb.HOST, "none": pb.NONE}
_SHARING = {"shared": pb.SHARED, "private": pb.PRIVATE, "locked": pb.LOCKED}


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVariable:
    """A secret as an environment variable."""

    id: str
    name: str
    optional: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is run, as whom, where. `proxy` is seen by the program and never part of what identifies it."""

    args: Sequence[str]
    env: Sequence[str] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    network: Network = "sandbox"
    insecure: bool = False
    readonly_root: bool = False
    extra_hosts: Sequence[tuple[str, str]] = ()
    ulimits: Sequence[tuple[str, int, int]] = ()
    cgroup_parent: str = ""
    valid_exit_codes: Sequence[int] = ()
    secrets: Sequence[SecretVariable] = ()
    devices: Sequence[tuple[str, bool]] = ()
    """CDI names, and whether the program can do without."""
    proxy: pb.ProxyEnv | None = None
    platform: pb.Platform | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Bind:
    """Another file system, or the part `selector` of it. Writable ones are outputs, unless `discard`."""

    origin: State | None
    target: str
    selector: str = ""
    readonly: bool = True
    discard: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """A directory that stays between builds, beginning as (a part of) `origin`."""

    target: str
    id: str
    sharing: Sharing = "shared"
    origin: State | None = None
    selector: str = ""
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty directory in memory; `size` in bytes, 0 is half of it."""

    target: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of the client's as a file."""

    target: str
    id: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o400
    optional: bool = True


@dataclass(frozen=True, slots=True)
class Ssh:
    """The client's ssh agent as a socket."""

    target: str
    id: str = "default"
    uid: int = 0
    gid: int = 0
    mode: int = 0o600
    optional: bool = True


ExecMount = Bind | Cache | Tmpfs | Secret | Ssh


def exec_op(
    root: State | None, command: Command, mounts: Sequence[ExecMount]
) -> tuple[pb.Op, tuple[State, ...], dict[str, int]]:
    """The operation, its inputs, and which output each writable mount is. Output 0 is the root, unless that is read-only."""
    targets = [mount.target for mount in mounts]
    if len({*targets, "/"}) <= len(targets):
        raise ValueError(f"two mounts in one place: {targets}")
    inputs: dict[tuple[str, int], State] = {}

    def number(state: State | None) -> int:
        if state is None:
            return -1
        key = (state.node.digest, state.index)
        inputs.setdefault(key, state)
        return list(inputs).index(key)

    outputs: dict[str, int] = {}
    following = 0 if command.readonly_root else 1
    # Output 0 belongs to the root, wherever the mounts' counting begins.
    messages = [
        pb.Mount(
            input=number(root),
            dest="/",
            output=-1 if command.readonly_root else 0,
            readonly=command.readonly_root,
        )
    ]
    for mount in sorted(mounts, key=lambda each: each.target):
        message = _mount(mount, number(mount.origin) if isinstance(mount, Bind | Cache) else -1)
        if isinstance(mount, Bind) and not mount.readonly and not mount.discard:
            message.output = outputs[mount.target] = following
            following += 1
        messages.append(message)
    op = pb.Op(exec=_exec(command, messages))
    if command.platform is not None:
        op.platform.CopyFrom(command.platform)
    return op, tuple(inputs.values()), outputs


def _exec(command: Command, mounts: list[pb.Mount]) -> pb.ExecOp:
    return pb.ExecOp(
        meta=pb.Meta(
            args=command.args,
            env=command.env,
            cwd=command.cwd,
            user=command.user,
            proxy_env=command.proxy,
            extraHosts=[pb.HostIP(Host=host, IP=address) for host, address in command.extra_hosts],
            hostname=command.hostname,
            ulimit=[pb.Ulimit(Name=name, Soft=soft, Hard=hard) for name, soft, hard in command.ulimits],
            cgroupParent=command.cgroup_parent,
            validExitCodes=command.valid_exit_codes,
        ),
        mounts=mounts,
        network=_NETWORKS[command.network],
        security=pb.INSECURE if command.insecure else pb.SANDBOX,
        secretenv=[
            pb.SecretEnv(ID=each.id, name=each.name, optional=each.optional) for each in command.secrets
        ],
        cdiDevices=[pb.CDIDevice(name=name, optional=optional) for name, optional in command.devices],
    )


def _mount(mount: ExecMount, number: int) -> pb.Mount:
    message = pb.Mount(input=number, dest=mount.target, output=-1)
    match mount:
        case Bind():
            message.selector, message.readonly = mount.selector, mount.readonly
        case Cache():
            message.selector, message.readonly = mount.selector, mount.readonly
            message.mountType = pb.CACHE
            message.cacheOpt.ID, message.cacheOpt.sharing = mount.id, _SHARING[mount.sharing]
        case Tmpfs():
            message.mountType = pb.TMPFS
            message.tmpfsOpt.size = mount.size
        case Secret():
            message.mountType = pb.SECRET
            message.secretOpt.CopyFrom(
                pb.SecretOpt(
                    ID=mount.id, uid=mount.uid, gid=mount.gid, mode=mount.mode, optional=mount.optional
                )
            )
        case Ssh():
            message.mountType = pb.SSH
            message.sshOpt.CopyFrom(
                pb.SSHOpt(ID=mount.id, uid=mount.uid, gid=mount.gid, mode=mount.mode, optional=mount.optional)
            )
    return message
