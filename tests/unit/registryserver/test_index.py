"""The index beside the storage: lists are right whatever it holds, and tens of thousands of entries cost little."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from registry_requests import digest, registry
from sampan.oci.image import OCI_MANIFEST, Descriptor
from sampan.registryserver import app as registry_app
from sampan.registryserver.catalogue import Catalogue
from sampan.registryserver.index import Listed, ListIndex
from sampan.registryserver.localstorage import LocalStorage
from sampan.registryserver.paths import Paths
from sampan.registryserver.repositories import Repositories

MANY = 10_000


def settle(root: Path) -> None:
    """As if nothing had changed for a while: only then are directories' times believed."""
    then = time.time() - 60
    for directory, _, _ in os.walk(root):
        os.utime(directory, (then, then))


def catalogue(root: Path, index: ListIndex, storage: LocalStorage | None = None) -> Catalogue:
    return Catalogue(Paths(root), storage or LocalStorage(), index)


def repository(root: Path, name: str) -> None:
    (Paths(root).repository(name) / "_manifests").mkdir(parents=True)


class CountingStorage(LocalStorage):
    """It counts the directories that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def names(self, directory: Path) -> list[str]:
        self.reads += 1
        return super().names(directory)


def test_directories_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    for name in ("a", "team/b", "team/c/d"):
        repository(tmp_path, name)
    settle(tmp_path)
    file = tmp_path / "index.sqlite"
    assert catalogue(tmp_path, ListIndex(file)).names() == ["a", "team/b", "team/c/d"]
    storage = CountingStorage()
    again = catalogue(tmp_path, ListIndex(file), storage)  # another process
    assert (again.names(), storage.reads) == (["a", "team/b", "team/c/d"], 0)
    repository(tmp_path, "team/new")  # another program, without a word
    shutil.rmtree(Paths(tmp_path).repository("a"))
    assert again.names() == ["team/b", "team/c/d", "team/new"]
    assert catalogue(tmp_path, ListIndex(file)).names() == ["team/b", "team/c/d", "team/new"]


def test_a_change_within_the_clocks_grain_is_seen(tmp_path: Path) -> None:
    """A directory that has only just changed may change again under the same time."""
    index = ListIndex(tmp_path / "index.sqlite")
    repository(tmp_path, "a")
    seen = catalogue(tmp_path, index)
    stamp = os.stat(Paths(tmp_path).repositories).st_mtime_ns
    assert seen.names() == ["a"]
    repository(tmp_path, "b")
    os.utime(Paths(tmp_path).repositories, ns=(stamp, stamp))
    assert seen.names() == ["a", "b"]


@pytest.mark.parametrize("damage", ["garbage", "torn", "rows", "another's", "gone", "older"])
async def test_a_bad_index_costs_a_rebuild_and_nothing_else(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "sampan-index.sqlite"

    async def lists() -> tuple[Any, Any, Any]:
        async with registry(tmp_path) as ask:
            referrers = json.loads((await ask("GET", f"/v2/app/referrers/{subject['digest']}"))[2])
            return (
                json.loads((await ask("GET", "/v2/_catalog"))[2]),
                json.loads((await ask("GET", "/v2/app/tags/list"))[2]),
                referrers["manifests"],
            )

    async with registry(tmp_path) as ask:
        subject = await ask.image("1")
        await ask.image("2", "team/other")
        await ask.image("", subject=subject, artifactType="text/sig")
    settle(tmp_path)
    wanted = await lists()
    assert [each["artifactType"] for each in wanted[2]] == ["text/sig"]
    with sqlite3.connect(file) as connection:
        assert connection.execute("select count(*) from manifest").fetchone() == (1,)
        match damage:
            case "rows":
                connection.execute("update manifest set descriptor = 'x'")
                connection.execute("update directory set listed = '[1,2,3]'")
            case "another's":
                connection.execute("update directory set path = replace(path, 'app', 'absent')")
                connection.execute("update manifest set digest = ?", (digest(b"another"),))
            case "older":
                connection.execute("drop table manifest")
                connection.execute("pragma user_version = 0")
    connection.close()
    match damage:
        case "garbage":
            file.write_bytes(b"no database" * 1000)
        case "torn":
            file.write_bytes(file.read_bytes()[:5000])
        case "gone":
            file.unlink()
    assert await lists() == wanted
    assert await lists() == wanted
    with sqlite3.connect(file) as connection:
        assert connection.execute("select count(*) from manifest where digest = ?", (wanted[2][0]["digest"],))
    connection.close()


def test_an_index_that_cannot_be_written_lasts_as_long_as_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    index = ListIndex(tmp_path / "file" / "index.sqlite")
    index.keep_directories({"a": Listed("1", True, [])}, [])
    assert index.directories() == {"a": Listed("1", True, [])}
    index.close()
    assert index.directories() == {}  # closed: no error either


async def test_two_registries_and_their_indexes_on_one_directory(tmp_path: Path) -> None:
    """What one does the other's lists have at once, also with an index of its own."""
    async with registry(tmp_path) as one, registry(tmp_path, index=str(tmp_path / "other.sqlite")) as two:
        subject = await one.image("1")
        for ask in (one, two):
            assert json.loads((await ask("GET", "/v2/_catalog"))[2])["repositories"] == ["app"]
        await two.image("2", "new")
        about = await two.image("", subject=subject, artifactType="text/sig")
        for ask in (one, two):
            assert json.loads((await ask("GET", "/v2/_catalog"))[2])["repositories"] == ["app", "new"]
            found = json.loads((await ask("GET", f"/v2/app/referrers/{subject['digest']}"))[2])["manifests"]
            assert [each["digest"] for each in found] == [about["digest"]]
        await one("DELETE", f"/v2/app/manifests/{about['digest']}")
        await one("DELETE", "/v2/app/manifests/1")
        for ask in (one, two):
            assert (
                json.loads((await ask("GET", f"/v2/app/referrers/{subject['digest']}"))[2])["manifests"] == []
            )
            assert json.loads((await ask("GET", "/v2/app/tags/list"))[2])["tags"] == []


async def test_many_referrers_come_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_app, "_REFERRERS_MAX", 600)
    async with registry(tmp_path) as ask:
        subject = await ask.image("1")
        wanted = {
            (await ask.image("", subject=subject, artifactType="text/sig", annotations={"n": str(n)}))[
                "digest"
            ]
            for n in range(7)
        }
        await ask.image("", subject=subject, artifactType="text/other")
        path, found, pages = f"/v2/app/referrers/{subject['digest']}?artifactType=text/sig", [], 0
        while path:
            _, headers, body = await ask("GET", path)
            assert len(body) < 4096
            assert headers["Oci-Filters-Applied"] == "artifactType"
            found += [each["digest"] for each in json.loads(body)["manifests"]]
            path, pages = headers.get("Link", "").partition(">")[0].lstrip("<"), pages + 1
        assert (len(found), set(found), pages > 2) == (7, wanted, True)


def test_tens_of_thousands(tmp_path: Path) -> None:
    """Repositories, tags and referrers by the ten thousand: each list in CPU time of less than a second, and from the index."""
    paths, repositories = Paths(tmp_path), Repositories(tmp_path, index=ListIndex(tmp_path / "index.sqlite"))
    subject = digest(b"subject")
    for number in range(MANY):
        repository(tmp_path, f"team{number % 100}/app{number}")
        link = paths.tag_link("app", f"v{number}")
        link.parent.mkdir(parents=True)
        link.write_text(subject)
    described = []
    for number in range(MANY):
        name = digest(str(number).encode())
        for link in (paths.referrer_link("app", subject, name), paths.revision_link("app", name)):
            link.parent.mkdir(parents=True)
            link.write_text(name)
        described.append(Descriptor(media_type=OCI_MANIFEST, digest=name, size=1, artifact_type="text/sig"))
    repositories.index.keep_descriptions(described)
    settle(paths.repositories)
    assert len(asyncio.run(repositories.catalog())) == MANY + 1  # read, and remembered
    for work, count in (
        (lambda: asyncio.run(repositories.catalog()), MANY + 1),
        (lambda: asyncio.run(repositories.tags("app")), MANY),
        (lambda: repositories.referrers_now("app", subject), MANY),
    ):
        begun = time.process_time()
        assert len(work()) == count
        spent = time.process_time() - begun
        print(f"{spent:.3f} s of CPU for {count}")
        assert spent < 1
