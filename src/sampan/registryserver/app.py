"""The HTTP face: paths to operations, operations to answers (OCI distribution specification 1.1, "Endpoints")."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web

from sampan.names.digest import Digest
from sampan.oci.image import OCI_INDEX, Descriptor, Index, encode
from sampan.registryserver.access import Access
from sampan.registryserver.configuration import ServerConfig
from sampan.registryserver.failures import Refused
from sampan.registryserver.paths import checked_digest, checked_name, checked_tag, checked_upload
from sampan.registryserver.repositories import MANIFEST_MAX, Repositories, StoredManifest
from sampan.registryserver.rights import Scope
from sampan.registryserver.sending import is_known, send_blob
from sampan.registryserver.slowness import unsilent
from sampan.registryserver.uploads import UploadSession

log = logging.getLogger("sampan.registry")

Handler = Callable[[web.BaseRequest, str, str], Awaitable[web.StreamResponse]]

_PATH = re.compile(
    r"/v2/(?P<name>.+?)/(?:(?P<uploads>blobs/uploads)/(?P<upload>[^/]*)|(?P<kind>blobs|manifests|referrers)/(?P<reference>[^/]+)"
    r"|(?P<tags>tags/list))"
)
_CONTENT_RANGE = re.compile(r"(\d{1,18})-(\d{1,18})")
_REFERRERS_MAX = MANIFEST_MAX - 1024
"""Bytes of descriptors in one answer."""
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Observer(Protocol):
    """Told of what happened: notifications and metrics."""

    def happened(self, action: str, name: str, digest: str, size: int, tag: str, user: str) -> None:
        """`action` is push, pull, mount or delete."""
        ...


class Upstream(Protocol):
    """Where a pull-through cache gets what it does not have."""

    def name(self, asked: str, namespace: str) -> str:
        """The repository here that a client means. Raises `Refused`."""
        ...

    async def manifest(self, name: str, reference: str) -> StoredManifest: ...

    async def blob(self, name: str, digest: Digest) -> None:
        """Have the blob in the repository. Raises `Refused`."""
        ...


class RegistryApp:
    """One registry behind HTTP."""

    def __init__(
        self,
        config: ServerConfig,
        repositories: Repositories,
        access: Access,
        observers: list[Observer] | None = None,
        upstream: Upstream | None = None,
        answered: Callable[[str, int, float], None] | None = None,
    ) -> None:
        """`answered` is told of each request: its method, the status, the seconds that it took."""
        self._config = config
        self._repositories = repositories
        self._access = access
        self._observers = observers or []
        self._upstream = upstream
        self._answered = answered

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request; an error becomes the specification's document."""
        begun = time.monotonic()
        try:
            response = await self._dispatch(request)
        except Refused as error:
            response = _refusal(error, request.method)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except OSError as error:
            log.error("storage: %s %s: %s", request.method, request.rel_url.raw_path, error)
            response = _refusal(Refused("UNAVAILABLE", "the storage fails"), request.method)
        except Exception:
            log.exception("unforeseen error: %s %s", request.method, request.rel_url.raw_path)
            response = _refusal(Refused("UNKNOWN"), request.method)
        if not response.prepared:
            for key, value in self._headers().items():
                response.headers.setdefault(key, value)
        duration = time.monotonic() - begun
        if self._answered is not None:
            self._answered(request.method, response.status, duration)
        if self._config.access_log:
            log.info(
                "%s %s %s %d %.3fs",
                request.remote,
                request.method,
                request.rel_url.raw_path,
                response.status,
                duration,
            )
        return response

    def _headers(self) -> dict[str, str]:
        standard = {"Docker-Distribution-Api-Version": "registry/2.0", "X-Content-Type-Options": "nosniff"}
        return standard | {key: ", ".join(values) for key, values in self._config.headers.items()}

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        path = self._path(request)
        if path in ("/", "/v1/_ping"):
            return web.json_response({}, headers={"X-Docker-Registry-Standalone": "true"})
        found = _PATH.fullmatch(path)
        name = self._name(request, found["name"]) if found is not None else ""
        user = await self._access.check(
            request.headers.get("Authorization", ""), _needed(request.method, path, name)
        )
        if path in ("/v2", "/v2/"):
            return web.json_response({})
        if path == "/v2/_catalog":
            return await self._catalog(request)
        if path == "/v1/search":
            return await self._search(request)
        if found is None:
            raise Refused("UNSUPPORTED" if path.startswith("/v2/") else "NAME_UNKNOWN", status=404)
        if request.method in _WRITES and (self._config.read_only or self._upstream is not None):
            raise Refused("UNSUPPORTED", "the registry is read-only")
        if found["uploads"]:
            return await self._uploads(request, name, found["upload"], user)
        if found["tags"]:
            return await self._route(request, {"GET": self._tags}, name, "")
        kind, reference = found["kind"], found["reference"]
        handlers: dict[str, dict[str, Handler]] = {
            "blobs": {"GET": self._blob, "HEAD": self._blob, "DELETE": self._delete_blob},
            "manifests": {
                "GET": self._manifest,
                "HEAD": self._manifest,
                "PUT": self._put_manifest,
                "DELETE": self._delete_manifest,
            },
            "referrers": {"GET": self._referrers},
        }
        return await self._route(request, handlers[kind], name, reference)

    def _path(self, request: web.BaseRequest) -> str:
        """A request's path without `http.prefix`. Raises `Refused` for one outside of it; load balancers may ask for `/`."""
        prefix = self._config.prefix
        if request.path == "/" or not prefix:
            return request.path
        if not request.path.startswith(f"{prefix}/"):
            raise Refused("UNSUPPORTED", status=404)
        return request.path[len(prefix) :]

    def _name(self, request: web.BaseRequest, asked: str) -> str:
        name = checked_name(asked)
        return name if self._upstream is None else self._upstream.name(name, request.query.get("ns", ""))

    async def _route(
        self, request: web.BaseRequest, handlers: Mapping[str, Handler], name: str, reference: str
    ) -> web.StreamResponse:
        handler = handlers.get(request.method)
        if handler is None:
            raise Refused("UNSUPPORTED", headers={"Allow": ", ".join(sorted(handlers))})
        return await handler(request, name, reference)

    def _tell(
        self, action: str, name: str, digest: str, size: int = 0, tag: str = "", user: str = ""
    ) -> None:
        for observer in self._observers:
            observer.happened(action, name, digest, size, tag, user)

    def _location(self, path: str) -> str:
        return self._config.host.rstrip("/") + self._config.prefix + path

    # -- blobs

    async def _blob(self, request: web.BaseRequest, name: str, reference: str) -> web.StreamResponse:
        digest = checked_digest(reference)
        try:
            path, size = await self._repositories.blob(name, digest)
        except Refused:
            if self._upstream is None:
                raise
            await self._upstream.blob(name, digest)
            path, size = await self._repositories.blob(name, digest)
        if request.method == "GET":
            self._tell("pull", name, digest, size)
        return await send_blob(request, self._repositories.storage, path, size, digest, self._headers())

    async def _delete_blob(self, request: web.BaseRequest, name: str, reference: str) -> web.StreamResponse:
        self._check_delete()
        digest = checked_digest(reference)
        await self._repositories.delete_blob(name, digest)
        self._tell("delete", name, digest)
        return web.Response(status=202, headers={"Docker-Content-Digest": digest})

    def _check_delete(self) -> None:
        if not self._config.delete:
            raise Refused("UNSUPPORTED", "deletion is not enabled (storage.delete.enabled)")

    # -- uploads

    async def _uploads(self, request: web.BaseRequest, name: str, id: str, user: str) -> web.StreamResponse:
        if not id:
            if request.method != "POST":
                raise Refused("UNSUPPORTED", headers={"Allow": "POST"})
            return await self._begin_upload(request, name)
        session = await self._repositories.uploads.find(name, checked_upload(id))
        if session.busy:
            raise Refused("BLOB_UPLOAD_INVALID", "another request writes to this upload", status=409)
        session.busy = True
        try:
            if not await session.reload():
                self._repositories.uploads.forget(session)
                raise Refused("BLOB_UPLOAD_UNKNOWN")
            match request.method:
                case "GET" | "HEAD":
                    return self._progress(session, 204)
                case "PATCH":
                    await self._receive(request, session)
                    await session.keep()
                    return self._progress(session, 202)
                case "PUT":
                    return await self._finish_upload(request, session)
                case "DELETE":
                    await self._repositories.uploads.cancel(session)
                    return web.Response(status=204)
        finally:
            session.busy = False
        raise Refused("UNSUPPORTED", headers={"Allow": "DELETE, GET, PATCH, PUT"})

    async def _begin_upload(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        mount, digest = request.query.get("mount", ""), request.query.get("digest", "")
        if mount and (source := request.query.get("from", "")):
            wanted = checked_digest(mount)
            other = checked_name(source)
            # Who may not read there may not take it from there either; an upload is open to him.
            header = request.headers.get("Authorization", "")
            readable = await self._access.allows(header, Scope("repository", other, "pull"))
            if readable and await self._repositories.mount(name, other, wanted):
                self._tell("mount", name, wanted)
                return self._created(name, wanted)
        session = await self._repositories.uploads.begin(name)
        if not digest:
            answer = self._progress(session, 202)
            answer.headers["OCI-Chunk-Min-Length"] = str(self._repositories.storage.chunk_min)
            return answer
        session.busy = True
        try:
            return await self._finish_upload(request, session)
        finally:
            session.busy = False

    async def _receive(self, request: web.BaseRequest, session: UploadSession) -> None:
        """Take a chunk, which must begin where the last one ended (416 tells where that is)."""
        limit = None
        if given := request.headers.get("Content-Range", ""):
            parsed = _CONTENT_RANGE.fullmatch(given.removeprefix("bytes ").partition("/")[0])
            if parsed is None or int(parsed[1]) != session.size or int(parsed[2]) < int(parsed[1]):
                headers = {
                    "Location": self._location(self._upload_path(session)),
                    "Range": _range(session.size),
                }
                raise Refused("RANGE_INVALID", {"received": session.size}, headers=headers)
            limit = int(parsed[2]) - int(parsed[1]) + 1
        before = session.size
        await session.write(unsilent(request.content.iter_any(), self._config.silence), limit)
        if limit is not None and session.size - before != limit:
            await session.keep()
            raise Refused("SIZE_INVALID", {"announced": limit, "received": session.size - before})

    async def _finish_upload(self, request: web.BaseRequest, session: UploadSession) -> web.StreamResponse:
        digest = checked_digest(request.query.get("digest", ""))
        if request.body_exists:
            await self._receive(request, session)
        size = session.size
        try:
            await session.commit(digest)
        finally:
            self._repositories.uploads.forget(session)
        self._tell("push", session.name, digest, size)
        return self._created(session.name, digest)

    def _progress(self, session: UploadSession, status: int) -> web.StreamResponse:
        return web.Response(
            status=status,
            headers={
                "Location": self._location(self._upload_path(session)),
                "Range": _range(session.size),
                "Docker-Upload-UUID": session.id,
                "Content-Length": "0",
            },
        )

    def _upload_path(self, session: UploadSession) -> str:
        return f"/v2/{session.name}/blobs/uploads/{session.id}"

    def _created(self, name: str, digest: str) -> web.StreamResponse:
        location = self._location(f"/v2/{name}/blobs/{digest}")
        return web.Response(status=201, headers={"Location": location, "Docker-Content-Digest": digest})

    # -- manifests

    async def _manifest(self, request: web.BaseRequest, name: str, reference: str) -> web.StreamResponse:
        if ":" not in reference:
            checked_tag(reference)
        if self._upstream is not None:
            stored = await self._upstream.manifest(name, reference)
        else:
            stored = await self._repositories.manifest(name, reference)
        headers = {
            "Docker-Content-Digest": stored.digest,
            "ETag": f'"{stored.digest}"',
            "Content-Type": stored.media_type,
        }
        if is_known(request, stored.digest):
            return web.Response(status=304, headers=headers)
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(stored.data))})
        self._tell("pull", name, stored.digest, len(stored.data), "" if ":" in reference else reference)
        return web.Response(body=stored.data, headers=headers)

    async def _put_manifest(self, request: web.BaseRequest, name: str, reference: str) -> web.StreamResponse:
        if ":" not in reference:
            checked_tag(reference)
        body = unsilent(request.content.iter_any(), self._config.silence)
        data = await _small_body(body, MANIFEST_MAX)
        media_type = request.content_type if "Content-Type" in request.headers else ""
        digest, parsed = await self._repositories.put_manifest(name, reference, media_type, data)
        headers = {
            "Location": self._location(f"/v2/{name}/manifests/{digest}"),
            "Docker-Content-Digest": digest,
        }
        if parsed.subject is not None:
            headers["OCI-Subject"] = parsed.subject.digest
        self._tell("push", name, digest, len(data), "" if ":" in reference else reference)
        return web.Response(status=201, headers=headers)

    async def _delete_manifest(
        self, request: web.BaseRequest, name: str, reference: str
    ) -> web.StreamResponse:
        self._check_delete()
        if ":" not in reference:
            checked_tag(reference)
        await self._repositories.delete_manifest(name, reference)
        self._tell(
            "delete", name, reference if ":" in reference else "", tag="" if ":" in reference else reference
        )
        return web.Response(status=202)

    async def _referrers(self, request: web.BaseRequest, name: str, reference: str) -> web.StreamResponse:
        found = await self._repositories.referrers(name, checked_digest(reference))
        headers = {"Content-Type": OCI_INDEX}
        if wanted := request.query.get("artifactType", ""):
            found = [each for each in found if each.artifact_type == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        page = _page_of_referrers(found, request.query.get("last", ""))
        if page and page[-1] is not found[-1]:
            query = {"last": page[-1].digest, **({"artifactType": wanted} if wanted else {})}
            path = f"{self._config.prefix}/v2/{name}/referrers/{reference}"
            headers["Link"] = f'<{path}?{urlencode(query)}>; rel="next"'
        index = Index(schema_version=2, media_type=OCI_INDEX, manifests=page)
        return web.Response(body=encode(index), headers=headers)

    # -- lists

    async def _tags(self, request: web.BaseRequest, name: str, reference: str) -> web.StreamResponse:
        tags = await self._repositories.tags(name)
        page, headers = self._page(request, tags, f"/v2/{name}/tags/list", None)
        return web.json_response({"name": name, "tags": page}, headers=headers)

    async def _catalog(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "GET":
            raise Refused("UNSUPPORTED", headers={"Allow": "GET"})
        names = await self._repositories.catalog()
        page, headers = self._page(request, names, "/v2/_catalog", self._config.catalog_max)
        return web.json_response({"repositories": page}, headers=headers)

    def _page(
        self, request: web.BaseRequest, entries: list[str], path: str, most: int | None
    ) -> tuple[list[str], dict[str, str]]:
        """The entries after `last`, `n` of them at most. A figure beyond the limit is refused (CVE-2023-2253)."""
        given, last = request.query.get("n", ""), request.query.get("last", "")
        count = most
        if given:
            if not given.isascii() or not given.isdigit() or len(given) > 9 or (most and int(given) > most):
                raise Refused("PAGINATION_NUMBER_INVALID", {"n": given[:50]})
            count = int(given)
        rest = [each for each in entries if each > last] if last else entries
        if count is None or len(rest) <= count:
            return rest, {}
        page = rest[:count]
        if not page:
            return page, {}
        return page, {
            "Link": f'<{self._config.prefix}{path}?last={quote(page[-1], safe="")}&n={count}>; rel="next"'
        }

    async def _search(self, request: web.BaseRequest) -> web.StreamResponse:
        """The v1 API's search, which `docker search HOST/term` asks: repositories whose name has the term in it."""
        term = request.query.get("q", "").strip().lower()
        given = request.query.get("n", "")
        limit = min(int(given), 100) if given.isascii() and given.isdigit() and len(given) < 9 else 25
        found = [name for name in await self._repositories.catalog() if term in name][:limit]
        results = [
            {"name": name, "description": "", "star_count": 0, "is_official": False, "is_automated": False}
            for name in found
        ]
        document = {"query": term, "num_results": len(results), "results": results}
        return web.json_response(document)


def _page_of_referrers(found: list[Descriptor], last: str) -> list[Descriptor]:
    """Those after `last`, as many as clients accept as one manifest."""
    start = next((at for at, each in enumerate(found) if each.digest > last), len(found)) if last else 0
    size = 0
    for at in range(start, len(found)):
        size += len(msgspec.json.encode(found[at])) + 1
        if size > _REFERRERS_MAX and at > start:
            return found[start:at]
    return found[start:]


def _needed(method: str, path: str, name: str) -> list[Scope]:
    """The rights that a request to a repository (or to none) takes, as distribution has them."""
    if path in ("/v2/_catalog", "/v1/search"):
        return [Scope("registry", "catalog", "*")]
    if not name:
        return []
    actions = {"GET": ("pull",), "HEAD": ("pull",), "DELETE": ("delete",)}.get(method, ("pull", "push"))
    return [Scope("repository", name, action) for action in actions]


async def _small_body(body: AsyncIterator[bytes], limit: int) -> bytes:
    """A whole body. Raises `Refused` (413) beyond the limit, whatever length was announced (CVE-2017-11468)."""
    data = bytearray()
    async for chunk in body:
        data += chunk
        if len(data) > limit:
            raise Refused("MANIFEST_INVALID", f"larger than {limit} bytes", status=413)
    return bytes(data)


def _range(size: int) -> str:
    return f"0-{max(0, size - 1)}"


def _refusal(error: Refused, method: str) -> web.Response:
    body = b"" if method == "HEAD" else msgspec.json.encode(error.document())
    return web.Response(
        status=error.status, body=body, headers=error.headers, content_type="application/json"
    )
