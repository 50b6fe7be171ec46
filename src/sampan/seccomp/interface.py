"""Seccomp in four steps, each a pure function but the last.

::

    profile = load_profile()                        # Docker's default, or load_profile(bytes of a user's file)
    filter = resolve(profile, capabilities, arch=host_architecture(), kernel=host_kernel())   # OCI linux.seccomp
    program = compile_filter(filter)                # or cached_program(filter, cache_directory): 0.1 ms when known
    install(program)                                # in the process to be confined; cannot be undone

The engine does the first two (they end in the OCI spec as `linux.seccomp`), a shim or init the last two.
Nothing heavy is imported.
"""

from __future__ import annotations

from typing import NamedTuple


class Program(NamedTuple):
    """A compiled filter, ready for seccomp(2)."""

    instructions: bytes
    """`struct sock_filter` array in native byte order, 8 bytes each."""
    flags: int
    """SECCOMP_FILTER_FLAG_* for seccomp(2)."""
    listener_path: str
    """Unix socket that gets the notification descriptor of SCMP_ACT_NOTIFY rules; "" when there are none."""
    listener_metadata: str
