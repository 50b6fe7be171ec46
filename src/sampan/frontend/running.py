"""`RUN` as an exec operation."""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Sequence

from sampan.dockerfile.expand import shown
from sampan.dockerfile.instructions import Run
from sampan.dockerfile.mounts import BIND, CACHE, SECRET, SSH, TMPFS, Mount, read_mount
from sampan.dockerfile.parse import heredoc_of
from sampan.dockerfile.source import DockerfileError
from sampan.frontend.copying import INTERNAL
from sampan.frontend.stage import StageState, in_capitals
from sampan.linux.path import absolute
from sampan.llb import ops_pb2 as pb
from sampan.llb.execop import (
    Bind,
    Cache,
    Command,
    ExecMount,
    Network,
    Secret,
    SecretVariable,
    Sharing,
    Ssh,
    Tmpfs,
)
from sampan.llb.fileop import MakeDirectory, MakeFile, Owner
from sampan.llb.state import Meta, State, change, run

_PIPES = "/dev/pipes/"
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
_SHARINGS: dict[str, Sharing] = {"": "shared", "shared": "shared", "private": "private", "locked": "locked"}

Origin = Callable[[str, str], Awaitable[State | None]]
"""What `from=` names ("" is the context), of which a path is looked at."""


async def run_instruction(stage: StageState, instruction: Run, origin: Origin) -> None:
    """Do it. Raises `DockerfileError`."""
    options = stage.options
    args, mounts = _command(stage, instruction)
    secrets: list[SecretVariable] = []
    for text in instruction.mounts:
        mount = read_mount(stage.expand(text))
        mounts += await _mounted(stage, mount, origin, secrets)
    title = _title(stage, instruction, secrets)
    if options.shm_size:
        mounts.append(Tmpfs("/dev/shm", options.shm_size))
    command = Command(
        args=args,
        env=_environment(stage, mounts),
        cwd=stage.config.working_dir or "/",
        user=stage.config.user,
        network=_network(instruction.network, options.network),
        insecure=_insecure(instruction.security),
        extra_hosts=options.extra_hosts,
        ulimits=options.ulimits,
        cgroup_parent=options.cgroup_parent,
        secrets=secrets,
        devices=[_device(each) for each in instruction.devices],
        proxy=_proxy(stage),
        platform=stage.llb_platform(),
    )
    try:
        stage.state = run(stage.state, command, mounts, stage.meta(instruction, title)).root
    except ValueError as error:
        raise DockerfileError(str(error)) from None
    stage.remember(f"RUN {_told(stage, args)} # buildkit", layer=True)


def _command(stage: StageState, instruction: Run) -> tuple[list[str], list[ExecMount]]:
    """What is executed; a heredoc that is the whole command is the script, with the interpreter that its first line names."""
    if not instruction.command.shell:
        return list(instruction.command.words), []
    line = instruction.command.words[0]
    if not instruction.heredocs:
        return [*stage.shell, line], []
    if len(instruction.heredocs) == 1 and heredoc_of(line.strip()) is not None:
        heredoc = instruction.heredocs[0]
        if not heredoc.text.startswith("#!"):
            return [*stage.shell, heredoc.text], []
        script = change(
            None,
            [MakeFile("/" + heredoc.name, heredoc.text.encode(errors="surrogateescape"), 0o755)],
            Meta(name=INTERNAL + "preparing inline document"),
            stage.llb_platform(),
        )
        program = posixpath.join(_PIPES, heredoc.name)
        return [*stage.shell, program], [Bind(script, _PIPES.rstrip("/"))]
    parts = "".join(f"\n{each.content}{each.name}" for each in instruction.heredocs)
    return [*stage.shell, line + parts], []


def _title(stage: StageState, instruction: Run, secrets: Sequence[SecretVariable]) -> str:
    """The step's title: with the values of variables that are known here, as the shell will see them, and none of a secret."""
    text = instruction.original
    if len(instruction.heredocs) == 1 and heredoc_of(instruction.command.words[0].strip()) is not None:
        lines = instruction.heredocs[0].content.strip().splitlines() or [""]
        text += f" ({lines[0]}{'...' if len(lines) > 1 else ''})"
    values = {**stage.variables.lookup(stage.config.env), **{each.name: "****" for each in secrets}}
    try:
        text = shown(text, values.get, escape=stage.file.directives.escape)
    except DockerfileError:
        pass  # what is a mistake to the builder may be the shell's way to say something
    return in_capitals(text)


async def _mounted(
    stage: StageState, mount: Mount, origin: Origin, secrets: list[SecretVariable]
) -> list[ExecMount]:
    if mount.kind == SECRET:
        return _secret(mount, secrets)
    if mount.kind == SSH:
        return [_ssh(mount)]
    target = posixpath.normpath(posixpath.join("/", stage.config.working_dir, mount.target))
    if target == "/":
        raise DockerfileError('invalid mount target "/"')
    if mount.kind == TMPFS:
        return [Tmpfs(target, mount.size)]
    source = absolute(mount.source)
    state = await origin(mount.from_, source) if mount.from_ or mount.kind == BIND else None
    selector = "" if source == "/" else source
    if mount.kind == CACHE and not selector and (mount.uid, mount.gid, mount.mode) != (None, None, None):
        state, selector = _owned_cache(state, mount), "/cache"
    if mount.kind == BIND:
        return [Bind(state, target, selector, readonly=mount.readonly)]
    id = f"{stage.options.cache_namespace}/{mount.id or posixpath.normpath(mount.target)}"
    return [Cache(target, id, _SHARINGS[mount.sharing], state, selector, mount.readonly)]


def _owned_cache(state: State | None, mount: Mount) -> State:
    mode = 0o755 if mount.mode is None else mount.mode
    owner = Owner(mount.uid or 0, mount.gid or 0)
    meta = Meta(name=INTERNAL + "setting cache mount permissions")
    return change(state, [MakeDirectory("/cache", mode, parents=False, owner=owner)], meta)


def _secret(mount: Mount, secrets: list[SecretVariable]) -> list[ExecMount]:
    id = mount.source or mount.id or posixpath.basename(mount.target)
    if mount.env is not None:
        secrets.append(SecretVariable(id=id, name=mount.env, optional=not mount.required))
        if not mount.target:
            return []
    target = mount.target or f"/run/secrets/{posixpath.basename(id)}"
    mode = 0o400 if mount.mode is None else mount.mode
    return [Secret(absolute(target), id, mount.uid or 0, mount.gid or 0, mode, not mount.required)]


def _ssh(mount: Mount) -> Ssh:
    if mount.source:
        raise DockerfileError("ssh does not support source")
    id = mount.id or "default"
    mode = 0o600 if mount.mode is None else mount.mode
    target = mount.target or "/run/buildkit/ssh_agent.0"
    return Ssh(absolute(target), id, mount.uid or 0, mount.gid or 0, mode, not mount.required)


def _environment(stage: StageState, mounts: Sequence[ExecMount]) -> list[str]:
    env = list(stage.config.env or ())
    agent = next((each.target for each in mounts if isinstance(each, Ssh)), "")
    if agent and not any(each.startswith("SSH_AUTH_SOCK=") for each in env):
        env.append(f"SSH_AUTH_SOCK={agent}")
    declared = stage.variables.identity(stage.config.env)
    covered = {each.partition("=")[0] for each in declared}
    return [*(each for each in env if each.partition("=")[0] not in covered), *declared]


def _network(given: str, default: str) -> Network:
    match given if given not in ("", "default") else default:
        case "host":
            return "host"
        case "none":
            return "none"
        case "" | "default" | "sandbox" | "bridge":
            return "sandbox"
        case other:
            raise DockerfileError(f"unsupported network mode {other!r}")


def _insecure(security: str) -> bool:
    if security not in ("", "sandbox", "insecure"):
        raise DockerfileError(f"security {security!r} is not valid")
    return security == "insecure"


def _device(text: str) -> tuple[str, bool]:
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    name = fields.get("name") or text.split(",")[0]
    return name, "required" not in fields or fields["required"] == "false"


def _proxy(stage: StageState) -> pb.ProxyEnv | None:
    given = {
        name.lower(): value for name, value in sorted(stage.options.arguments.items()) if value is not None
    }
    found = {name: given[name] for name in _PROXIES if name in given}
    return pb.ProxyEnv(**found) if found else None


def _told(stage: StageState, args: Sequence[str]) -> str:
    lookup = stage.variables.lookup(stage.config.env)
    shown = [f"{name}={lookup.get(name, value or '')}" for name, value in stage.arguments.items()]
    return " ".join([*([f"|{len(shown)}", *shown] if shown else []), *args])
