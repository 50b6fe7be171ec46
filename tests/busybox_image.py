"""A busybox image as an archive that `docker load` takes, made from the host's static busybox: no hub is needed."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from image_archives import Member

BUSYBOX = Path("/bin/busybox")
_USERS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\nwheel:x:10:root\nnogroup:x:65534:\n",
}
NAME = "busybox:latest"


def busybox_archive(
    name: str = NAME,
    extra_files: dict[str, bytes] | None = None,
    *,
    members: Iterable[Member] = (),
    settings: Mapping[str, Any] | None = None,
) -> bytes:
    """A docker-archive with one layer: busybox, its applets, users, /tmp, `extra_files` (path → content) and `members`,
    which take the place of what else has their name.

    `settings` are added to the image's configuration (`User`, `Volumes`, `WorkingDir`…).
    """
    layer = _layer(extra_files or {}, members)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {
                "Cmd": ["sh"],
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                **(settings or {}),
            },
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "busybox-static"}],
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data in ((config_name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            _add(tar, path, data)
    return buffer.getvalue()


def _layer(extra_files: dict[str, bytes], members: Iterable[Member]) -> bytes:
    members = list(members)
    replaced = {info.name for info, _ in members} | {path.lstrip("/") for path in extra_files}
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755)):
            _add_directory(tar, path, mode)
        _add(tar, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in sorted(set(applets) - {"busybox"} - {path.removeprefix("bin/") for path in replaced}):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for path, text in _USERS.items():
            if path not in replaced:
                _add(tar, path, text)
        for path, data in extra_files.items():
            _add(tar, path.lstrip("/"), data, 0o755)
        for info, data in members:
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _add_directory(tar: tarfile.TarFile, path: str, mode: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _add(tar: tarfile.TarFile, path: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))
