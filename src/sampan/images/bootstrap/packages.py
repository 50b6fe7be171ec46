"""Read Debian packages without dpkg: an ar archive with a tar inside (deb(5)), and the machine's apt for
getting one.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from sampan.errors import DataLoss, SystemFailure

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60


def ar_members(data: bytes) -> dict[str, bytes]:
    """The members of an ar archive by name. Raises `DataLoss` for anything that is not one (ar(5), common
    format).
    """
    if not data.startswith(_AR_MAGIC):
        raise DataLoss("not a Debian package: no ar archive")
    members: dict[str, bytes] = {}
    position = len(_AR_MAGIC)
    while position < len(data):
        header = data[position : position + _AR_HEADER]
        size_text = header[48:58].strip()
        if len(header) < _AR_HEADER or header[58:] != b"`\n" or not size_text.isdigit():
            raise DataLoss(f"damaged Debian package: bad ar header at byte {position}")
        size = int(size_text)
        position += _AR_HEADER
        if position + size > len(data):
            raise DataLoss(f"damaged Debian package: member cut short at byte {position}")
        members[header[:16].decode("ascii", "replace").rstrip(" /")] = data[position : position + size]
        position += size + size % 2
    return members


def package_data(package: bytes) -> tarfile.TarFile:
    """The files of a `.deb`, as an open tar archive."""
    for name, data in ar_members(package).items():
        if name.startswith("data.tar"):
            if name.endswith(".zst"):
                import zstandard

                data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
            try:
                return tarfile.open(fileobj=io.BytesIO(data), mode="r:*")
            except tarfile.TarError as error:
                raise DataLoss(f"damaged Debian package: {name}: {error}") from error
    raise DataLoss("damaged Debian package: it has no data.tar")


def download(package: str, directory: Path) -> Path:
    """Get a package's `.deb` with the machine's own apt sources.

    Raises `SystemFailure` with apt's own words when there is no apt or no such package.
    """
    if shutil.which("apt-get") is None:
        raise SystemFailure(
            f"bootstrap needs the package {package}, and this machine has no apt-get to download it with"
        )
    result = subprocess.run(
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = sorted(directory.glob(f"{package}_*.deb"))
    if result.returncode != 0 or not found:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise SystemFailure(f"cannot download {package}: {reason} (does `apt-get update` work?)")
    return found[0]
