"""The machine's disks, made from Debian packages and from this checkout, and cached by what they are made of.

- the root disk: a minimal Debian with Python, a cloud kernel's modules, and the host's docker CLI if there is one;
- the checkout's disk: tracked and new files, as they are now;
- the environment's disk: the virtual environment, mounted in the checkout at its place.

All are plain ext4 images, filled by `mke2fs -d` without mounting anything on the host.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vm.initramfs import DRIVERS, write_initramfs
from vm.machine import MachineFailed

HERE = Path(__file__).parent
KERNEL_PACKAGE = "linux-image-cloud-amd64"
PACKAGES = (
    "apparmor",
    "busybox-static",
    "ca-certificates",
    "crun",
    "dbus",
    "docker.io",
    "e2fsprogs",
    "git",
    "iproute2",
    "iptables",
    "kmod",
    "libnftables1",
    "nftables",
    "openssl",
    "procps",
    "python3",
    "runc",
    "strace",
    "systemd",
)
ROOT_SIZE = "12G"  # sparse

_RECIPE = "1"
"""Counted up when `_make_root` changes in a way that its inputs do not show."""

_PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "busybox": "busybox-static",
    "git": "git",
}


class RootDisk(NamedTuple):
    """What a machine boots from."""

    image: Path
    kernel: Path
    initramfs: Path


def missing_programs() -> list[str]:
    """Debian packages to install before anything here works."""
    return sorted({package for program, package in _PROGRAMS.items() if not shutil.which(program)})


def cache_directory() -> Path:
    """Where images are kept; any of them may be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = Path(base, "sampan", "vm")
    path.mkdir(parents=True, exist_ok=True)
    return path


def root_disk() -> RootDisk:
    """The disk with the system, made anew when the packages or the docker CLI change."""
    docker = shutil.which("docker")
    parts = [_RECIPE, *PACKAGES, ROOT_SIZE]
    if docker:
        parts.append(f"{docker} {os.stat(docker).st_size} {os.stat(docker).st_mtime_ns}")
    directory = cache_directory() / f"root-{_digest(parts)}"
    if not directory.exists():
        print("tests/vm: making the machine's disk from Debian packages (once)", flush=True)
        for old in cache_directory().glob("root-*"):
            shutil.rmtree(old, ignore_errors=True)
        _build(directory, lambda work: _make_root(work, docker))
    write_initramfs(directory / "initramfs", HERE, directory / "drivers")
    return RootDisk(directory / "root.ext4", directory / "vmlinuz", directory / "initramfs")


def checkout_disk(checkout: Path) -> Path:
    """The files of the checkout as they are now, committed or not."""
    listing = _run(
        ["git", "-C", str(checkout), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    )
    directory = cache_directory() / "checkout"

    def fill(work: Path) -> None:
        tree = work / "tree"
        (tree / ".venv").mkdir(parents=True)
        for name in filter(None, listing.split("\0")):
            source, target = checkout / name, tree / name
            if source.is_file() or source.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        # Compiled here and not in the machine, which would need half a minute for it at each engine's start.
        _run([sys.executable, "-m", "compileall", "-q", "-j", "0", str(tree / "src"), str(tree / "tests")])
        _make_image(work / "checkout.ext4", tree, "1G")
        shutil.rmtree(tree)

    shutil.rmtree(directory, ignore_errors=True)
    _build(directory, fill)
    return directory / "checkout.ext4"


def environment_disk(environment: Path) -> Path:
    """The virtual environment, copied when what is installed in it changes."""
    installed = sorted(
        f"{path.name} {path.stat().st_mtime_ns}" for path in environment.glob("lib/python3*/site-packages/*")
    )
    directory = cache_directory() / f"environment-{_digest([str(environment), *installed])}"
    if not directory.exists():
        for old in cache_directory().glob("environment-*"):
            shutil.rmtree(old, ignore_errors=True)
        _build(directory, lambda work: _make_image(work / "environment.ext4", environment, "2G"))
    return directory / "environment.ext4"


def _build(directory: Path, fill: Callable[[Path], None]) -> None:
    """Fill a directory beside its place and rename it: a run that is cut short leaves nothing that looks whole."""
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=directory.parent))
    try:
        fill(work)
        work.rename(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make_root(work: Path, docker: str | None) -> None:
    tree = work / "tree"
    _bootstrap(tree)
    release = _install_kernel(work, tree)
    if docker:
        target = tree / docker.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(docker, target)
    _run(["chroot", str(tree), "depmod", release])
    for driver in DRIVERS:
        (work / "drivers" / driver).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / "lib/modules" / release / "kernel/drivers" / driver, work / "drivers" / driver)
    _make_image(work / "root.ext4", tree, ROOT_SIZE)
    shutil.rmtree(tree)


def _bootstrap(tree: Path) -> None:
    """A minimal Debian, of the host's own release and from its own apt sources."""
    sources = list(Path("/etc/apt/sources.list.d").glob("debian*.sources"))
    sources += [path for path in (Path("/etc/apt/sources.list"),) if path.is_file() and path.stat().st_size]
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    suite = release.get("VERSION_CODENAME", "bookworm").strip('"')
    options = ["--variant=minbase", f"--include={','.join(PACKAGES)}", "--format=directory", "--quiet"]
    _run(["mmdebstrap", *options, suite, str(tree), *map(str, sources)])


def _install_kernel(work: Path, tree: Path) -> str:
    """The cloud kernel's files, unpacked only (its scripts would want a boot loader); its release."""
    depends = _run(["apt-cache", "depends", KERNEL_PACKAGE])
    names = [line.split()[-1] for line in depends.splitlines() if "Depends: linux-image-" in line]
    if not names:
        raise MachineFailed(f"apt knows no {KERNEL_PACKAGE}: apt-get update")
    download = work / "kernel"
    download.mkdir(mode=0o777)
    _run(["apt-get", "-o", "APT::Sandbox::User=root", "download", "-q", names[0]], cwd=download)
    (package,) = download.glob("*.deb")
    unpacked = download / "unpacked"
    _run(["dpkg", "-x", str(package), str(unpacked)])
    (image,) = (unpacked / "boot").glob("vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    shutil.copy(image, work / "vmlinuz")
    shutil.copytree(unpacked / "lib" / "modules" / release, tree / "lib" / "modules" / release, symlinks=True)
    shutil.rmtree(download)
    return release


def _make_image(image: Path, tree: Path, size: str) -> None:
    _run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(tree), str(image), size])


def _run(command: list[str], cwd: Path | None = None) -> str:
    """stdout of a host command. Raises MachineFailed with the end of its complaints."""
    finished = subprocess.run(command, cwd=cwd, text=True, capture_output=True, stdin=subprocess.DEVNULL)
    if finished.returncode:
        complaint = finished.stderr.strip().splitlines()[-3:] or ["no message"]
        raise MachineFailed(f"{' '.join(command[:3])}… failed: {' / '.join(complaint)}")
    return finished.stdout


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
