"""A shared library of some hundred bytes that creates a file as soon as it is loaded, for x86-64.

Made by hand: no compiler is needed. One loadable segment holds everything; DT_INIT points at `creat(path, 0600)`.
"""

from __future__ import annotations

import struct

_HEADER, _PROGRAM_HEADER = 64, 56


def library_that_creates(path: str) -> bytes:
    """The bytes of an ELF shared object; whoever opens it with dlopen(3) creates the file `path`."""
    name = path.encode() + b"\0"
    dynamic_at = _HEADER + 2 * _PROGRAM_HEADER
    dynamic_size = 16 * 7
    hash_at = dynamic_at + dynamic_size
    symbols_at = hash_at + 16
    strings_at = symbols_at + 24
    name_at = strings_at + 1
    code_at = (name_at + len(name) + 15) & ~15
    code = b"\xb8" + struct.pack("<I", 85)  # mov eax, SYS_creat
    code += b"\x48\x8d\x3d" + struct.pack("<i", name_at - (code_at + 12))  # lea rdi, [rip + name]
    code += b"\xbe" + struct.pack("<I", 0o600) + b"\x0f\x05\xc3"  # mov esi, 0600; syscall; ret
    size = code_at + len(code)
    tags = ((12, code_at), (4, hash_at), (5, strings_at), (6, symbols_at), (10, 1), (11, 24), (0, 0))
    body = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    body += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, _HEADER, 0, 0, _HEADER, _PROGRAM_HEADER, 2, 0, 0, 0)
    body += struct.pack("<IIQQQQQQ", 1, 7, 0, 0, 0, size, size, 4096)
    body += struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, dynamic_at, dynamic_at, dynamic_size, dynamic_size, 8)
    body += b"".join(struct.pack("<QQ", *tag) for tag in tags)
    body += struct.pack("<IIII", 1, 1, 0, 0) + bytes(24) + b"\0" + name
    return body.ljust(code_at, b"\0") + code
