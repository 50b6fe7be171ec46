"""The distribution specification, request by request, against a registry in the test's own process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from registry_requests import code_of, digest, registry
from sampan.oci.image import DOCKER_MANIFEST, OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from sampan.registryserver.configuration import Urls

FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"


async def test_versions_and_pings(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        status, headers, body = await ask("GET", "/v2/")
        assert (status, json.loads(body)) == (200, {})
        assert headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        assert (await ask("GET", "/v1/_ping"))[0] == 200
        assert (await ask("GET", "/"))[0] == 200


async def test_push_and_pull(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        target = await ask.image("1")
        for reference in ("1", target["digest"]):
            status, headers, body = await ask("GET", f"/v2/app/manifests/{reference}")
            assert status == 200
            assert digest(body) == target["digest"] == headers["Docker-Content-Digest"]
            assert headers["Content-Type"] == OCI_MANIFEST
            status, headers, nothing = await ask("HEAD", f"/v2/app/manifests/{reference}")
            assert (status, nothing) == (200, b"")
            assert headers["Content-Length"] == str(len(body))
            etag = headers["Etag"]
            assert (await ask("GET", f"/v2/app/manifests/{reference}", If_None_Match=etag))[0] == 304
        status, headers, body = await ask("GET", f"/v2/app/blobs/{digest(b'layer')}")
        assert (status, body) == (200, b"layer")
        assert headers["Docker-Content-Digest"] == digest(b"layer")
        assert (await ask("GET", f"/v2/app/blobs/{digest(b'layer')}", If_None_Match=headers["Etag"]))[
            0
        ] == 304
        status, headers, body = await ask("HEAD", f"/v2/app/blobs/{digest(b'layer')}")
        assert (status, headers["Content-Length"]) == (200, "5")


@pytest.mark.parametrize(
    ("asked", "status", "part", "told"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=3-", 206, b"3456789", "bytes 3-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=5-4", 416, None, "bytes */10"),
        ("bytes=0-1,3-4", 200, b"0123456789", ""),
        ("lines=1-2", 200, b"0123456789", ""),
    ],
)
async def test_ranges(tmp_path: Path, asked: str, status: int, part: bytes | None, told: str) -> None:
    async with registry(tmp_path) as ask:
        await ask.blob(b"0123456789")
        got, headers, body = await ask("GET", f"/v2/app/blobs/{digest(b'0123456789')}", Range=asked)
        assert got == status
        assert headers.get("Content-Range", "") == told
        assert part is None or body == part


async def test_chunks_come_in_order(tmp_path: Path) -> None:
    data = os.urandom(3000)
    async with registry(tmp_path) as ask:
        status, headers, _ = await ask("POST", "/v2/app/blobs/uploads/", Content_Length="0")
        assert (status, headers["Oci-Chunk-Min-Length"]) == (202, "1")
        location = headers["Location"]
        status, headers, _ = await ask("PATCH", location, data[:1000], Content_Range="0-999")
        assert (status, headers["Range"]) == (202, "0-999")
        for wrong in ("0-999", "1001-1999", "nonsense", "1500-1200"):
            status, headers, body = await ask("PATCH", location, data[1000:2000], Content_Range=wrong)
            assert (status, code_of(body)) == (416, "RANGE_INVALID")
            assert headers["Range"] == "0-999"
        status, headers, body = await ask("PATCH", location, data[1000:1500], Content_Range="1000-1999")
        assert (status, code_of(body)) == (400, "SIZE_INVALID")
        status, headers, _ = await ask("GET", location)
        assert (status, headers["Range"]) == (204, "0-1499")
        status, headers, _ = await ask("PATCH", location, data[1500:2500])
        assert (status, headers["Range"]) == (202, "0-2499")
        status, headers, _ = await ask(
            "PUT", f"{location}?digest={digest(data)}", data[2500:], Content_Range="2500-2999"
        )
        assert status == 201
        assert (await ask("GET", headers["Location"]))[2] == data
        assert code_of((await ask("GET", location))[2]) == "BLOB_UPLOAD_UNKNOWN"


async def test_one_request_is_enough(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        status, _, _ = await ask("POST", f"/v2/app/blobs/uploads/?digest={digest(b'x')}", b"x")
        assert status == 201
        assert (await ask("GET", f"/v2/app/blobs/{digest(b'x')}"))[2] == b"x"
        long = digest(b"y", "sha512")
        assert (await ask("POST", f"/v2/app/blobs/uploads/?digest={long}", b"y"))[0] == 201
        assert (await ask("GET", f"/v2/app/blobs/{long}"))[2] == b"y"
        empty = digest(b"")
        assert (await ask("POST", f"/v2/app/blobs/uploads/?digest={empty}", b""))[0] == 201
        assert (await ask("GET", f"/v2/app/blobs/{empty}"))[:3:2] == (200, b"")


async def test_who_pushes_one_blob_at_once(tmp_path: Path) -> None:
    """Each is told that it is there, and it is stored once."""
    data = os.urandom(2_000_000)
    async with registry(tmp_path) as ask:
        await asyncio.gather(*(ask.blob(data, f"repository{number % 2}") for number in range(6)))
        for repository in ("repository0", "repository1"):
            assert (await ask("GET", f"/v2/{repository}/blobs/{digest(data)}"))[2] == data
    (stored,) = (tmp_path / "docker/registry/v2/blobs").rglob("data")
    assert stored.stat().st_size == len(data)
    assert not list((tmp_path / "docker/registry/v2/repositories").rglob("_uploads/*"))


async def test_wrong_digests_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        for text in (digest(b"other"), "sha256:xyz", "md5:" + "0" * 32, "", "sha256:../../x"):
            _, headers, _ = await ask("POST", "/v2/app/blobs/uploads/")
            status, _, body = await ask("PUT", f"{headers['Location']}?digest={text}", b"data")
            assert (status, code_of(body)) == (400, "DIGEST_INVALID"), text
        assert not list((tmp_path / "docker/registry/v2/blobs").rglob("data"))


async def test_an_upload_survives_a_restart(tmp_path: Path) -> None:
    data = os.urandom(5000)
    async with registry(tmp_path) as ask:
        _, headers, _ = await ask("POST", "/v2/app/blobs/uploads/")
        location = headers["Location"]
        await ask("PATCH", location, data[:3000])
    async with registry(tmp_path) as ask:
        status, headers, _ = await ask("GET", location)
        assert (status, headers["Range"]) == (204, "0-2999")
        await ask("PATCH", location, data[3000:], Content_Range="3000-4999")
        assert (await ask("PUT", f"{location}?digest={digest(data)}"))[0] == 201
        assert (await ask("GET", f"/v2/app/blobs/{digest(data)}"))[2] == data


async def test_uploads_are_cancelled(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        _, headers, _ = await ask("POST", "/v2/app/blobs/uploads/")
        await ask("PATCH", headers["Location"], b"data")
        assert (await ask("DELETE", headers["Location"]))[0] == 204
        assert (await ask("PATCH", headers["Location"], b"data"))[0] == 404
        assert code_of((await ask("GET", "/v2/app/blobs/uploads/../../x"))[2])


async def test_mounts(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        blob = await ask.blob(b"shared", "one")
        path = "/v2/two/blobs/uploads/?mount={}&from={}"
        status, headers, _ = await ask("POST", path.format(blob["digest"], "one"))
        assert (status, headers["Docker-Content-Digest"]) == (201, blob["digest"])
        assert (await ask("GET", f"/v2/two/blobs/{blob['digest']}"))[2] == b"shared"
        assert (await ask("POST", path.format(digest(b"absent"), "one")))[0] == 202
        assert (await ask("POST", path.format(blob["digest"], "elsewhere")))[0] == 202
        # What another repository has is not to be had without a mount.
        assert (await ask("GET", f"/v2/three/blobs/{blob['digest']}"))[0] == 404


async def test_manifests_are_checked(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        await ask.image("1")
        config = {"mediaType": OCI_CONFIG, "digest": digest(b"absent"), "size": 6}
        cases: list[tuple[bytes, str, str]] = [
            (b"nonsense", OCI_MANIFEST, "MANIFEST_INVALID"),
            (b"[]", OCI_MANIFEST, "MANIFEST_INVALID"),
            (json.dumps({"schemaVersion": 1, "fsLayers": []}).encode(), OCI_MANIFEST, "MANIFEST_INVALID"),
            (
                json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode(),
                OCI_MANIFEST,
                "MANIFEST_BLOB_UNKNOWN",
            ),
            (
                json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [config]}).encode(),
                OCI_INDEX,
                "MANIFEST_BLOB_UNKNOWN",
            ),
            (
                json.dumps({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config}).encode(),
                OCI_MANIFEST,
                "MANIFEST_INVALID",
            ),
            # CVE-2021-41190: an index and a manifest at once
            (
                json.dumps({"schemaVersion": 2, "config": config, "layers": [], "manifests": []}).encode(),
                OCI_MANIFEST,
                "MANIFEST_INVALID",
            ),
        ]
        for data, media_type, code in cases:
            status, _, body = await ask("PUT", "/v2/app/manifests/bad", data, Content_Type=media_type)
            assert (status, code_of(body)) == (400, code), data
        status, _, body = await ask(
            "PUT", f"/v2/app/manifests/{digest(b'x')}", b"{}", Content_Type=OCI_MANIFEST
        )
        assert status == 400
        assert (await ask("GET", "/v2/app/manifests/bad"))[0] == 404


async def test_cve_2017_11468_a_huge_manifest_is_refused(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        status, _, body = await ask(
            "PUT", "/v2/app/manifests/huge", b" " * (5 << 20), Content_Type=OCI_MANIFEST
        )
        assert (status, code_of(body)) == (413, "MANIFEST_INVALID")


async def test_deletion(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        target = await ask.image("1")
        await ask.image("2")
        assert (await ask("DELETE", "/v2/app/manifests/1"))[0] == 202
        assert (await ask("GET", "/v2/app/manifests/1"))[0] == 404
        assert (await ask("GET", f"/v2/app/manifests/{target['digest']}"))[0] == 200
        assert (await ask("DELETE", f"/v2/app/manifests/{target['digest']}"))[0] == 202
        assert (await ask("GET", "/v2/app/manifests/2"))[0] == 404
        assert json.loads((await ask("GET", "/v2/app/tags/list"))[2])["tags"] == []
        assert (
            code_of((await ask("DELETE", f"/v2/app/manifests/{target['digest']}"))[2]) == "MANIFEST_UNKNOWN"
        )
        assert (await ask("DELETE", f"/v2/app/blobs/{digest(b'layer')}"))[0] == 202
        assert (await ask("GET", f"/v2/app/blobs/{digest(b'layer')}"))[0] == 404
        assert code_of((await ask("DELETE", f"/v2/app/blobs/{digest(b'layer')}"))[2]) == "BLOB_UNKNOWN"
    async with registry(tmp_path, delete=False) as ask:
        status, _, body = await ask("DELETE", "/v2/app/manifests/1")
        assert (status, code_of(body)) == (405, "UNSUPPORTED")


async def test_read_only(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        await ask.image("1")
    async with registry(tmp_path, read_only=True) as ask:
        assert (await ask("GET", "/v2/app/manifests/1"))[0] == 200
        for method, path in (("POST", "blobs/uploads/"), ("PUT", "manifests/1"), ("DELETE", "manifests/1")):
            status, _, body = await ask(method, f"/v2/app/{path}", b"{}")
            assert (status, code_of(body)) == (405, "UNSUPPORTED")


async def test_everything_is_below_a_prefix(tmp_path: Path) -> None:
    async with registry(tmp_path, prefix="/a/b", catalog_max=1) as ask:
        assert (await ask("GET", "/v2/"))[0] == 404
        assert (await ask("GET", "/a/bc/v2/"))[0] == 404
        assert (await ask("GET", "/a/b/v2/"))[0] == 200
        for name in ("one", "two"):
            begun = (await ask("POST", f"/a/b/v2/{name}/blobs/uploads/"))[1]["Location"]
            refused = (await ask("PATCH", begun, b"x", Content_Range="5-5"))[1]
            assert refused["Location"] == begun
            blob = (await ask("PUT", f"{begun}?digest={digest(b'{}')}", b"{}"))[1]["Location"]
            assert (await ask("GET", blob))[2] == b"{}"
            config = {"mediaType": OCI_EMPTY, "digest": digest(b"{}"), "size": 2}
            document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
            path, body = f"/a/b/v2/{name}/manifests/1", json.dumps(document).encode()
            stored = (await ask("PUT", path, body, Content_Type=OCI_MANIFEST))[1]["Location"]
            assert (await ask("GET", stored))[2] == body
        _, headers, body = await ask("GET", "/a/b/v2/_catalog")
        assert json.loads(body) == {"repositories": ["one"]}
        following = headers["Link"].partition(">")[0].removeprefix("<")
        assert json.loads((await ask("GET", following))[2]) == {"repositories": ["two"]}


async def test_a_socket_with_a_path(tmp_path: Path) -> None:
    place = tmp_path / "registry.sock"
    async with registry(tmp_path / "root", network="unix", address=str(place)):
        connector = aiohttp.UnixConnector(str(place))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://x/v2/") as answer,
        ):
            assert answer.status == 200
    assert not place.exists()


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("https://good.example.com/layer", True),
        ("https://bad.example.com/layer", False),
        ("http://good.example.com/layer", False),
    ],
)
async def test_addresses_that_manifests_may_name(tmp_path: Path, address: str, taken: bool) -> None:
    urls = Urls(allow=[r"^https://[^/]+\.example\.com/"], deny=["^https://bad"])
    async with registry(tmp_path, urls=urls) as ask:
        config = {**await ask.blob(b"{}"), "mediaType": OCI_CONFIG}
        layer = {"mediaType": FOREIGN, "digest": digest(b"elsewhere"), "size": 9, "urls": [address]}
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
        answer = await ask(
            "PUT", "/v2/app/manifests/1", json.dumps(document).encode(), Content_Type=OCI_MANIFEST
        )
        assert answer[0] == (201 if taken else 400)
        assert taken or code_of(answer[2]) == "MANIFEST_INVALID"


async def test_lists_in_pages(tmp_path: Path) -> None:
    async with registry(tmp_path, catalog_max=3) as ask:
        for name in ("b", "a", "c/d", "c/e", "c"):
            for tag in ("2", "10", "1"):
                await ask.image(tag, name)
        assert json.loads((await ask("GET", "/v2/a/tags/list"))[2]) == {"name": "a", "tags": ["1", "10", "2"]}
        _, headers, body = await ask("GET", "/v2/a/tags/list?n=2")
        assert json.loads(body)["tags"] == ["1", "10"]
        assert headers["Link"] == '</v2/a/tags/list?last=10&n=2>; rel="next"'
        _, headers, body = await ask("GET", "/v2/a/tags/list?last=10&n=2")
        assert json.loads(body)["tags"] == ["2"]
        assert "Link" not in headers
        assert json.loads((await ask("GET", "/v2/a/tags/list?n=0"))[2])["tags"] == []
        found: list[str] = []
        path = "/v2/_catalog"
        while path:
            _, headers, body = await ask("GET", path)
            found += json.loads(body)["repositories"]
            path = headers.get("Link", "").partition(">")[0].removeprefix("<")
        assert found == ["a", "b", "c", "c/d", "c/e"]
        assert code_of((await ask("GET", "/v2/absent/tags/list"))[2]) == "NAME_UNKNOWN"


@pytest.mark.parametrize("figure", ["4", "-1", "x", "9" * 30, "2147483647", "%F0%9F%92%A3"])
async def test_cve_2023_2253_the_length_of_a_page_is_bounded(tmp_path: Path, figure: str) -> None:
    async with registry(tmp_path, catalog_max=3) as ask:
        for name in ("a", "b", "c", "d"):
            await ask.image("1", name)
        status, _, body = await ask("GET", f"/v2/_catalog?n={figure}")
        assert (status, code_of(body)) == (400, "PAGINATION_NUMBER_INVALID")
        assert len(json.loads((await ask("GET", "/v2/_catalog"))[2])["repositories"]) == 3


async def test_who_pushes_one_tag_at_once(tmp_path: Path) -> None:
    """A reader sees one of the images at every moment, whole; the last one told "created" under the tag is there at the end."""
    async with registry(tmp_path) as ask:
        known = {(await ask.image(f"v{number}", layer=b"%d" % number))["digest"] for number in range(4)}
        documents = {each: (await ask("GET", f"/v2/app/manifests/{each}"))[2] for each in known}
        done = asyncio.Event()

        async def push(document: bytes) -> None:
            for _ in range(10):
                status, _, _ = await ask(
                    "PUT", "/v2/app/manifests/latest", document, Content_Type=OCI_MANIFEST
                )
                assert status == 201

        async def read() -> set[str]:
            found = set()
            while not done.is_set():
                status, headers, body = await ask("GET", "/v2/app/manifests/latest")
                if status == 200:
                    assert headers["Docker-Content-Digest"] == digest(body)
                    found.add(digest(body))
                else:
                    assert status == 404
            return found

        readers = [asyncio.ensure_future(read()) for _ in range(2)]
        await asyncio.gather(*(push(each) for each in documents.values()))
        done.set()
        assert set().union(*await asyncio.gather(*readers)) <= known
        assert digest((await ask("GET", "/v2/app/manifests/latest"))[2]) in known


async def test_games_with_digests(tmp_path: Path) -> None:
    """One blob has one name: another spelling, another algorithm or two digests in one request open no second door."""
    data = b"data"
    async with registry(tmp_path) as ask:
        await ask.blob(data)
        right = digest(data)
        for wrong in (
            right.upper(),
            right.replace("sha256", "SHA256"),
            right + "0",
            right[:-1],
            f"{right}%00",
        ):
            assert (await ask("GET", f"/v2/app/blobs/{wrong}"))[0] == 400
        # The same bytes by another algorithm are another name, which nobody has given here.
        assert (await ask("GET", f"/v2/app/blobs/{digest(data, 'sha512')}"))[0] == 404
        _, headers, _ = await ask("POST", "/v2/app/blobs/uploads/")
        both = f"{headers['Location']}?digest={digest(b'other')}&digest={digest(b'lie')}"
        assert code_of((await ask("PUT", both, b"lie"))[2]) == "DIGEST_INVALID"
        # An image whose layer says another length than the blob has could never be pulled.
        config = await ask.blob(b"{}")
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {**config, "mediaType": OCI_CONFIG},
            "layers": [{"mediaType": OCI_LAYER, "digest": right, "size": 3}],
        }
        status, _, body = await ask(
            "PUT", "/v2/app/manifests/1", json.dumps(document).encode(), Content_Type=OCI_MANIFEST
        )
        assert (status, code_of(body)) == (400, "SIZE_INVALID")


async def test_who_is_silent_is_not_waited_for(tmp_path: Path) -> None:
    async with registry(tmp_path, silence=0.2) as ask:
        host, port = ask.base.removeprefix("http://").split(":")
        for said in (b"", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(said)
            assert await reader.read() == b""
            writer.close()
        _, headers, _ = await ask("POST", "/v2/app/blobs/uploads/")
        location = headers["Location"]
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode())
        assert b" 408 " in await reader.readline()
        writer.close()
        # What came is kept, and the upload is free for whoever goes on with it.
        status, headers, _ = await ask("GET", location)
        assert (status, headers["Range"]) == (204, "0-3")
        assert (await ask("PUT", f"{location}?digest={digest(b'halfwhole')}", b"whole"))[0] == 201


async def test_who_is_slow_is(tmp_path: Path) -> None:
    async with registry(tmp_path, silence=1) as ask:

        async def drops() -> AsyncIterator[bytes]:
            for _ in range(6):
                await asyncio.sleep(0.25)
                yield b"drop"

        _, headers, _ = await ask("POST", "/v2/app/blobs/uploads/")
        location = f"{headers['Location']}?digest={digest(b'drop' * 6)}"
        assert (await ask("PUT", location, drops()))[0] == 201


async def test_referrers(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        subject = await ask.image("1")
        path = f"/v2/app/referrers/{subject['digest']}"
        status, headers, body = await ask("GET", path)
        assert (status, headers["Content-Type"], json.loads(body)["manifests"]) == (200, OCI_INDEX, [])
        await ask.blob(b"{}")
        empty = {"mediaType": OCI_EMPTY, "digest": digest(b"{}"), "size": 2}
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "text/signature",
            "config": empty,
            "layers": [empty],
            "subject": subject,
            "annotations": {"by": "me"},
        }
        data = json.dumps(document).encode()
        status, headers, _ = await ask(
            "PUT", f"/v2/app/manifests/{digest(data)}", data, Content_Type=OCI_MANIFEST
        )
        assert (status, headers["Oci-Subject"]) == (201, subject["digest"])
        (found,) = json.loads((await ask("GET", path))[2])["manifests"]
        assert found == {
            "mediaType": OCI_MANIFEST,
            "digest": digest(data),
            "size": len(data),
            "artifactType": "text/signature",
            "annotations": {"by": "me"},
        }
        status, headers, body = await ask("GET", f"{path}?artifactType=text/other")
        assert (json.loads(body)["manifests"], headers["Oci-Filters-Applied"]) == ([], "artifactType")
        # What a client without the API has put under the fallback tag is listed too.
        other = await ask.image("", layer=b"other")
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [other]}).encode()
        await ask(
            "PUT", f"/v2/app/manifests/{subject['digest'].replace(':', '-')}", index, Content_Type=OCI_INDEX
        )
        assert len(json.loads((await ask("GET", path))[2])["manifests"]) == 2
        await ask("DELETE", f"/v2/app/manifests/{digest(data)}")
        assert len(json.loads((await ask("GET", path))[2])["manifests"]) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../etc/manifests/x",
        "/v2/a/../../b/manifests/x",
        "/v2/%2e%2e/%2e%2e/manifests/x",
        "/v2/a%2f..%2f..%2fb/manifests/x",
        "/v2/_uploads/x/manifests/y",
        "/v2/a/_layers/manifests/y",
        "/v2/UPPER/manifests/x",
        "/v2/a//b/manifests/x",
        "/v2/.hidden/manifests/x",
        "/v2/" + "a" * 300 + "/manifests/x",
        "/v2/app/manifests/..",
        "/v2/app/manifests/.x",
        "/v2/app/manifests/" + "t" * 129,
        "/v2/app/blobs/sha256:..%2f..%2fx",
        "/v2/app/blobs/uploads/..%2f..%2fx",
        "/v2/app/nosuch/x",
        "/v2/app",
        "/v3/",
    ],
)
async def test_tricks_with_paths(tmp_path: Path, path: str) -> None:
    async with registry(tmp_path / "root") as ask:
        for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD"):
            status, _, _ = await ask(method, path, b"{}" if method == "PUT" else None)
            assert 400 <= status < 500, (method, path, status)
    assert [each.name for each in tmp_path.iterdir()] == ["root"]


async def test_unknown_methods_name_the_known_ones(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        status, headers, body = await ask("POST", "/v2/app/manifests/x")
        assert (status, code_of(body), headers["Allow"]) == (405, "UNSUPPORTED", "DELETE, GET, HEAD, PUT")
        assert (await ask("DELETE", "/v2/_catalog"))[0] == 405


async def test_search(tmp_path: Path) -> None:
    async with registry(tmp_path) as ask:
        for name in ("tools/git", "tools/make", "other"):
            await ask.image("1", name)
        document = json.loads((await ask("GET", "/v1/search?q=tools&n=10"))[2])
        assert [each["name"] for each in document["results"]] == ["tools/git", "tools/make"]
        assert len(json.loads((await ask("GET", "/v1/search?q=tools&n=1"))[2])["results"]) == 1
