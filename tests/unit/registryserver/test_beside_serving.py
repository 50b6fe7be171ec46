"""What the registry does beside answering: collection, caching, notifications, metrics."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from aiohttp import web

from hostile_registry import HostileRegistry
from registry_requests import code_of, digest, registry
from sampan.errors import InvalidParameter
from sampan.oci.image import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST
from sampan.registryserver.collection import Collector
from sampan.registryserver.repositories import Repositories
from sampan.registryserver.rights import rights_of


def collect(root: Path, **options: Any) -> tuple[int, int, int]:
    """Collect what was not used for an hour."""
    done = Collector(Repositories(root)).collect(**options)
    assert done is not None
    return done


def make_old(root: Path) -> None:
    """As if all had been stored two hours ago."""
    then = time.time() - 7200
    for path in (root / "docker/registry/v2/blobs").rglob("data"):
        os.utime(path, (then, then))


async def test_what_no_manifest_names_is_collected(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        target = await ask.image("1")
        await ask.blob(b"orphan")
        assert collect(tmp_path) == (0, 0, 0)  # all of it is fresh
        make_old(tmp_path)
        assert collect(tmp_path, dry_run=True) == (0, 1, 6)
        assert collect(tmp_path) == (0, 1, 6)
        assert (await ask("GET", f"/v2/app/blobs/{digest(b'orphan')}"))[0] == 404
        assert (await ask("GET", f"/v2/app/blobs/{digest(b'layer')}"))[0] == 200
        # Gone for the repository too, so that the next push uploads it again.
        assert (await ask("HEAD", f"/v2/app/blobs/{digest(b'orphan')}"))[0] == 404
        await ask.blob(b"orphan")
        assert (await ask("GET", f"/v2/app/blobs/{digest(b'orphan')}"))[2] == b"orphan"
        await ask("DELETE", f"/v2/app/manifests/{target['digest']}")
        make_old(tmp_path)
        assert collect(tmp_path)[1] == 4
        assert not list((tmp_path / "docker/registry/v2/blobs").rglob("data"))


async def test_what_a_manifest_of_another_form_names_is_needed(tmp_path: Path) -> None:
    """Distribution took schema 1, which we cannot read: its layers are no garbage."""
    async with registry(tmp_path) as ask:
        await ask.blob(b"layer of old")
        old = json.dumps(
            {"schemaVersion": 1, "name": "app", "fsLayers": [{"blobSum": digest(b"layer of old")}]}
        ).encode()
        await ask.blob(old)
        encoded = digest(old).removeprefix("sha256:")
        link = tmp_path / "docker/registry/v2/repositories/app/_manifests/revisions/sha256" / encoded / "link"
        link.parent.mkdir(parents=True)
        link.write_text(digest(old))
        make_old(tmp_path)
        assert collect(tmp_path) == (0, 0, 0)


async def test_files_that_are_not_ours_stop_no_collection(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        await ask.image("1")
        await ask.blob(b"orphan")
        make_old(tmp_path)
        root = tmp_path / "docker/registry/v2"
        (root / "blobs/lost+found/aa/xx").mkdir(parents=True)
        cut = root / f"repositories/app/_manifests/revisions/sha256/{'0' * 64}/link"
        cut.parent.mkdir(parents=True)
        cut.touch()
        (root / "repositories/app/_layers/lost+found/xx").mkdir(parents=True)
        assert collect(tmp_path) == (0, 1, 6)
        assert (root / "blobs/lost+found/aa/xx").exists()


async def test_a_long_token_is_read(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        assert (await ask("GET", "/v2/", Authorization="Bearer " + "a" * 50_000))[0] == 200


async def test_what_is_asked_for_stays(tmp_path: Path) -> None:
    """A client that finds a blob does not upload it: it must be there when the manifest comes."""
    async with registry(tmp_path) as ask:
        await ask.blob(b"found")
        await ask.blob(b"mounted")
        await ask.blob(b"uploaded")
        make_old(tmp_path)
        assert (await ask("HEAD", f"/v2/app/blobs/{digest(b'found')}"))[0] == 200
        assert (await ask("POST", f"/v2/two/blobs/uploads/?mount={digest(b'mounted')}&from=app"))[0] == 201
        await ask.blob(b"uploaded", "three")
        assert collect(tmp_path) == (0, 0, 0)


async def test_untagged_manifests(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        old = await ask.image("1", layer=b"old")
        await ask.image("1", layer=b"new")
        part = await ask.image("", layer=b"part")
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [part]}).encode()
        await ask("PUT", "/v2/app/manifests/list", index, Content_Type=OCI_INDEX)
        await ask.blob(b"{}")
        empty = {"mediaType": OCI_EMPTY, "digest": digest(b"{}"), "size": 2}
        about = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": empty,
            "layers": [],
            "subject": part,
        }
        signature = json.dumps(about).encode()
        await ask("PUT", f"/v2/app/manifests/{digest(signature)}", signature, Content_Type=OCI_MANIFEST)
        make_old(tmp_path)
        assert collect(tmp_path) == (0, 0, 0)
        make_old(tmp_path)
        manifests, blobs, _ = collect(tmp_path, untagged=True)
        assert (manifests, blobs) == (1, 2)
        assert (await ask("GET", f"/v2/app/manifests/{old['digest']}"))[0] == 404
        for kept in (part["digest"], digest(signature)):
            assert (await ask("GET", f"/v2/app/manifests/{kept}"))[0] == 200


async def test_one_collects_at_a_time(tmp_path: Path) -> None:
    import fcntl

    repositories = Repositories(tmp_path)
    repositories.paths.root.mkdir(parents=True)
    descriptor = os.open(repositories.paths.root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert Collector(repositories).collect() is None
    finally:
        os.close(descriptor)


async def test_a_cache_fetches_once_and_serves_when_upstream_is_down(tmp_path: Path) -> None:
    layer = os.urandom(300_000)
    async with HostileRegistry() as upstream:
        target = upstream.image([layer], "1")
        async with registry(tmp_path, upstreams=[{"remoteurl": upstream.url, "ttl": "1h"}]) as ask:
            answers = await asyncio.gather(*(ask("GET", "/v2/app/manifests/1") for _ in range(5)))
            assert {digest(body) for _, _, body in answers} == {target["digest"]}
            assert len(upstream.requests("GET", "/manifests/")) == 1
            blobs = await asyncio.gather(*(ask("GET", f"/v2/app/blobs/{digest(layer)}") for _ in range(5)))
            assert all(body == layer for _, _, body in blobs)
            assert len(upstream.requests("GET", "/blobs/")) == 1
            assert (await ask("GET", "/v2/app/manifests/absent"))[0] == 404
            assert code_of((await ask("POST", "/v2/app/blobs/uploads/"))[2]) == "UNSUPPORTED"
        address = upstream.url
    async with registry(tmp_path, upstreams=[{"remoteurl": address, "ttl": "0.000001s"}]) as ask:
        status, _, body = await ask("GET", "/v2/app/manifests/1")
        assert (status, digest(body)) == (200, target["digest"])
        assert (await ask("GET", f"/v2/app/blobs/{digest(layer)}"))[2] == layer
        assert (await ask("GET", "/v2/app/manifests/other"))[0] == 503


async def test_a_cache_asks_again_after_its_time(tmp_path: Path) -> None:
    async with HostileRegistry() as upstream:
        upstream.image([b"one"], "1")
        async with registry(tmp_path, upstreams=[{"remoteurl": upstream.url, "ttl": "0s"}]) as ask:
            await ask("GET", "/v2/app/manifests/1")
            newer = upstream.image([b"two"], "1")
            assert digest((await ask("GET", "/v2/app/manifests/1"))[2]) == newer["digest"]
        async with registry(tmp_path, upstreams=[{"remoteurl": upstream.url, "ttl": "1h"}]) as ask:
            upstream.image([b"three"], "1")
            assert digest((await ask("GET", "/v2/app/manifests/1"))[2]) == newer["digest"]


async def test_a_cache_keeps_nothing_wrong(tmp_path: Path) -> None:
    async with HostileRegistry() as upstream:
        upstream.image([b"right"], "1")
        upstream.blobs[digest(b"right")] = b"wrong"
        async with registry(tmp_path, upstreams=[{"remoteurl": upstream.url}]) as ask:
            assert (await ask("GET", f"/v2/app/blobs/{digest(b'right')}"))[0] >= 400
            assert (await ask("GET", f"/v2/app/blobs/{digest(b'right')}"))[0] >= 400
            upstream.blobs[digest(b"right")] = b"right"
            assert (await ask("GET", f"/v2/app/blobs/{digest(b'right')}"))[2] == b"right"
    assert not any((tmp_path / "docker/registry/v2/repositories").rglob("_uploads/*"))


async def test_notifications(tmp_path: Path) -> None:
    got: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    failures = 1

    async def take(request: web.Request) -> web.StreamResponse | None:
        nonlocal failures
        if failures:
            failures -= 1
            return web.Response(status=500)
        assert request.headers["X-Key"] == "k"
        for event in json.loads(await request.read())["events"]:
            got.put_nowait(event)
        return web.Response()

    async with HostileRegistry() as listener:
        listener.behave(take)
        endpoint = {
            "name": "test",
            "url": listener.url + "/events",
            "headers": {"X-Key": ["k"]},
            "backoff": "10ms",
            "timeout": "5s",
            "ignore": {"actions": ["pull"]},
        }
        async with registry(tmp_path, endpoints=[endpoint]) as ask:
            target = await ask.image("1")
            await ask("GET", "/v2/app/manifests/1")
            await ask("DELETE", f"/v2/app/manifests/{target['digest']}")
            events = [await asyncio.wait_for(got.get(), 10) for _ in range(4)]
    assert [each["action"] for each in events] == ["push", "push", "push", "delete"]
    assert events[2]["target"]["tag"] == "1"
    assert events[2]["target"]["digest"] == target["digest"]
    assert events[2]["target"]["repository"] == "app"


async def test_metrics_and_health(tmp_path: Path) -> None:
    async with registry(tmp_path, debug_address="127.0.0.1:0", metrics=True) as ask:
        await ask.image("1")
        await ask("GET", "/v2/app/manifests/1")
        text = (await ask("GET", f"{ask.debug}/metrics"))[2].decode()
        assert 'registry_http_requests_total{method="put",code="201"} 3' in text
        assert 'registry_actions_total{action="pull"} 1' in text
        assert (await ask("GET", f"{ask.debug}/debug/health"))[0] == 200
        assert (await ask("GET", f"{ask.debug}/other"))[0] == 404


async def test_a_cache_of_several_registries(tmp_path: Path) -> None:
    """`ns` says which one is meant, as containerd does; so does a name that begins with it; else it is the first."""
    async with HostileRegistry() as one, HostileRegistry() as two, HostileRegistry() as other:
        first, second = one.image([b"one"], "1"), two.image([b"two"], "1")
        entries = [{"remoteurl": one.url}, {"remoteurl": two.url, "username": "me", "password": "secret"}]
        async with registry(tmp_path, upstreams=entries) as ask:
            for path, target in (
                (f"/v2/app/manifests/1?ns={one.host}", first),
                (f"/v2/app/manifests/1?ns={two.host}", second),
                ("/v2/app/manifests/1", first),
                (f"/v2/{two.host.replace(':', '-')}/app/manifests/1", second),
            ):
                status, _, body = await ask("GET", path)
                assert (status, digest(body)) == (200, target["digest"]), path
            assert (await ask("GET", f"/v2/app/blobs/{digest(b'two')}?ns={two.host}"))[2] == b"two"
            # What one registry has is not in the other's repository of that name.
            assert (await ask("GET", f"/v2/app/blobs/{digest(b'two')}?ns={one.host}"))[0] == 404
            status, _, body = await ask("GET", f"/v2/app/manifests/1?ns={other.host}")
            assert (status, code_of(body), other.seen) == (404, "NAME_UNKNOWN", [])
            assert len(one.requests("GET", "/manifests/")) == len(two.requests("GET", "/manifests/")) == 1


async def test_a_cache_shows_its_credentials_to_their_registry_alone(tmp_path: Path) -> None:
    mine = "Basic " + base64.b64encode(b"me:secret").decode()

    async def locked(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == mine:
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    async with HostileRegistry() as open_one, HostileRegistry() as locked_one:
        open_one.image([b"one"], "1")
        target = locked_one.image([b"two"], "1")
        locked_one.behave(locked)
        entries = [
            {"remoteurl": locked_one.url, "username": "me", "password": "secret"},
            {"remoteurl": open_one.url},
        ]
        async with registry(tmp_path, upstreams=entries) as ask:
            # What the client shows to the cache is not passed on either.
            path = f"/v2/app/manifests/1?ns={open_one.host}"
            assert (await ask("GET", path, Authorization="Basic Y2xpZW50OnNlY3JldA=="))[0] == 200
            status, _, body = await ask("GET", f"/v2/app/manifests/1?ns={locked_one.host}")
            assert (status, digest(body)) == (200, target["digest"])
        assert {each.authorization for each in open_one.seen} == {""}
        assert {each.authorization for each in locked_one.seen} == {"", mine}


async def test_rights(tmp_path: Path) -> None:
    rights = [
        {"users": ["ci"], "repositories": ["team/*"], "actions": ["pull", "push"]},
        {"users": ["*"], "repositories": ["public/*"], "actions": ["pull"]},
        {"users": ["admin"], "repositories": ["*"], "actions": ["pull", "push", "delete", "catalog"]},
    ]
    passwords = tmp_path / "htpasswd"
    stored = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    passwords.write_text("".join(f"{user}:{stored}\n" for user in ("ci", "admin", "guest")))

    def auth(user: str) -> str:
        return "Basic " + base64.b64encode(f"{user}:secret".encode()).decode()

    async with registry(tmp_path / "root", htpasswd=str(passwords), rights=rights) as ask:

        async def may(user: str, method: str, path: str) -> bool:
            status, _, body = await ask(method, path, Authorization=auth(user))
            assert status != 401
            assert (status == 403) is (b"DENIED" in body) or method == "HEAD"
            return status != 403

        assert (await ask("GET", "/v2/"))[0] == 401
        assert all([await may(user, "GET", "/v2/") for user in ("ci", "admin", "guest")])
        uploads = "/v2/{}/blobs/uploads/"
        assert await may("ci", "POST", uploads.format("team/app"))
        assert not await may("ci", "POST", uploads.format("public/app"))
        assert not await may("ci", "POST", uploads.format("team"))
        assert not await may("guest", "POST", uploads.format("public/app"))
        assert await may("guest", "GET", "/v2/public/app/manifests/1")
        assert not await may("guest", "HEAD", "/v2/team/app/manifests/1")
        assert not await may("ci", "DELETE", "/v2/team/app/manifests/1")
        assert await may("admin", "DELETE", "/v2/team/app/manifests/1")
        assert [await may(user, "GET", "/v2/_catalog") for user in ("admin", "ci")] == [True, False]
        # A mount takes what is elsewhere: the right to pull there is needed, an upload begins instead.
        data = f"/v2/private/blobs/uploads/?digest={digest(b's')}"
        assert (await ask("POST", data, b"s", Authorization=auth("admin")))[0] == 201
        mount = f"/v2/team/app/blobs/uploads/?mount={digest(b's')}&from=private"
        assert (await ask("POST", mount, Authorization=auth("ci")))[0] == 202
        assert (await ask("POST", mount, Authorization=auth("admin")))[0] == 201


def test_mistakes_in_rights_are_named() -> None:
    good = {"users": ["a"], "repositories": ["*"], "actions": ["pull"]}
    for wrong in ({"users": "a"}, {"actions": ["fly"]}, {"groups": ["x"]}, {"repositories": []}):
        with pytest.raises(InvalidParameter, match=r"auth\.htpasswd\.rights"):
            rights_of([{**good, **wrong}])
