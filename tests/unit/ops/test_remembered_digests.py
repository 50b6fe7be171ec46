"""The digest of a client's files is computed again exactly when the directory may have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import NotFound
from sampan.ops.digests import TreeDigester
from sampan.ops.directories import Directories
from sampan.solver.interface import Selector, Tree


class Trees:
    """Counts what workers are asked."""

    def __init__(self) -> None:
        self.looked: list[list[str]] = []

    async def source(self, tree: Tree) -> dict[str, Any]:
        return {"directory": tree.directory}

    async def run(self, target: str, arguments: Mapping[str, Any]) -> list[dict[str, str]]:
        asked = [request[0]["src"] for request in arguments["requests"]]
        self.looked.append(asked)
        return [
            {"missing": name} if name == "/gone" else {"digest": f"{name}-{len(self.looked)}"}
            for name in asked
        ]


def test_an_unchanged_directory_is_not_looked_at_again() -> None:
    async def run() -> None:
        trees = Trees()
        digester = TreeDigester(trees)  # type: ignore[arg-type]
        for version in (1, 1, 2):
            await digester.digest(Tree(directory="/d", version=version), [Selector("/a")])
        assert await digester.digest(Tree(directory="/d", version=2), [Selector("/a")]) == "/a-2"
        await digester.digest(Tree(directory="/d", version=2), [Selector("/b")])
        await digester.digest(Tree(directory="/other", version=2), [Selector("/a")])
        assert trees.looked == [["/a"], ["/a"], ["/b"], ["/a"]]

    asyncio.run(run())


def test_what_is_not_known_is_looked_at_each_time() -> None:
    async def run() -> None:
        trees = Trees()
        digester = TreeDigester(trees)  # type: ignore[arg-type]
        for tree in (Tree(directory="/d"), Tree("snapshot"), Tree(directory="/d", version=1)):
            for _ in range(2):
                with pytest.raises(NotFound):
                    await digester.digest(tree, [Selector("/gone")])
        assert len(trees.looked) == 6

    asyncio.run(run())


def test_a_directory_has_a_new_version_unless_it_was_found_as_it_was_left(tmp_path: Path) -> None:
    directories = Directories(None, tmp_path)  # type: ignore[arg-type]
    assert directories.about_to_change(tmp_path) == 0
    first = directories.filled(tmp_path, 0, unchanged=True)  # since the engine's start
    before = directories.about_to_change(tmp_path)
    assert directories.filled(tmp_path, before, unchanged=True) == first == before
    before = directories.about_to_change(tmp_path)
    second = directories.filled(tmp_path, before, unchanged=False)
    assert second != first
    directories.about_to_change(tmp_path)  # and the transfer fails
    assert directories.filled(tmp_path, directories.about_to_change(tmp_path), unchanged=True) not in (
        first,
        second,
    )
