"""libnftables through ctypes: batches of commands, each batch one transaction of the kernel.

The library is 0.06-0.09 ms a rule where the `nft` program costs a process. It is one conversation with the kernel and
not thread-safe: one `Nftables` belongs to one thread at a time.

Source: libnftables(3), libnftables-json(5).
"""

from __future__ import annotations

import ctypes
import json
from functools import lru_cache
from typing import Any

from sampan.errors import SystemFailure

_OUTPUT_JSON = 1 << 4
_OUTPUT_HANDLE = 1 << 3
_OUTPUT_NUMERIC_ALL = 0b1111 << 5


class FirewallError(SystemFailure):
    """The kernel or the library refused a batch; nothing of it has happened."""


class Nftables:
    """A context of libnftables, about the network namespace in which it was made."""

    def __init__(self) -> None:
        self._library = _library()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise FirewallError(
                "libnftables cannot talk to the kernel: is CONFIG_NF_TABLES there, and are we root?"
            )
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        """Idempotent."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def run(self, commands: str) -> None:
        """Carry out commands in nft's language, all or none. Raises `FirewallError` with the library's words."""
        self._library.nft_ctx_output_set_flags(self._context, 0)
        self._run(commands)

    def query(self, command: str) -> list[dict[str, Any]]:
        """The objects that a `list …` command prints, as libnftables-json(5) describes them, with handles."""
        self._library.nft_ctx_output_set_flags(
            self._context, _OUTPUT_JSON | _OUTPUT_HANDLE | _OUTPUT_NUMERIC_ALL
        )
        self._run(command)
        printed = self._library.nft_ctx_get_output_buffer(self._context)
        return list(json.loads(printed)["nftables"]) if printed else []

    def _run(self, commands: str) -> None:
        if self._library.nft_run_cmd_from_buffer(self._context, commands.encode()) != 0:
            words = (self._library.nft_ctx_get_error_buffer(self._context) or b"").decode(errors="replace")
            raise FirewallError(f"nftables: {_first_line(words)}")


def available() -> bool:
    """True when libnftables can be loaded."""
    try:
        _library()
    except FirewallError:
        return False
    return True


def quote(name: str) -> str:
    """An interface's name as a string of nft's language. Raises `ValueError` for a name that could end the string."""
    if '"' in name or "\n" in name or "\\" in name or "*" in name:
        raise ValueError(f"interface name {name!r} cannot stand in a firewall rule")
    return f'"{name}"'


def _first_line(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else "refused without a reason"


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise FirewallError(
            "libnftables is missing: install it (Debian: apt-get install libnftables1) or start with --iptables=false"
        ) from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_free.restype = None
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_ctx_output_set_flags.restype = None
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library
