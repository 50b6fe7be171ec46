"""A registry in a bucket, over S3's protocol (distribution's `s3` driver): the same keys, and conditions instead of locks.

Objects cannot be touched, locked or appended to:

- **Freshness** is an object beside the blob's, `fresh`. Who tells of a blob writes it and then looks for `dying`; the collector
  writes `dying` and then looks at `fresh`. Whatever their order, at least one of them sees the other: the blob is spared, or
  the client is told that there is none, and uploads it.
- **The collection lease** is an object that is only created when it is not there, and taken over only as it was last seen.
- **An upload** is a row of objects named by their offset, each created only once, so that two programs cannot both write there.
  They become the blob when its digest is verified.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store

from sampan.errors import InvalidParameter
from sampan.registryserver.failures import Refused
from sampan.registryserver.storage import Partial, Stored

PIECE = 16 << 20
"""Bytes of an upload that become one object."""
_PART = 16 << 20
"""Bytes of one part of a blob that is written in parts; S3 wants 5 MiB at least."""
_CHUNK = 1 << 20
_ASKED_SINGLY = 16
"""Objects that are asked for one by one; more are looked for in a list, a thousand with a request."""
_LEASE_SECONDS = 3600.0
_DYING_SECONDS = 60.0
"""A collector that has not removed a blob in this time after its announcement never will."""
_ADDRESS_LIFE = timedelta(minutes=20)


class ObjectStorage:
    """A `Storage`."""

    has_stamps = False
    chunk_min = 5 << 20  # each is an object at least

    def __init__(self, settings: dict[str, Any], *, redirect: bool) -> None:
        """`settings` as distribution's `storage.s3`. Raises `InvalidParameter`."""
        bucket = str(settings.get("bucket") or "")
        if not bucket:
            raise InvalidParameter("configuration: storage.s3.bucket is missing")
        endpoint = str(settings.get("regionendpoint") or "")
        if endpoint and "://" not in endpoint:
            endpoint = f"{'http' if settings.get('secure') is False else 'https'}://{endpoint}"
        options = {
            "region": settings.get("region"),
            "endpoint": endpoint,
            "access_key_id": settings.get("accesskey"),
            "secret_access_key": settings.get("secretkey"),
            "session_token": settings.get("sessiontoken"),
        }
        config: Any = {key: str(value) for key, value in options.items() if value}
        self._store = S3Store(
            bucket,
            config=config,
            virtual_hosted_style_request=bool(not endpoint and not settings.get("forcepathstyle")),
            client_options={"allow_http": endpoint.startswith("http://"), "timeout": "60s"},
        )
        self._redirect = redirect
        self._freshened: dict[str, float] = {}

    def prepare(self, directories: list[Path]) -> None:
        """A bucket has no directories. Raises `InvalidParameter` when it cannot be reached."""
        problem = self.healthy(directories[0])
        if problem:
            raise InvalidParameter(f"storage.s3: {problem}")

    def healthy(self, directory: Path) -> str:
        try:
            obstore.list_with_delimiter(self._store, _key(directory))
        except (BaseError, OSError) as error:
            return " ".join(str(error).split())[:500]
        return ""

    def read(self, path: Path) -> bytes | None:
        try:
            return bytes(obstore.get(self._store, _key(path)).bytes())
        except FileNotFoundError:
            return None

    def write(self, path: Path, data: bytes) -> None:
        obstore.put(self._store, _key(path), data)

    def status(self, path: Path) -> Stored | None:
        try:
            found = obstore.head(self._store, _key(path))
        except FileNotFoundError:
            return None
        return Stored(found["size"], found["last_modified"].timestamp())

    def remove(self, path: Path, upto: Path) -> bool:
        if self.status(path) is None:
            return False
        obstore.delete(self._store, _key(path))
        return True

    def remove_tree(self, directory: Path) -> None:
        for batch in obstore.list(self._store, _key(directory)):
            obstore.delete(self._store, [each["path"] for each in batch])

    def names(self, directory: Path) -> list[str]:
        found = obstore.list_with_delimiter(self._store, _key(directory))
        keys = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        return sorted(key.rstrip("/").rpartition("/")[2] for key in keys)

    def stamp(self, directory: str) -> str:
        return ""

    def linked(self, directory: Path, suffix: str, among: list[str] | None = None) -> list[str]:
        if among is not None and len(among) <= _ASKED_SINGLY:
            return sorted(name for name in among if self.status(directory / name / suffix) is not None)
        prefix, wanted = f"{_key(directory)}/", None if among is None else set(among)
        found: list[str] = []
        for batch in obstore.list(self._store, prefix, chunk_size=1000):
            for each in batch:
                name, _, rest = each["path"].removeprefix(prefix).partition("/")
                if rest == suffix and (wanted is None or name in wanted):
                    found.append(name)
        return sorted(found)

    # -- blobs and their collector

    def fresh(self, blob: Path, within: float) -> Stored | None:
        found = self.status(blob)
        if found is None:
            return None
        key = _key(blob)
        if time.monotonic() - self._freshened.get(key, -1e9) > within:
            self.write(blob.with_name("fresh"), b"")
            if self.status(blob.with_name("dying")) is not None:
                return None
            self._remember(key)
        return found

    def _remember(self, key: str) -> None:
        if len(self._freshened) >= 100_000:
            self._freshened.clear()
        self._freshened[key] = time.monotonic()

    def put_blob(self, blob: Path, data: bytes) -> None:
        self.announce(blob)
        obstore.put(self._store, _key(blob), data)

    def announce(self, blob: Path) -> None:
        """A blob is going to be written: keep the collector from it, and wait for one that is at it."""
        fresh, dying = blob.with_name("fresh"), blob.with_name("dying")
        self.write(fresh, b"")
        while (found := self.status(dying)) is not None:
            if time.time() - found.modified > _DYING_SECONDS:
                self.remove(dying, dying)  # its collector was killed
                break
            time.sleep(0.2)  # it ends within a few requests
        self._remember(_key(blob))

    def remove_stale(self, blob: Path, age: float, *, dry_run: bool) -> int:
        found = self.status(blob)
        if found is None or self._is_fresh(blob, found, age):
            return -1
        if dry_run:
            return found.size
        dying = blob.with_name("dying")
        self.write(dying, b"")
        try:
            if self._is_fresh(blob, found, age):
                return -1
            self._freshened.pop(_key(blob), None)
            obstore.delete(self._store, [_key(blob), _key(blob.with_name("fresh"))])
        finally:
            obstore.delete(self._store, _key(dying))
        return found.size

    def _is_fresh(self, blob: Path, found: Stored, age: float) -> bool:
        marker = self.status(blob.with_name("fresh"))
        return time.time() - max(found.modified, marker.modified if marker else 0) < age

    @contextmanager
    def lease(self, directory: Path) -> Iterator[bool]:
        key, mine = _key(directory / "collecting"), secrets.token_hex(8)
        document = json.dumps({"holder": mine, "until": time.time() + _LEASE_SECONDS}).encode()
        if not self._take_lease(key, document):
            yield False
            return
        try:
            yield True
        finally:
            obstore.delete(self._store, key)

    def _take_lease(self, key: str, document: bytes) -> bool:
        try:
            obstore.put(self._store, key, document, mode="create")
            return True
        except AlreadyExistsError:
            pass
        try:
            held = obstore.get(self._store, key)
            until = float(json.loads(bytes(held.bytes()))["until"])
            if until > time.time():
                return False
            obstore.put(self._store, key, document, mode={"e_tag": held.meta["e_tag"] or ""})
            return True  # its holder was killed
        except (FileNotFoundError, PreconditionError, ValueError, KeyError):
            return False

    # -- uploads

    def upload(self, directory: Path) -> Partial:
        self.write(directory / "startedat", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode())
        return _Pieces(self, self._store, directory)

    def find_upload(self, directory: Path) -> Partial | None:
        partial = _Pieces(self, self._store, directory)
        return partial if partial.reload() else None

    def upload_age(self, directory: Path) -> float:
        listed = [each for batch in obstore.list(self._store, _key(directory)) for each in batch]
        return time.time() - max((each["last_modified"].timestamp() for each in listed), default=0)

    # -- sending

    def local(self, blob: Path) -> Path | None:
        return None

    def address(self, blob: Path) -> str:
        return obstore.sign(self._store, "GET", _key(blob), _ADDRESS_LIFE) if self._redirect else ""

    async def chunks(self, blob: Path, start: int, count: int) -> AsyncIterator[bytes]:
        if not count:
            return
        answer = await obstore.get_async(self._store, _key(blob), options={"range": (start, start + count)})
        async for chunk in answer.stream(min_chunk_size=_CHUNK):
            yield bytes(chunk)


class _Pieces:
    """A `Partial`: objects named by the offset of their first byte, and the bytes since the last of them."""

    def __init__(self, storage: ObjectStorage, store: S3Store, directory: Path) -> None:
        self._storage = storage
        self._store = store
        self._directory = directory / "pieces"
        self._kept = 0
        self._pending = bytearray()

    @property
    def size(self) -> int:
        return self._kept + len(self._pending)

    def append(self, data: bytes | bytearray) -> None:
        self._pending += data
        if len(self._pending) >= PIECE:
            self.keep()

    def keep(self) -> None:
        if not self._pending:
            return
        key = _key(self._directory / f"{self._kept:020}")
        try:
            obstore.put(self._store, key, bytes(self._pending), mode="create")
        except AlreadyExistsError:
            self._pending.clear()
            raise Refused(
                "BLOB_UPLOAD_INVALID", "another program writes to this upload", status=409
            ) from None
        self._kept += len(self._pending)
        self._pending.clear()

    def reload(self) -> bool:
        self._pending.clear()
        self._kept = 0
        for offset, size in self._listed():
            if offset != self._kept:
                break  # it was cancelled meanwhile, or another program is just writing
            self._kept += size
        return self._storage.status(self._directory.with_name("startedat")) is not None

    def _listed(self) -> list[tuple[int, int]]:
        listed = [each for batch in obstore.list(self._store, _key(self._directory)) for each in batch]
        return sorted((int(each["path"].rpartition("/")[2]), each["size"]) for each in listed)

    def read(self) -> Iterator[bytes]:
        at = 0
        while at < self._kept:
            data = bytes(obstore.get(self._store, _key(self._directory / f"{at:020}")).bytes())
            yield data
            at += len(data)
        if self._pending:
            yield bytes(self._pending)

    def publish(self, blob: Path) -> None:
        self._storage.announce(blob)
        if self._storage.status(blob) is not None:
            return
        if not self._kept:
            obstore.put(self._store, _key(blob), bytes(self._pending))
            return
        # It appears when the last part is there, or not at all.
        with obstore.open_writer(self._store, _key(blob), buffer_size=_PART) as writer:
            for data in self.read():
                writer.write(data)

    def close(self) -> None:
        self._pending.clear()


def _key(path: Path) -> str:
    return str(path).lstrip("/")
