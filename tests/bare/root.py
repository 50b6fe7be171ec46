"""A Debian 12 with Python and nothing else, as a directory that commands are run in as if it were the machine's root.

The root is made once by mmdebstrap and kept in the cache directory; each trial writes to a layer of its own, which is
forgotten. Commands enter it by pivot_root in namespaces of their own: in a mere chroot no container could be made.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUITE = "bookworm"
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"

ENTER = r"""
set -e
new=$1; shift
mount --make-rslave /
mount --bind "$new" "$new"
mount -t proc proc "$new/proc"
mount --rbind /sys "$new/sys"
mount --rbind /dev "$new/dev"
mount -t tmpfs tmpfs "$new/run"
mount -t tmpfs tmpfs "$new/tmp"
mount -t tmpfs tmpfs "$new/var/lib/sampan"
cd "$new"
"""
PIVOT = r"""
pivot_root . mnt; umount -l /mnt; cd /clone
code=0; "$@" || code=$?
# An engine that was started on demand would be killed with the namespace, and leave its bridge on the machine.
words() { { tr '\0' ' ' < "$1/cmdline"; } 2>/dev/null || true; }
for each in /proc/[0-9]*; do
    case $(words "$each") in
        *" -m sampan"".serve "*) kill "${each#/proc/}"; while [ -n "$(words "$each")" ]; do sleep 0.05; done ;;
    esac
done
exit $code
"""
CHROOT = """exec chroot . sh -c 'cd /clone; exec "$@"' enter "$@" """


def cache() -> Path:
    """Where roots are kept between runs."""
    return Path(os.environ.get("SAMPAN_TEST_CACHE") or Path.home() / ".cache" / "sampan-tests")


def base() -> Path:
    """The root's directory: made at the first call."""
    target = cache() / f"bare-{SUITE}"
    if target.exists():
        return target
    making = target.with_suffix(".making")
    subprocess.run(["rm", "-rf", making], check=True)
    making.parent.mkdir(parents=True, exist_ok=True)
    command = ["mmdebstrap", "--variant=minbase", "--include=python3,ca-certificates", SUITE, str(making)]
    print("+", *command, flush=True)
    subprocess.run(command, check=True, capture_output=True)
    making.rename(target)
    return target


class Bare:
    """A fresh machine with a clone of this checkout in /clone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def run(
        self, *command: str, timeout: float = 600, user: int | None = None, by: str = PIVOT
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone's directory; standard error goes with the output."""
        if user is not None:
            command = ("setpriv", f"--reuid={user}", "--clear-groups", *command)
        entering = (
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            ENTER + by,
            "enter",
            str(self._root),
        )
        return subprocess.run(
            [*entering, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
            env=_environment(),
        )


@contextmanager
def fresh(checkout: Path, work: Path) -> Iterator[Bare]:
    """A machine of its own, gone afterwards. `work` is an empty directory."""
    layer, root = work / "layer", work / "root"
    layer.mkdir()
    root.mkdir()
    _run("mount", "-t", "tmpfs", "tmpfs", layer)
    try:
        (layer / "upper").mkdir()
        (layer / "work").mkdir()
        options = f"lowerdir={base()},upperdir={layer}/upper,workdir={layer}/work"
        _run("mount", "-t", "overlay", "overlay", "-o", options, root)
        try:
            (root / "var/lib/sampan").mkdir(parents=True)
            _run("git", "clone", "--quiet", "--local", "--no-hardlinks", checkout, root / "clone")
            _let_trust(root)
            yield Bare(root)
        finally:
            _run("umount", "-l", root)
    finally:
        _run("umount", "-l", layer)


def _let_trust(root: Path) -> None:
    """Name servers and certificate authorities as the machine has them: its network may have its own."""
    for path in ("/etc/resolv.conf", _AUTHORITIES):
        if os.path.exists(path):
            (root / path[1:]).write_bytes(Path(path).read_bytes())


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.lower().endswith("_proxy") or (name.startswith("PIP_") and not value.startswith("/opt"))
    }
    return {**kept, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)
