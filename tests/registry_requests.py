"""Plain requests to a Sampan registry in the test's own process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from registry_peer import DockerRegistry
from sampan.oci.image import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from sampan.registryserver.configuration import ServerConfig
from sampan.registryserver.program import start


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Client:
    """Plain requests to a registry."""

    def __init__(self, session: aiohttp.ClientSession, port: int, debug_port: int = 0) -> None:
        self._session = session
        self.base = f"http://127.0.0.1:{port}"
        self.debug = f"http://127.0.0.1:{debug_port}"

    async def __call__(
        self, method: str, path: str, data: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(path if path.startswith("http") else self.base + path, encoded=True)
        async with self._session.request(
            method, url, data=data, headers=sent, allow_redirects=False
        ) as response:
            return (
                response.status,
                {key.title(): value for key, value in response.headers.items()},
                await response.read(),
            )

    async def blob(self, data: bytes, repository: str = "app") -> dict[str, Any]:
        """Push a blob in one request; its descriptor."""
        status, headers, _ = await self("POST", f"/v2/{repository}/blobs/uploads/")
        assert status == 202
        status, headers, body = await self("PUT", _with_digest(headers["Location"], data), data)
        assert status == 201, body
        return {"mediaType": OCI_LAYER, "digest": digest(data), "size": len(data)}

    async def image(
        self, tag: str, repository: str = "app", layer: bytes = b"layer", **fields: Any
    ) -> dict[str, Any]:
        """Push an image; the descriptor of its manifest."""
        config = await self.blob(json.dumps({"architecture": "amd64", "os": "linux"}).encode(), repository)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {**config, "mediaType": OCI_CONFIG},
            "layers": [await self.blob(layer, repository)],
            **fields,
        }
        data = json.dumps(document).encode()
        status, headers, body = await self(
            "PUT", f"/v2/{repository}/manifests/{tag or digest(data)}", data, Content_Type=OCI_MANIFEST
        )
        assert status == 201, body
        assert headers["Docker-Content-Digest"] == digest(data)
        return {"mediaType": OCI_MANIFEST, "digest": digest(data), "size": len(data)}


@asynccontextmanager
async def registry(root: Path, **fields: Any) -> AsyncIterator[Client]:
    config = ServerConfig(root=str(root), **{"address": "127.0.0.1:0", "delete": True, **fields})
    async with AsyncExitStack() as closing:
        listening = await start(config, closing)
        session = await closing.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        yield Client(session, listening.port, listening.debug_port)


@asynccontextmanager
async def debians_registry(root: Path) -> AsyncIterator[Client]:
    """The same requests to Debian's docker-registry."""
    root.mkdir()
    server = DockerRegistry(root)
    server.start()
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield Client(session, server.port)
    finally:
        server.stop()


def _with_digest(location: str, data: bytes) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest(data)}"


def code_of(body: bytes) -> str:
    errors = json.loads(body)["errors"]
    assert set(errors[0]) <= {"code", "message", "detail"}
    return str(errors[0]["code"])
