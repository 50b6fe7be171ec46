"""`FileOp`: copy, mkdir, mkfile, rm and symlink, each on what an input or another action gave."""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Sequence
from typing import Any

from sampan.errors import InvalidParameter
from sampan.llb import ops_pb2 as pb
from sampan.llb.fileop import KEEP
from sampan.llb.graph import Vertex
from sampan.ops.choosing import has_wildcards
from sampan.ops.trees import Trees
from sampan.solver.interface import EMPTY, Identity, InputKey, Selector, Task, Tree, digest_of_text


class FileOperation:
    """One `FileOp`. Numbers below `inputs` are the vertex's inputs, those from there on its actions."""

    def __init__(self, vertex: Vertex, trees: Trees) -> None:
        self._actions = list(vertex.op.file.actions)
        self._inputs = len(vertex.inputs)
        self._trees = trees
        self._outputs = _outputs(self._actions)
        for number, action in enumerate(self._actions):
            for index in (action.input, action.secondaryInput):
                if not -1 <= index < self._inputs + number:
                    raise InvalidParameter(f"invalid input index {index}, {self._inputs + number} provided")

    async def identify(self) -> Identity:
        """See `Operation`."""
        written: set[int] = set()
        selectors: dict[int, list[Selector]] = {}
        parts = ["file"]
        for action in self._actions:
            written.add(action.input)
            described = pb.FileAction.FromString(action.SerializeToString())
            if action.WhichOneof("action") == "copy" and 0 <= action.secondaryInput < self._inputs:
                selectors.setdefault(action.secondaryInput, []).append(_selector(action.copy))
                # Where the files lay says nothing about what comes of them: only the last name may.
                described.copy.src = posixpath.basename(action.copy.src.rstrip("/"))
            for owner, file in _owners(action):
                if owner.WhichOneof("user") == "byName" and 0 <= owner.byName.input < self._inputs:
                    selectors.setdefault(owner.byName.input, []).append(Selector(file))
            parts.append(described.SerializeToString(deterministic=True).hex())
        inputs = tuple(
            InputKey()
            if index in written or index not in selectors
            else InputKey(tuple(selectors[index]), True)
            for index in range(self._inputs)
        )
        return Identity(digest_of_text(*parts), inputs)

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """See `Operation`."""
        work = _Work(self._actions, inputs, self._trees, task)
        return [await work.tree(self._inputs + number) for number in self._outputs]


class _Work:
    """One execution: the trees of actions, as far as somebody asks for them."""

    def __init__(
        self, actions: list[pb.FileAction], inputs: Sequence[Tree], trees: Trees, task: Task
    ) -> None:
        self._actions = actions
        self._inputs = inputs
        self._trees = trees
        self._task = task
        self._done: dict[int, Tree] = {}

    async def tree(self, number: int) -> Tree:
        """Of an input, or of an action that is executed now, with those that it goes on from and nobody else needs."""
        if number < 0:
            return EMPTY
        if number < len(self._inputs):
            return self._inputs[number]
        if number not in self._done:
            self._done[number] = await self._execute(number)
        return self._done[number]

    async def _execute(self, number: int) -> Tree:
        chain = self._chain(number)
        base = await self.tree(self._action(chain[0]).input)
        sources: dict[str, Any] = {}
        for each in chain:
            action = self._action(each)
            for source in (action.secondaryInput, *_owner_inputs(action)):
                if source >= 0 and source not in (*chain, action.input) and str(source) not in sources:
                    sources[str(source)] = await self._trees.source(await self.tree(source))
        async with self._trees.growing(base, self._task.lease) as growth:
            arguments = {
                "view": await self._trees.view_of(growth),
                "sources": sources,
                "actions": [_described(self._action(each)) for each in chain],
            }
            await self._trees.run("sampan.ops.file_jobs:file_job", arguments)
            return await growth.commit()

    def _chain(self, number: int) -> list[int]:
        """Actions up to `number` that can be done on one snapshot: each goes on from the one before, which nobody else uses."""
        chain = [number]
        while True:
            before = self._action(chain[0]).input
            if before < len(self._inputs) or before in self._done or self._action(before).output >= 0:
                return chain
            users = [
                each
                for each in self._actions
                if before in (each.input, each.secondaryInput) or before in _owner_inputs(each)
            ]
            if len(users) > 1:
                return chain
            chain.insert(0, before)

    def _action(self, number: int) -> pb.FileAction:
        return self._actions[number - len(self._inputs)]


def _outputs(actions: list[pb.FileAction]) -> list[int]:
    """Which action gives each output. Raises `InvalidParameter`."""
    found: dict[int, int] = {}
    for number, action in enumerate(actions):
        if action.WhichOneof("action") is None:
            raise InvalidParameter("invalid action: none is given")
        if action.output >= 0:
            if action.output in found:
                raise InvalidParameter(f"duplicate output {action.output}")
            found[action.output] = number
    if not found:
        raise InvalidParameter("no outputs specified")
    if sorted(found) != list(range(len(found))):
        raise InvalidParameter("missing output index")
    return [found[index] for index in range(len(found))]


def _selector(copy: pb.FileActionCopy) -> Selector:
    return Selector(
        copy.src,
        copy.allowWildcard and has_wildcards(copy.src),
        copy.followSymlink,
        tuple(copy.include_patterns),
        tuple(copy.exclude_patterns),
    )


def _owners(action: pb.FileAction) -> list[tuple[pb.UserOpt, str]]:
    kind = action.WhichOneof("action")
    if kind in (None, "rm") or not getattr(action, str(kind)).HasField("owner"):
        return []
    owner = getattr(action, str(kind)).owner
    return [(owner.user, "/etc/passwd"), (owner.group, "/etc/group")]


def _owner_inputs(action: pb.FileAction) -> list[int]:
    return [owner.byName.input for owner, _ in _owners(action) if owner.WhichOneof("user") == "byName"]


def _described(action: pb.FileAction) -> dict[str, Any]:
    """For the worker. Raises `InvalidParameter` for an owner that no tree could know."""
    match action.WhichOneof("action"):
        case "copy":
            return _described_copy(action)
        case "mkdir":
            mkdir = action.mkdir
            return {
                "kind": "mkdir",
                "path": mkdir.path,
                "mode": mkdir.mode,
                "parents": mkdir.makeParents,
                "owner": _owner(mkdir),
                "time_ns": _time(mkdir.timestamp),
            }
        case "mkfile":
            mkfile = action.mkfile
            return {
                "kind": "mkfile",
                "path": mkfile.path,
                "mode": mkfile.mode,
                "data": base64.b64encode(mkfile.data).decode(),
                "owner": _owner(mkfile),
                "time_ns": _time(mkfile.timestamp),
            }
        case "symlink":
            link = action.symlink
            return {
                "kind": "symlink",
                "path": link.newpath,
                "target": link.oldpath,
                "owner": _owner(link),
                "time_ns": _time(link.timestamp),
            }
    return {
        "kind": "rm",
        "path": action.rm.path,
        "missing_ok": action.rm.allowNotFound,
        "wildcard": action.rm.allowWildcard,
    }


def _described_copy(action: pb.FileAction) -> dict[str, Any]:
    copy = action.copy
    return {
        "kind": "copy",
        "source": action.secondaryInput,
        "src": copy.src,
        "dest": copy.dest,
        "owner": _owner(copy),
        "mode": None if copy.mode == KEEP else copy.mode & 0o7777,
        "mode_text": copy.modeStr,
        "follow": copy.followSymlink,
        "contents_only": copy.dirCopyContents,
        "unpack": copy.attemptUnpackDockerCompatibility,
        "make_parents": copy.createDestPath,
        "wildcard": copy.allowWildcard,
        "empty_wildcard": copy.allowEmptyWildcard,
        "include": list(copy.include_patterns),
        "exclude": list(copy.exclude_patterns),
        "required": list(copy.required_paths),
        "replace": copy.alwaysReplaceExistingDestPaths,
        "time_ns": _time(copy.timestamp),
    }


def _owner(message: Any) -> dict[str, Any] | None:
    if not message.HasField("owner"):
        return None
    return {"user": _identity(message.owner.user), "group": _identity(message.owner.group)}


def _identity(owner: pb.UserOpt) -> int | dict[str, Any] | None:
    match owner.WhichOneof("user"):
        case "byID":
            return owner.byID
        case "byName":
            if owner.byName.input < 0:
                raise InvalidParameter(f"invalid user index: {owner.byName.input}")
            return {"name": owner.byName.name, "input": owner.byName.input}
    return None


def _time(timestamp: int) -> int | None:
    return None if timestamp == KEEP else timestamp
