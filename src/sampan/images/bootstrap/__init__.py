"""Base images from a distribution's own packages, for machines that no registry reaches.

Runs on the client's side: it makes an archive, which is then loaded through the Engine API like any other::

    with tempfile.TemporaryDirectory() as directory:
        base = bootstrap.build("debian:bookworm", Path(directory))
        # POST /images/load with the file base.path

The same packages give the same bytes, hence the same image id, on every machine: times come from the packages
or the archive's release, never from the clock, owners and order are fixed, and layers are not compressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sampan.errors import InvalidParameter
from sampan.images.bootstrap.archive import BaseImage

__all__ = ["BaseImage", "build"]


def build(base: str, directory: Path, packages: Sequence[str] = (), name: str = "") -> BaseImage:
    """Make the archive of a base image in `directory`: `busybox`, `debian` or `debian:SUITE`.

    Debian's can hold more `packages`, and then needs a `name` of its own.

    Blocks: a moment for busybox, a minute or so for debian. Raises `InvalidParameter` for another name,
    `SystemFailure` when a tool or a package is missing (the message says what to install).
    """
    kind, _, tag = base.partition(":")
    if kind == "busybox":
        if packages or name:
            raise InvalidParameter("bootstrap makes busybox:latest only, without further packages")
        if tag not in ("", "latest"):
            raise InvalidParameter(f"bootstrap makes busybox:latest only, not {base}")
        from sampan.images.bootstrap import busybox

        return busybox.build(directory)
    if kind == "debian":
        from sampan.images.bootstrap import debian

        if packages and not name:
            raise InvalidParameter("a base image with further packages needs a name of its own: --tag NAME")
        return debian.build(directory, tag, packages, name)
    raise InvalidParameter(
        f"no recipe for the base image '{base}': bootstrap makes busybox and debian[:SUITE]"
    )
