"""The busybox image: one static binary from Debian's `busybox-static`, hard links for its applets, and the
least of /etc.
"""

from __future__ import annotations

import io
import struct
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from sampan.errors import DataLoss, SystemFailure
from sampan.images.bootstrap import packages
from sampan.images.bootstrap.archive import BaseImage, Recipe, release_epoch, write_archive

_PT_INTERP = 3

_DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "sys": 0o755,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "var": 0o755,
    "var/spool": 0o755,
    "var/spool/mail": 0o755,
    "var/www": 0o755,
}

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""

_GROUP = """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
tty:x:5:
disk:x:6:
mail:x:8:
wheel:x:10:root
www-data:x:33:
users:x:100:
nogroup:x:65534:
"""


class Binary(NamedTuple):
    """The static busybox and when its package was made."""

    data: bytes
    made: int
    """Seconds since the epoch: the modification time that the package gives the file."""
    applets: tuple[str, ...]


def build(directory: Path) -> BaseImage:
    """Write `directory/busybox.tar`."""
    binary = find_binary(directory)
    layer = directory / "busybox-layer.tar"
    epoch = release_epoch(binary.made)
    write_layer(layer, binary, epoch)
    recipe = Recipe(
        references=("busybox:latest",),
        created=epoch,
        created_by="sampan image bootstrap busybox # from busybox-static",
        config={"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]},
    )
    image = write_archive(directory / "busybox.tar", layer, recipe)
    layer.unlink()
    return image


def find_binary(directory: Path) -> Binary:
    """The machine's own /bin/busybox when it is static, else the one in the package that apt downloads."""
    installed = Path("/bin/busybox")
    if installed.is_file():
        data = installed.read_bytes()
        if is_static(data):
            return Binary(data, int(installed.stat().st_mtime), _applets(installed))
    package = packages.download("busybox-static", directory)
    with packages.package_data(package.read_bytes()) as files:
        for member in files:
            if member.isfile() and member.name.removeprefix("./") in ("bin/busybox", "usr/bin/busybox"):
                file = files.extractfile(member)
                data = file.read() if file else b""
                with tempfile.TemporaryDirectory(dir=directory) as scratch:
                    path = Path(scratch) / "busybox"
                    path.write_bytes(data)
                    path.chmod(0o755)
                    return Binary(data, int(member.mtime), _applets(path))
    raise DataLoss(f"{package.name} contains no busybox")


def is_static(binary: bytes) -> bool:
    """True for a 64-bit or 32-bit little-endian ELF file that asks for no interpreter (elf(5))."""
    if binary[:4] != b"\x7fELF" or len(binary) < 64 or binary[5] != 1:
        return False
    if binary[4] == 2:
        table, size, count = struct.unpack_from("<Q", binary, 32)[0], *struct.unpack_from("<HH", binary, 54)
    else:
        table, size, count = struct.unpack_from("<I", binary, 28)[0], *struct.unpack_from("<HH", binary, 42)
    if table + size * count > len(binary):
        return False
    return all(
        struct.unpack_from("<I", binary, table + size * entry)[0] != _PT_INTERP for entry in range(count)
    )


def write_layer(path: Path, binary: Binary, epoch: int) -> None:
    """Write the layer's tar: fixed owners, order and times."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as layer:
        for name, mode in _DIRECTORIES.items():
            layer.addfile(_info(name, tarfile.DIRTYPE, mode, epoch))
        _add_file(layer, "bin/busybox", binary.data, 0o755, epoch)
        for applet in binary.applets:
            _add_link(layer, f"bin/{applet}", epoch)
        _add_link(layer, "usr/bin/env", epoch)  # `#!/usr/bin/env` is where scripts expect it
        for name, text, mode in (("etc/group", _GROUP, 0o644), ("etc/passwd", _PASSWD, 0o644)):
            _add_file(layer, name, text.encode(), mode, epoch)
        _add_file(layer, "etc/shadow", b"root:*::0:::::\n", 0o640, epoch)


def _applets(binary: Path) -> tuple[str, ...]:
    try:
        output = subprocess.run(
            [binary, "--list"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise SystemFailure(f"cannot ask busybox for its applets: {error}") from error
    return tuple(sorted({name for name in output.split() if name and "/" not in name} - {"busybox"}))


def _info(name: str, kind: bytes, mode: int, epoch: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, epoch
    return info


def _add_file(layer: tarfile.TarFile, name: str, data: bytes, mode: int, epoch: int) -> None:
    info = _info(name, tarfile.REGTYPE, mode, epoch)
    info.size = len(data)
    layer.addfile(info, io.BytesIO(data))


def _add_link(layer: tarfile.TarFile, name: str, epoch: int) -> None:
    info = _info(name, tarfile.LNKTYPE, 0o755, epoch)
    info.linkname = "bin/busybox"
    layer.addfile(info)
