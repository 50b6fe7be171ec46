"""What an image is made of, as text: its configuration, its history, and a line for every entry of the layers on its base."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import Any

from parity.corpus import CONTEXT_TIME

SHOWN_BYTES = 60
OLD = 1_750_000_000
"""A file's time is told when it is before this one: it is not that of the build then. A directory's is not: what RUN mounts on is
made and removed in those of the base."""
_MOUNTED_ON = {f"d0755 0:0 {name}" for name in ("dev", "proc", "sys")}
"""What BuildKit's RUN leaves in the layer of a base without them."""
_XATTR = "SCHILY.xattr."
_KINDS = {
    tarfile.DIRTYPE: "d",
    tarfile.SYMTYPE: "l",
    tarfile.LNKTYPE: "h",
    tarfile.CHRTYPE: "c",
    tarfile.BLKTYPE: "b",
}
_KINDS |= {tarfile.FIFOTYPE: "p", tarfile.REGTYPE: "-", tarfile.AREGTYPE: "-"}


def describe(saved: bytes, *, history: bool) -> dict[str, Any]:
    """Of an archive as `docker save` writes it."""
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:

        def member(name: str) -> bytes:
            found = archive.extractfile(name)
            assert found is not None, name
            return found.read()

        (manifest,) = json.loads(member("manifest.json"))
        config = json.loads(member(manifest["Config"]))
        layers = [_layer(member(name)) for name in manifest["Layers"] or ()]
    entries = config.pop("history", None) or []
    for name in ("rootfs", "created", "container", "container_config", "id", "parent", "docker_version"):
        config.pop(name, None)
    begun = 1 if entries and entries[0].get("created_by") == "busybox-static" else 0
    told: dict[str, Any] = {"config": config}
    if history:
        told["history"] = [_entry(each) for each in entries[begun:]]
    return told | {"layers": layers[begun:]}


def _entry(entry: dict[str, Any]) -> str:
    words = [entry.get("created_by", "")]
    words += [
        f"[{name}={value}]" for name, value in sorted(entry.items()) if name not in ("created_by", "created")
    ]
    return " ".join(words)


def _layer(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as layer:
        lines = {_line(layer, each) for each in layer} - _MOUNTED_ON
        return sorted(lines, key=lambda line: line.split(" ", 2)[2])


def _line(layer: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    words = [
        f"{_KINDS.get(entry.type, '?')}{entry.mode:04o}",
        f"{entry.uid}:{entry.gid}",
        entry.name.removeprefix("./"),
    ]
    if entry.issym() or entry.islnk():
        words.append(f"-> {entry.linkname}")
    elif entry.ischr() or entry.isblk():
        words.append(f"{entry.devmajor},{entry.devminor}")
    elif entry.isreg():
        found = layer.extractfile(entry)
        words.append(_content(found.read() if found else b""))
    if int(entry.mtime) == CONTEXT_TIME:
        words.append("@context")
    elif entry.mtime < OLD and not entry.isdir():
        words.append(f"@{entry.mtime:g}")
    attributes = {name: value for name, value in entry.pax_headers.items() if name.startswith(_XATTR)}
    words += [f"{name.removeprefix(_XATTR)}={value!r}" for name, value in sorted(attributes.items())]
    return " ".join(words)


def _content(data: bytes) -> str:
    if len(data) <= SHOWN_BYTES and data.isascii():
        return repr(data.decode())
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()[:10]}"
