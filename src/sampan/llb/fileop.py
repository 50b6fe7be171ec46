"""The actions of a file operation, in Python's words; `file_op` makes the message.

Paths are absolute in the file system that they belong to. A mode of None keeps each file's own (or is 0644 of a new file, 0755
of a directory), an owner of None is root for what is new and for what comes from a client, a time of None is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sampan.llb import ops_pb2 as pb

if TYPE_CHECKING:
    from sampan.llb.state import State

KEEP = -1
"""A mode or time on the wire that says: as it is."""


@dataclass(frozen=True, slots=True)
class Owner:
    """`user` and `group` by number, or by name as the file system that is changed knows it; None is not said."""

    user: int | str | None
    group: int | str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """Copy from another file system (None: an empty one), the fields as in `FileActionCopy`."""

    origin: State | None
    src: str
    dest: str
    owner: Owner | None = None
    mode: int | str | None = None
    """A number, or text like `u=rwX,go=rX`."""
    follow_symlink: bool = True
    contents_only: bool = True
    unpack: bool = False
    make_parents: bool = True
    wildcard: bool = True
    empty_wildcard: bool = True
    replace: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    time_ns: int | None = None


@dataclass(frozen=True, slots=True)
class MakeFile:
    """A file with these bytes."""

    path: str
    data: bytes
    mode: int = 0o644
    owner: Owner | None = None
    time_ns: int | None = None


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """A directory; that it is there already is no fault."""

    path: str
    mode: int = 0o755
    parents: bool = True
    owner: Owner | None = None
    time_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file or a tree."""

    path: str
    missing_ok: bool = False
    wildcard: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link at `path` that says `target`."""

    path: str
    target: str
    owner: Owner | None = None
    time_ns: int | None = None


Action = Copy | MakeFile | MakeDirectory | Remove | Link


def file_op(base: State | None, actions: Sequence[Action]) -> tuple[pb.Op, tuple[State, ...]]:
    """The operation and its inputs: what it changes first, then what it copies from."""
    if not actions:
        raise ValueError("a file operation without actions")
    inputs: dict[tuple[str, int], State] = {}

    def number(state: State | None) -> int:
        if state is None:
            return -1
        key = (state.node.digest, state.index)
        inputs.setdefault(key, state)
        return list(inputs).index(key)

    first = number(base)
    seconds = [number(action.origin) if isinstance(action, Copy) else -1 for action in actions]
    op = pb.Op(file=pb.FileOp())
    for position, (action, second) in enumerate(zip(actions, seconds, strict=True)):
        message = op.file.actions.add()
        # Each action goes on where the one before it ended; only the last one's result is the operation's.
        message.input = first if position == 0 else len(inputs) + position - 1
        message.secondaryInput = second
        message.output = 0 if position == len(actions) - 1 else -1
        _fill(message, action, first)
    return op, tuple(inputs.values())


def _fill(message: pb.FileAction, action: Action, base: int) -> None:
    match action:
        case Copy():
            _fill_copy(message.copy, action, base)
        case MakeFile(path, data, mode, owner, time_ns):
            message.mkfile.CopyFrom(
                pb.FileActionMkFile(
                    path=path, mode=mode, data=data, owner=_owner(owner, base), timestamp=_time(time_ns)
                )
            )
        case MakeDirectory(path, mode, parents, owner, time_ns):
            message.mkdir.CopyFrom(
                pb.FileActionMkDir(
                    path=path,
                    mode=mode,
                    makeParents=parents,
                    owner=_owner(owner, base),
                    timestamp=_time(time_ns),
                )
            )
        case Remove(path, missing_ok, wildcard):
            message.rm.CopyFrom(pb.FileActionRm(path=path, allowNotFound=missing_ok, allowWildcard=wildcard))
        case Link(path, target, owner, time_ns):
            message.symlink.CopyFrom(
                pb.FileActionSymlink(
                    oldpath=target, newpath=path, owner=_owner(owner, base), timestamp=_time(time_ns)
                )
            )


def _fill_copy(message: pb.FileActionCopy, action: Copy, base: int) -> None:
    message.CopyFrom(
        pb.FileActionCopy(
            src=action.src,
            dest=action.dest,
            owner=_owner(action.owner, base),
            mode=action.mode if isinstance(action.mode, int) else KEEP,
            modeStr=action.mode if isinstance(action.mode, str) else "",
            followSymlink=action.follow_symlink,
            dirCopyContents=action.contents_only,
            attemptUnpackDockerCompatibility=action.unpack,
            createDestPath=action.make_parents,
            allowWildcard=action.wildcard,
            allowEmptyWildcard=action.empty_wildcard,
            alwaysReplaceExistingDestPaths=action.replace,
            include_patterns=action.include,
            exclude_patterns=action.exclude,
            required_paths=action.required,
            timestamp=_time(action.time_ns),
        )
    )


def _owner(owner: Owner | None, base: int) -> pb.ChownOpt | None:
    if owner is None:
        return None
    made = pb.ChownOpt()
    for field, value in ((made.user, owner.user), (made.group, owner.group)):
        if isinstance(value, int):
            field.byID = value
        elif value is not None:
            field.byName.CopyFrom(pb.NamedUserOpt(name=value, input=base))
    return made


def _time(time_ns: int | None) -> int:
    return KEEP if time_ns is None else time_ns
