"""A small registry in the test's own process that misbehaves on request, and keeps what it was sent.

`behave` maps a path to a handler that answers instead of the registry, or returns None to let it answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web

from sampan.oci.image import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Seen(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    authorization: str
    range: str
    host: str
    query: str


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class HostileRegistry:
    """Serves blobs and manifests from memory on 127.0.0.1, on the test's loop. A context."""

    def __init__(self, tls: Any = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.seen: list[Seen] = []
        self.behaviours: list[Behaviour] = []
        self.uploads: dict[str, bytearray] = {}
        self._tls = tls
        self._runner: web.ServerRunner | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        server = web.Server(self._handle)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def behave(self, behaviour: Behaviour) -> None:
        """Let this answer first, as long as it returns an answer."""
        self.behaviours.append(behaviour)

    def blob(self, data: bytes, media_type: str = OCI_LAYER) -> dict[str, Any]:
        """Add a blob; its descriptor."""
        self.blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def image(self, layers: list[bytes], tag: str = "latest", **fields: Any) -> dict[str, Any]:
        """Add an image of plain layers under a tag; the descriptor of its manifest."""
        config = {
            "created": "2024-01-01T00:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            **fields,
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.blob(json.dumps(config).encode(), OCI_CONFIG),
            "layers": [self.blob(layer) for layer in layers],
        }
        return self.manifest(json.dumps(manifest).encode(), OCI_MANIFEST, tag)

    def index(self, manifests: list[dict[str, Any]], tag: str = "latest") -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        return self.manifest(json.dumps(document).encode(), OCI_INDEX, tag)

    def manifest(self, data: bytes, media_type: str, tag: str = "") -> dict[str, Any]:
        """Add a manifest under its digest and a tag."""
        self.manifests[digest(data)] = (media_type, data)
        if tag:
            self.manifests[tag] = (media_type, data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def requests(self, method: str, part: str) -> list[Seen]:
        """Those of a method whose path contains a text."""
        return [each for each in self.seen if each.method == method and part in each.path]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = request.headers
        self.seen.append(
            Seen(
                request.method,
                request.path,
                headers.get("Authorization", ""),
                headers.get("Range", ""),
                headers.get("Host", ""),
                request.rel_url.raw_query_string,
            )
        )
        for behaviour in self.behaviours:
            answer = await behaviour(request)  # type: ignore[arg-type]
            if answer is not None:
                return answer
        return await self._serve(request)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        parts = request.path.split("/")
        if request.path == "/v2/":
            return web.json_response({})
        if "/blobs/uploads/" in request.path:
            return await self._upload(request)
        kind, name = parts[-2], parts[-1]
        if kind == "manifests" and request.method == "PUT":
            data = await request.read()
            self.manifest(data, request.headers["Content-Type"], name if ":" not in name else "")
            return web.Response(status=201, headers={"Docker-Content-Digest": digest(data)})
        if kind == "manifests" and name in self.manifests:
            media_type, data = self.manifests[name]
            headers = {"Docker-Content-Digest": digest(data), "Content-Type": media_type}
            return web.Response(body=data, headers=headers)
        if kind == "blobs" and name in self.blobs:
            return _ranged(request, self.blobs[name])
        return web.json_response({"errors": [{"code": "NAME_UNKNOWN", "message": "not here"}]}, status=404)

    async def _upload(self, request: web.BaseRequest) -> web.StreamResponse:
        id = request.path.rpartition("/")[2]
        if request.method == "POST":
            id = f"u{len(self.uploads)}"
            self.uploads[id] = bytearray()
        elif request.method in ("PATCH", "PUT"):
            async for chunk in request.content.iter_any():
                self.uploads[id] += chunk
        location = {"Location": f"/v2/app/blobs/uploads/{id}?state=a%2Fb"}
        kept = len(self.uploads[id])
        if request.method == "PUT":
            data = bytes(self.uploads.pop(id))
            if digest(data) != request.query["digest"]:
                return web.json_response({"errors": [{"code": "DIGEST_INVALID"}]}, status=400)
            self.blobs[digest(data)] = data
            return web.Response(status=201, headers={"Docker-Content-Digest": digest(data)})
        status = 204 if request.method == "GET" else 202
        return web.Response(status=status, headers={**location, "Range": f"0-{max(0, kept - 1)}"})


def _ranged(request: web.BaseRequest, data: bytes) -> web.Response:
    wanted = request.headers.get("Range", "")
    if not wanted:
        return web.Response(body=data)
    start = int(wanted.removeprefix("bytes=").partition("-")[0])
    if start >= len(data):
        return web.Response(status=416)
    span = f"bytes {start}-{len(data) - 1}/{len(data)}"
    return web.Response(status=206, body=data[start:], headers={"Content-Range": span})


class BackgroundRegistry(HostileRegistry):
    """The same on a loop of its own in a thread, for tests whose engine is another process or loop. A synchronous context."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.__aenter__(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self.__aexit__(None, None, None), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
