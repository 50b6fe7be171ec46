"""Each way in which a server can misbehave, and what the client does: try again, go elsewhere, or refuse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from hostile_registry import HostileRegistry, digest
from sampan.errors import NotFound, SampanError
from sampan.names.reference import parse_normalized
from sampan.oci.image import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from sampan.registry.client import RegistryClient
from sampan.registry.credentials import ANONYMOUS
from sampan.registry.failures import (
    BrokenAnswer,
    ConnectionFailed,
    RateLimited,
    ServerError,
    WrongContent,
)
from sampan.registry.pushing import Pusher
from sampan.registry.repository import Repository
from sampan.registry.settings import RegistrySettings

QUICK = RegistrySettings(attempts=3, retry_delay=0.01, read_timeout=0.3, retry_after_max=0.2)


@asynccontextmanager
async def repository_at(
    server: HostileRegistry, settings: RegistrySettings = QUICK
) -> AsyncIterator[tuple[Repository, list[float]]]:
    """The repository `app` of a server, and the pauses that the client made before trying again."""
    client = RegistryClient(settings)
    pauses: list[float] = []
    try:
        yield (
            client.repository(
                parse_normalized(f"{server.host}/app"), ANONYMOUS, lambda delay, error: pauses.append(delay)
            ),
            pauses,
        )
    finally:
        await client.close()


def layer(data: bytes, size: int | None = None) -> Descriptor:
    return Descriptor(media_type=OCI_LAYER, digest=digest(data), size=len(data) if size is None else size)


async def received(repository: Repository, descriptor: Descriptor, offset: int = 0) -> bytes:
    async with repository.blob(descriptor, offset) as blob:
        assert blob.offset in (0, offset)
        return b"".join([chunk async for chunk in blob.chunks()])


async def test_a_5xx_is_tried_again() -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, pauses):
        target = server.image([b"layer"])
        left = 2

        async def failing(request: web.Request) -> web.StreamResponse | None:
            nonlocal left
            if left and "manifests" in request.path:
                left -= 1
                return web.Response(status=503)
            return None

        server.behave(failing)
        assert (await repository.resolve("latest")).digest == target["digest"]
        assert pauses == [0.01, 0.02]


async def test_a_lasting_5xx_is_refused_after_all_attempts() -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, pauses):

        async def failing(request: web.Request) -> web.StreamResponse | None:
            return web.Response(status=500)

        server.behave(failing)
        with pytest.raises(ServerError, match="500 Internal Server Error"):
            await repository.resolve("latest")
        assert len(server.requests("HEAD", "manifests")) == 3
        assert len(pauses) == 2


async def test_a_429_that_is_soon_over_is_waited_for() -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, pauses):
        server.image([b"layer"])
        left = 1

        async def limiting(request: web.Request) -> web.StreamResponse | None:
            nonlocal left
            if left:
                left -= 1
                return web.Response(status=429, headers={"Retry-After": "0"})
            return None

        server.behave(limiting)
        await repository.resolve("latest")
        assert len(pauses) == 1


async def test_a_429_for_long_is_told_with_what_remains() -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, pauses):
        target = Descriptor(**_plain(server.image([b"layer"])))
        headers = {
            "Retry-After": "3600",
            "RateLimit-Limit": "100;w=21600",
            "RateLimit-Remaining": "0;w=21600",
        }

        async def limiting(request: web.Request) -> web.StreamResponse | None:
            document = {"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}
            return web.json_response(document, status=429, headers=headers)

        server.behave(limiting)
        with pytest.raises(RateLimited) as caught:
            await repository.manifest(target)
        assert "toomanyrequests: slow down (0 of 100 pulls per 6h0m0s remaining; the limit resets at " in str(
            caught.value
        )
        assert len(server.seen) == 1
        assert pauses == []


async def test_a_hang_ends() -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, pauses):
        forever = asyncio.Event()

        async def hanging(request: web.Request) -> web.StreamResponse | None:
            await forever.wait()
            return None

        server.behave(hanging)
        with pytest.raises(ConnectionFailed, match="no answer in time"):
            await repository.resolve("latest")
        assert len(pauses) == 2
        forever.set()


async def test_a_redirect_loop_is_refused() -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, _):

        async def looping(request: web.Request) -> web.StreamResponse | None:
            return web.Response(status=307, headers={"Location": request.path})

        server.behave(looping)
        with pytest.raises(BrokenAnswer, match="stopped after 10 redirects"):
            await repository.resolve("latest")
        assert len(server.seen) == 11


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://x/y", "//", "http://u:p@127.0.0.1/", "gopher:x"]
)
async def test_redirects_to_what_is_no_http_address_are_refused(location: str) -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, _):

        async def redirecting(request: web.Request) -> web.StreamResponse | None:
            return web.Response(status=302, headers={"Location": location})

        server.behave(redirecting)
        with pytest.raises(SampanError):
            await repository.resolve("latest")


async def test_a_redirect_to_plain_http_is_refused() -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, _):

        async def redirecting(request: web.Request) -> web.StreamResponse | None:
            return web.Response(status=302, headers={"Location": "http://192.0.2.1/x"})

        server.behave(redirecting)
        from yarl import URL

        with pytest.raises(
            BrokenAnswer, match="plain http is only followed to hosts listed in insecure-registries"
        ):
            await repository.transport._check_step(
                URL("https://registry.example/"), URL("http://192.0.2.1/x")
            )


async def test_a_wrong_document_is_refused() -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, _):
        target = Descriptor(**_plain(server.image([b"layer"])))
        server.manifests[target.digest] = (OCI_MANIFEST, b'{"schemaVersion":2}')
        with pytest.raises(WrongContent, match=f"verification failed for digest {target.digest}"):
            await repository.manifest(target)


async def test_a_wrong_digest_in_the_headers_is_refused() -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, _):
        target = server.image([b"layer"])

        async def lying(request: web.Request) -> web.StreamResponse | None:
            headers = {"Docker-Content-Digest": digest(b"other"), "Content-Type": OCI_MANIFEST}
            return web.Response(headers=headers)

        server.behave(lying)
        with pytest.raises(WrongContent):
            await repository.resolve(target["digest"])


@pytest.mark.parametrize(
    "told",
    [
        "sha256:../../../etc/passwd",
        "sha256:abc",
        "md5:" + "0" * 32,
        "..",
        "sha256:" + "g" * 64,
        "sha256:" + "A" * 64,
    ],
)
async def test_cve_2024_3727_a_digest_must_be_one(told: str) -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, _):

        async def lying(request: web.Request) -> web.StreamResponse | None:
            return web.Response(headers={"Docker-Content-Digest": told, "Content-Type": OCI_MANIFEST})

        server.behave(lying)
        with pytest.raises(BrokenAnswer, match="Docker-Content-Digest"):
            await repository.resolve("latest")


@pytest.mark.parametrize("claimed", [3, 5000])
async def test_a_lying_length_is_refused_before_a_byte_is_taken(claimed: int) -> None:
    data = b"x" * 1000
    async with HostileRegistry() as server, repository_at(server) as (repository, _):
        server.blob(data)
        with pytest.raises(WrongContent, match=f"announces 1000 bytes, the manifest says {claimed}"):
            await received(repository, layer(data, claimed))


async def test_more_bytes_than_the_manifest_says_are_refused() -> None:
    data = b"x" * 1000

    async def endless(request: web.Request) -> web.StreamResponse | None:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x" * 1000)
        return response

    async with HostileRegistry() as server, repository_at(server) as (repository, _):
        server.behave(endless)
        with pytest.raises(WrongContent, match="more than the 1000 bytes"):
            await received(repository, layer(data))


async def test_a_huge_document_is_refused() -> None:
    """CVE-2017-11468's kin on the client's side: memory is bounded whatever comes."""

    async def endless(request: web.Request) -> web.StreamResponse | None:
        response = web.StreamResponse(headers={"Content-Type": OCI_INDEX})
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            for _ in range(100):
                await response.write(b" " * (1 << 20))
        except ConnectionError:
            pass
        return response

    async with HostileRegistry() as server, repository_at(server) as (repository, _):
        server.behave(endless)
        with pytest.raises(BrokenAnswer, match="bytes allowed"):
            await repository.manifest(Descriptor(media_type=OCI_INDEX, digest=digest(b""), size=10))
        with pytest.raises(WrongContent, match="more than the"):
            await repository.manifest(Descriptor(media_type=OCI_INDEX, digest=digest(b""), size=1 << 30))


async def test_a_truncated_body_is_an_error_that_trying_again_can_cure() -> None:
    data = b"x" * 100_000

    async def breaking(request: web.Request) -> web.StreamResponse | None:
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[:30_000])
        assert request.transport is not None
        request.transport.close()
        return response

    async with HostileRegistry() as server, repository_at(server) as (repository, _):
        server.behave(breaking)
        with pytest.raises(ConnectionFailed, match=r"unexpected EOF|reset"):
            await received(repository, layer(data))


async def test_ranges() -> None:
    data = bytes(range(256)) * 100
    async with HostileRegistry() as server, repository_at(server) as (repository, _):
        server.blob(data)
        assert await received(repository, layer(data), 1000) == data[1000:]
        assert server.requests("GET", "blobs")[-1].range == "bytes=1000-"

        async def another(request: web.Request) -> web.StreamResponse | None:
            return web.Response(
                status=206, body=data[10:], headers={"Content-Range": f"bytes 10-{len(data) - 1}/{len(data)}"}
            )

        server.behave(another)
        with pytest.raises(BrokenAnswer, match="asked for bytes from 1000"):
            await received(repository, layer(data), 1000)


async def test_lists_have_an_end_and_stay_on_their_host() -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, _):

        async def paging(request: web.Request) -> web.StreamResponse | None:
            if "tags/list" not in request.path:
                return None
            if not request.query_string:
                headers = {"Link": '</v2/app/tags/list?n=1&last=a>; rel="next"'}
                return web.json_response({"tags": ["a"]}, headers=headers)
            return web.json_response({"tags": ["b"]})

        server.behave(paging)
        assert await repository.tags() == ["a", "b"]

    async with HostileRegistry() as server, repository_at(server) as (repository, _):

        async def elsewhere(request: web.Request) -> web.StreamResponse | None:
            return web.json_response(
                {"tags": ["a"]}, headers={"Link": '<http://127.0.0.1:1/v2/x>; rel="next"'}
            )

        server.behave(elsewhere)
        with pytest.raises(BrokenAnswer, match="on another host"):
            await repository.tags()


async def test_referrers_and_the_fallback_tag() -> None:
    subject = digest(b"subject")
    signature = {
        "mediaType": OCI_MANIFEST,
        "digest": digest(b"s"),
        "size": 1,
        "artifactType": "text/signature",
    }
    async with HostileRegistry() as server, repository_at(server) as (repository, _):
        assert await repository.referrers(subject) == []
        server.index([signature], tag=subject.replace(":", "-"))
        (found,) = await repository.referrers(subject, "text/signature")
        assert found.digest == signature["digest"]
        assert await repository.referrers(subject, "text/other") == []

        async def native(request: web.Request) -> web.StreamResponse | None:
            if "/referrers/" not in request.path:
                return None
            return web.json_response(
                {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [signature, signature]}
            )

        server.behave(native)
        assert len(await repository.referrers(subject)) == 2


async def test_a_foreign_layer_comes_from_its_own_address() -> None:
    data = b"not distributable"
    async with (
        HostileRegistry() as server,
        HostileRegistry() as elsewhere,
        repository_at(server) as (repository, _),
    ):
        elsewhere.blob(data)
        foreign = Descriptor(
            media_type="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            digest=digest(data),
            size=len(data),
            urls=("ftp://ignored/", f"{elsewhere.url}/v2/x/blobs/{digest(data)}"),
        )
        assert await received(repository, foreign) == data
        with pytest.raises(NotFound):
            await received(repository, layer(data))


async def test_an_upload_goes_on_where_it_broke() -> None:
    data = bytes(range(256)) * 4096
    async with HostileRegistry() as server, repository_at(server) as (repository, _):
        broken = False

        async def breaking(request: web.Request) -> web.StreamResponse | None:
            nonlocal broken
            if request.method != "PUT" or broken:
                return None
            broken = True
            id = request.path.rpartition("/")[2]
            server.uploads[id] += await request.content.readexactly(300_000)
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        server.behave(breaking)
        offsets: list[int] = []

        async def source(offset: int, length: int) -> AsyncIterator[bytes]:
            offsets.append(offset)
            for start in range(offset, offset + length, 65536):
                yield data[start : min(start + 65536, offset + length)]

        pushed = await Pusher(repository).blob(layer(data), source, [], lambda position: None)
        assert pushed.outcome == "pushed"
        assert server.blobs[digest(data)] == data
        assert offsets == [0, 300_000]
        assert len(server.requests("POST", "uploads")) == 1


async def test_an_upload_begins_anew_when_the_registry_has_kept_nothing() -> None:
    data = b"y" * 200_000
    async with HostileRegistry() as server, repository_at(server) as (repository, _):
        left = 1

        async def forgetting(request: web.Request) -> web.StreamResponse | None:
            nonlocal left
            if request.method == "PUT" and left:
                left -= 1
                server.uploads.clear()
                return web.Response(status=502)
            if request.method == "GET" and "uploads" in request.path:
                return web.json_response({"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}, status=404)
            return None

        server.behave(forgetting)

        async def source(offset: int, length: int) -> AsyncIterator[bytes]:
            yield data[offset : offset + length]

        await Pusher(repository).blob(layer(data), source, [], lambda position: None)
        assert server.blobs[digest(data)] == data


async def test_a_registry_that_stores_something_else_is_found_out() -> None:
    async with HostileRegistry() as server, repository_at(server) as (repository, _):

        async def converting(request: web.Request) -> web.StreamResponse | None:
            if request.method == "PUT":
                return web.Response(status=201, headers={"Docker-Content-Digest": digest(b"converted")})
            return None

        server.behave(converting)
        with pytest.raises(WrongContent, match="the registry stored it as"):
            await Pusher(repository).manifest(b"{}", OCI_MANIFEST, "latest")


def _plain(descriptor: dict[str, object]) -> dict[str, object]:
    return {"media_type": descriptor["mediaType"], "digest": descriptor["digest"], "size": descriptor["size"]}


def test_error_lists_of_any_shape_are_read() -> None:
    from sampan.registry.failures import error_items

    for body in (
        b"",
        b"null",
        b"[]",
        b'{"errors":null}',
        b'{"errors":[1]}',
        b"[" * 5000,
        json.dumps({"errors": [{}]}).encode(),
    ):
        error_items(body)
