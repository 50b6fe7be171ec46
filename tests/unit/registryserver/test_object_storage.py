"""A registry in a bucket (moto's S3): the protocol, two programs on one bucket, and a collector beside them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from registry_requests import Client, code_of, digest, registry
from sampan.errors import InvalidParameter
from sampan.names.digest import Digest
from sampan.oci.image import OCI_MANIFEST
from sampan.registryserver import catalogue, objectstorage
from sampan.registryserver.catalogue import Catalogue
from sampan.registryserver.collection import Collected, Collector
from sampan.registryserver.objectstorage import ObjectStorage
from sampan.registryserver.paths import Paths
from sampan.registryserver.repositories import Repositories

Settings = dict[str, Any]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 of the tests' own."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def settings(endpoint: str) -> Settings:
    """A bucket of its own."""
    import boto3

    name = f"b{uuid.uuid4().hex}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
    )
    client.create_bucket(Bucket=name)
    return {
        "bucket": name,
        "regionendpoint": endpoint,
        "region": "us-east-1",
        "accesskey": "k",
        "secretkey": "s",
    }


def bucket(settings: Settings, **fields: Any) -> AbstractAsyncContextManager[Client]:
    return registry(Path("prefix"), s3=settings, **{"redirect": False, **fields})


def collect(settings: Settings, grace: float = 3600) -> Collected | None:
    storage = ObjectStorage(settings, redirect=False)
    return Collector(Repositories(Path("prefix"), grace, storage), grace).collect()


async def test_the_protocol(settings: Settings) -> None:
    async with bucket(settings) as ask:
        target = await ask.image("1", layer=b"0123456789")
        await ask.image("2", "team/other")
        layer = f"/v2/app/blobs/{digest(b'0123456789')}"
        status, headers, body = await ask("GET", "/v2/app/manifests/1")
        assert (status, digest(body), headers["Content-Type"]) == (200, target["digest"], OCI_MANIFEST)
        assert (await ask("GET", layer))[2] == b"0123456789"
        status, headers, body = await ask("GET", layer, Range="bytes=3-4")
        assert (status, body, headers["Content-Range"]) == (206, b"34", "bytes 3-4/10")
        status, headers, _ = await ask("HEAD", layer)
        assert (status, headers["Content-Length"]) == (200, "10")
        assert (await ask("GET", f"/v2/app/blobs/{digest(b'absent')}"))[0] == 404
        assert json.loads((await ask("GET", "/v2/_catalog"))[2])["repositories"] == ["app", "team/other"]
        assert json.loads((await ask("GET", "/v2/app/tags/list"))[2])["tags"] == ["1"]
        assert code_of((await ask("GET", "/v2/absent/tags/list"))[2]) == "NAME_UNKNOWN"
        mount = f"/v2/new/blobs/uploads/?mount={digest(b'0123456789')}&from=app"
        assert (await ask("POST", mount))[0] == 201
        assert (await ask("DELETE", f"/v2/app/manifests/{target['digest']}"))[0] == 202
        assert (await ask("GET", "/v2/app/manifests/1"))[0] == 404
        assert json.loads((await ask("GET", "/v2/app/tags/list"))[2])["tags"] == []


async def test_referrers(settings: Settings) -> None:
    async with bucket(settings) as ask:
        subject = await ask.image("1")
        about = await ask.image("", subject=subject, artifactType="text/sig")
        (found,) = json.loads((await ask("GET", f"/v2/app/referrers/{subject['digest']}"))[2])["manifests"]
        assert found["digest"] == about["digest"]


async def test_clients_fetch_blobs_by_themselves(settings: Settings) -> None:
    async with bucket(settings, redirect=True) as ask:
        await ask.blob(b"data")
        status, headers, _ = await ask("GET", f"/v2/app/blobs/{digest(b'data')}")
        assert (status, headers["Location"].startswith(settings["regionendpoint"])) == (307, True)
        assert (await ask("GET", headers["Location"]))[2] == b"data"
        assert (await ask("HEAD", f"/v2/app/blobs/{digest(b'data')}"))[0] == 200


async def test_an_upload_of_many_pieces_goes_on_at_another_instance(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectstorage, "PIECE", 2 << 20)
    data = os.urandom(7 << 20)
    async with bucket(settings) as one, bucket(settings) as two:
        _, headers, _ = await one("POST", "/v2/app/blobs/uploads/")
        location = headers["Location"]
        await one("PATCH", location, data[: 3 << 20])
        status, headers, _ = await two("GET", location)
        assert (status, headers["Range"]) == (204, f"0-{(3 << 20) - 1}")
        await two("PATCH", location, data[3 << 20 : 6 << 20], Content_Range=f"{3 << 20}-{(6 << 20) - 1}")
        # The first one has seen less, and looks again before it goes on.
        status, _, body = await one("PUT", f"{location}?digest={digest(data)}", data[6 << 20 :])
        assert status == 201, body
        assert digest((await two("GET", f"/v2/app/blobs/{digest(data)}"))[2]) == digest(data)
        assert (await two("GET", location))[0] == 404
    storage = ObjectStorage(settings, redirect=False)
    assert storage.names(Path("prefix/docker/registry/v2/repositories/app/_uploads")) == []


async def test_a_wrong_digest_leaves_nothing(settings: Settings) -> None:
    async with bucket(settings) as ask:
        _, headers, _ = await ask("POST", "/v2/app/blobs/uploads/")
        status, _, body = await ask("PUT", f"{headers['Location']}?digest={digest(b'other')}", b"data")
        assert (status, code_of(body)) == (400, "DIGEST_INVALID")
    assert ObjectStorage(settings, redirect=False).names(Path("prefix/docker/registry/v2/blobs")) == []


async def test_two_cannot_write_the_same_piece(settings: Settings) -> None:
    storage = ObjectStorage(settings, redirect=False)
    directory = Path("prefix/x")
    one, two = storage.upload(directory), storage.find_upload(directory)
    assert two is not None
    one.append(b"first")
    two.append(b"second")
    one.keep()
    from sampan.registryserver.failures import Refused

    with pytest.raises(Refused, match="another program writes"):
        two.keep()
    two.reload()
    assert b"".join(two.read()) == b"first"


async def test_collection(settings: Settings) -> None:
    async with bucket(settings) as ask:
        await ask.image("1")
        await ask.blob(b"orphan")
        assert await asyncio.to_thread(collect, settings) == (0, 0, 0)  # all of it is fresh
        done = await asyncio.to_thread(collect, settings, -1)
        assert done == (0, 1, 6)
        assert (await ask("HEAD", f"/v2/app/blobs/{digest(b'orphan')}"))[0] == 404
        assert (await ask("GET", f"/v2/app/blobs/{digest(b'layer')}"))[0] == 200
        await ask.blob(b"orphan")
        assert (await ask("GET", f"/v2/app/blobs/{digest(b'orphan')}"))[2] == b"orphan"


def blob_of(storage: ObjectStorage, data: bytes) -> Path:
    path = Repositories(Path("prefix"), 3600, storage).paths.blob(Digest(digest(data)))
    storage.put_blob(path, data)
    return path


class _Between(ObjectStorage):
    """A collector at whose announcement something happens."""

    happens: Any = None

    def write(self, path: Path, data: bytes) -> None:
        super().write(path, data)
        if path.name == "dying" and self.happens is not None:
            self.happens()


def test_whoever_asks_while_a_blob_dies_spares_it_or_hears_that_there_is_none(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, collector = ObjectStorage(settings, redirect=False), _Between(settings, redirect=False)
    blob = blob_of(ObjectStorage(settings, redirect=False), b"x")
    told: list[bool] = []
    late = 100.0
    now = time.time
    monkeypatch.setattr(objectstorage.time, "time", lambda: now() + late)

    def ask() -> None:
        nonlocal late
        told.append(client.fresh(blob, 0) is not None)
        late = 0.0

    collector.happens = ask
    assert collector.remove_stale(blob, 50, dry_run=False) == -1
    assert told == [False]  # it was told that there is none, and will upload it; it was spared all the same
    assert client.fresh(blob, 0) is not None
    collector.happens = None
    late = 100.0
    assert collector.remove_stale(blob, 50, dry_run=True) == 1
    assert collector.remove_stale(blob, 50, dry_run=False) == 1
    assert client.status(blob) is None
    assert client.names(blob.parent) == []


def test_one_collects_at_a_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, other = ObjectStorage(settings, redirect=False), ObjectStorage(settings, redirect=False)
    root = Path("prefix")
    with storage.lease(root) as mine:
        assert mine
        with other.lease(root) as theirs:
            assert not theirs
    with other.lease(root) as theirs:
        assert theirs
    # A holder that was killed has not given it back: it ends by itself.
    monkeypatch.setattr(objectstorage, "_LEASE_SECONDS", -1.0)
    storage.lease(root).__enter__()
    with other.lease(root) as theirs:
        assert theirs


def test_a_bucket_that_is_not_there_is_named(settings: Settings) -> None:
    storage = ObjectStorage({**settings, "bucket": "absent"}, redirect=False)
    with pytest.raises(InvalidParameter, match=r"storage\.s3: .*NoSuchBucket"):
        storage.prepare([Path("prefix")])


async def test_repositories_are_announced_and_others_are_found(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list takes a request per thousand repositories; what another program made without a word a walk finds, before the
    answer when it is a short one.
    """

    async def catalog(ask: Client) -> Any:
        return json.loads((await ask("GET", "/v2/_catalog"))[2])["repositories"]

    monkeypatch.setattr(catalogue, "_PAUSE_MIN", 3600)
    async with bucket(settings) as one, bucket(settings) as two:
        await one.image("1", "team/app")
        assert await catalog(two) == ["team/app"]
        monkeypatch.setattr(Catalogue, "_walk", lambda *_: pytest.fail("walked again"))
        await two.image("1", "team/app/part")
        assert await catalog(one) == ["team/app", "team/app/part"]
        monkeypatch.undo()
        monkeypatch.setattr(catalogue, "_PAUSE_MIN", -1)
        monkeypatch.setattr(catalogue, "_PAUSE", -1)
        storage = ObjectStorage(settings, redirect=False)
        paths = Paths(Path("prefix"))
        storage.write(paths.tag_link("foreign", "1"), digest(b"x").encode())
        assert await catalog(one) == ["foreign", "team/app", "team/app/part"]
        monkeypatch.setattr(catalogue, "_SHORT", -1)
        storage.write(paths.tag_link("later", "1"), digest(b"x").encode())
        while "later" not in await catalog(one):
            await asyncio.sleep(0.01)  # it is found beside


async def test_many_tags_and_referrers_take_few_requests(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bucket(settings) as ask:
        subject = await ask.image("1")
        for number in range(20):
            await ask.image("", subject=subject, annotations={"n": str(number)})
        storage, paths = ObjectStorage(settings, redirect=False), Paths(Path("prefix"))
        for number in range(300):
            storage.write(paths.tag_link("app", f"v{number}"), subject["digest"].encode())
        assert (
            len(json.loads((await ask("GET", f"/v2/app/referrers/{subject['digest']}"))[2])["manifests"])
            == 20
        )
        requests: list[str] = []

        def counted(name: str) -> Any:
            real = getattr(objectstorage.obstore, name)

            def call(*arguments: Any, **options: Any) -> Any:
                requests.append(name)
                return real(*arguments, **options)

            return call

        for name in ("get", "head", "list_with_delimiter", "list"):
            monkeypatch.setattr(objectstorage.obstore, name, counted(name))
        assert len(json.loads((await ask("GET", "/v2/app/tags/list"))[2])["tags"]) == 301
        assert (
            len(json.loads((await ask("GET", f"/v2/app/referrers/{subject['digest']}"))[2])["manifests"])
            == 20
        )
        assert len(requests) < 10, requests
