"""The images that are measured with, made without either engine and kept between runs.

Archives are docker-archives, which both engines load.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.parity.peers import cache

BUSYBOX = "bench-busybox"
DEBIAN = "bench-debian"
_APPLETS = ("sh", "true", "sleep", "cat", "yes", "head", "touch", "echo", "nc")


class Material:
    """Archives below a scratch directory; `debian` is made by mmdebstrap once and cached."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._variants = 0

    def busybox(self) -> Path:
        """An image that is one static program."""
        program = shutil.which("busybox")
        if program is None:
            raise SystemExit("the benchmarks need busybox: apt-get install busybox-static")
        layer = self._scratch / "busybox-layer.tar"
        with tarfile.open(layer, "w") as tar:
            for directory in ("bin", "etc", "tmp"):
                entry = tarfile.TarInfo(directory)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            tar.add(program, "bin/busybox")
            for applet in _APPLETS:
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        return self._archive(layer, f"{BUSYBOX}:latest")

    def debian(self) -> Path:
        """A fresh archive of Debian with iperf3: its layer differs from all before, so no engine knows it."""
        layer = self._scratch / "debian-layer.tar"
        shutil.copyfile(_debian_layer(), layer)
        self._variants += 1
        note = f"variant {self._variants}\n".encode()
        entry = tarfile.TarInfo("etc/bench-variant")
        entry.size = len(note)
        with tarfile.open(layer, "a") as tar:
            tar.addfile(entry, io.BytesIO(note))
        return self._archive(layer, f"{DEBIAN}:{self._variants}")

    def _archive(self, layer: Path, reference: str) -> Path:
        """A docker-archive around one layer, which is consumed."""
        with layer.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {
                    "Cmd": ["sh"],
                    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                },
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
                "history": [{"created": "2024-01-01T00:00:00Z"}],
            }
        ).encode()
        name = hashlib.sha256(config).hexdigest() + ".json"
        manifest = json.dumps(
            [{"Config": name, "RepoTags": [reference], "Layers": [f"{digest}/layer.tar"]}]
        ).encode()
        target = self._scratch / (reference.replace(":", "-") + ".tar")
        with tarfile.open(target, "w") as tar:
            for path, data in ((name, config), ("manifest.json", manifest)):
                entry = tarfile.TarInfo(path)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
            tar.add(layer, f"{digest}/layer.tar")
        layer.unlink()
        return target


def _debian_layer() -> Path:
    layer = cache() / "bench-debian-layer.tar"
    if layer.exists():
        return layer
    if shutil.which("mmdebstrap") is None:
        raise SystemExit("the benchmarks need mmdebstrap: apt-get install mmdebstrap")
    layer.parent.mkdir(parents=True, exist_ok=True)
    partial = layer.with_name("bench-debian-partial.tar")
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=iperf3", "bookworm", str(partial)]
    print("+", " ".join(command), flush=True)
    subprocess.run(command, check=True)
    partial.rename(layer)
    return layer
