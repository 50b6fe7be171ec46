"""`--init` with another OCI runtime: a program of the host's is mounted into the container and becomes process 1.

As dockerd does it. Sampan's own runtime needs no program: its stub stays and does init's work.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from sampan.errors import SystemFailure

if TYPE_CHECKING:
    from sampan.oci.runtime import Spec

INSIDE = "/sbin/docker-init"
_NAMES = ("docker-init", "tini-static")
"""Statically linked programs that take `-- program arguments`; Debian's package tini has the second."""


def run_under_init(spec: Spec, configured: str) -> Spec:
    """The spec with its program beneath init. `configured` is `--init-path`, "" for the usual places.

    Raises `SystemFailure` when the host has no such program.
    """
    names = (configured,) if configured else _NAMES
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise SystemFailure(
            f'exec: "{names[0]}": executable file not found in $PATH: --init with another runtime than Sampan\'s own needs'
            " a static init program (Debian: apt-get install tini), or --init-path"
        )
    process = spec["process"]
    return {
        **spec,
        "process": {**process, "args": [INSIDE, "--", *process.get("args", [])]},
        "mounts": [
            *spec.get("mounts", []),
            {"destination": INSIDE, "type": "bind", "source": path, "options": ["bind", "ro"]},
        ],
    }
