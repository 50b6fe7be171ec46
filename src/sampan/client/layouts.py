"""OCI layouts on this machine, as a build reads and writes them: contexts (`oci-layout://PATH`), and `type=local` cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sampan.errors import InvalidParameter, NotFound

_NAME = "org.opencontainers.image.ref.name"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_LARGEST_INDEX = 8 << 20
_BLOCK = 1 << 19
_ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Layout:
    """A directory with blobs and an index of named manifests."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)

    def prepare(self) -> None:
        """Make the directory, when it is to be written to."""
        os.makedirs(self.path, exist_ok=True)

    def digest(self, tag: str) -> str:
        """Of the manifest with that name; without a name, of the only one. Raises NotFound."""
        entries = [each for each in self._index()["manifests"] if isinstance(each, dict)]
        for each in entries:
            name = (each.get("annotations") or {}).get(_NAME, "")
            if name == tag or name.rpartition(":")[2] == tag:
                return str(each.get("digest"))
        if tag == "latest" and len(entries) == 1:
            return str(entries[0].get("digest"))
        raise NotFound(
            f"failed to resolve digest for {self.path}:{tag}: could not find tag {tag!r} in oci index"
        )

    def name(self, described: dict[str, Any], tag: str) -> None:
        """Give a manifest that is there a name."""
        with self._locked():
            index = self._index()
            others = [
                each for each in index["manifests"] if (each.get("annotations") or {}).get(_NAME) != tag
            ]
            annotations = {**(described.get("annotations") or {}), _NAME: tag}
            index["manifests"] = [*others, {**described, "annotations": annotations}]
            self._write("index.json", json.dumps(index, indent=2).encode())
            self._write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')

    def size(self, digest: str) -> int | None:
        """Bytes of a blob; None when it is not there."""
        try:
            return os.path.getsize(self._blob(digest))
        except FileNotFoundError:
            return None

    def read(self, digest: str, offset: int, length: int) -> Iterator[bytes]:
        """A part of a blob. Raises NotFound."""
        if self.size(digest) is None:
            raise NotFound(f"content {digest}: not found")
        with open(self._blob(digest), "rb") as file:
            file.seek(offset)
            while length > 0 and (block := file.read(min(_BLOCK, length))):
                length -= len(block)
                yield block

    def write(self, digest: str, blocks: Iterator[bytes]) -> None:
        """Take a blob. Raises InvalidParameter when it is another; then nothing of it stays."""
        target = self._blob(digest)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        hasher = hashlib.new(digest.partition(":")[0])
        with _replacing(target) as file:
            for block in blocks:
                hasher.update(block)
                file.write(block)
            if hasher.hexdigest() != digest.partition(":")[2]:
                raise InvalidParameter(
                    f"unexpected commit digest sha256:{hasher.hexdigest()}, expected {digest}"
                )

    def _index(self) -> dict[str, Any]:
        path = os.path.join(self.path, "index.json")
        try:
            with open(path, "rb") as file:
                found = json.loads(file.read(_LARGEST_INDEX))
        except FileNotFoundError:
            return {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": []}
        except ValueError as error:
            raise InvalidParameter(f"{path}: {error}") from None
        if not isinstance(found, dict) or not isinstance(found.setdefault("manifests", []), list):
            raise InvalidParameter(f"{path}: no index of an OCI layout")
        return found

    def _blob(self, digest: str) -> str:
        algorithm, _, code = digest.partition(":")
        if _ALGORITHMS.get(algorithm) != len(code) or set(code) - set("0123456789abcdef"):
            raise InvalidParameter(f"invalid digest {digest!r}")
        return os.path.join(self.path, "blobs", algorithm, code)

    def _write(self, name: str, data: bytes) -> None:
        with _replacing(os.path.join(self.path, name)) as file:
            file.write(data)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Other clients (BuildKit's too) that name something here wait."""
        import fcntl

        with open(os.path.join(self.path, "index.json.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def _replacing(path: str) -> Iterator[Any]:
    """A new file that takes the old one's place when it is whole."""
    import tempfile

    descriptor, temporary = tempfile.mkstemp(prefix=".writing-", dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            yield file
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
