"""Compiled filters by content: compiling takes milliseconds, a container should start in fewer.

One file per filter beneath a directory of the engine's own, named by the digest of everything the program depends on.
Files are written beside and renamed, so a reader never sees half of one; a file of the wrong size or magic is
compiled anew. The directory must be writable by the engine only: whoever can write here decides what containers may do.
"""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING

from sampan.seccomp.architectures import host_architecture
from sampan.seccomp.compiler import compile_filter
from sampan.seccomp.interface import Program
from sampan.version import __version__

if TYPE_CHECKING:
    from sampan.oci.runtime import Seccomp

_FORMAT = 1
_HEADER = struct.Struct("<8sIIII")
_MAGIC = b"SAMPNBPF"
_in_memory: dict[str, Program] = {}
_IN_MEMORY = 32


def cached_program(filter_: Seccomp, directory: str) -> Program:
    """As `compile_filter` for this machine, from memory or `directory` if it has been compiled before.

    A cache that cannot be read or written costs time only; the errors are those of `compile_filter`.
    """
    key = _key(filter_)
    program = _in_memory.get(key)
    if program is None:
        path = os.path.join(directory, key)
        program = read_program(path)
        if program is None:
            program = compile_filter(filter_)
            _write(path, program)
        if len(_in_memory) >= _IN_MEMORY:
            _in_memory.clear()
        _in_memory[key] = program
    return program


def compiled_file(filter_: Seccomp, directory: str) -> str | None:
    """Path of the compiled filter, for `read_program` in another process; None when it cannot be kept there.

    A shim that gets this instead of the profile reads 5 KB and hashes nothing, which saves each container 2 ms. The errors are
    those of `compile_filter`.
    """
    path = os.path.join(directory, _key(filter_))
    if read_program(path) is None:
        _write(path, compile_filter(filter_))
    return path if os.path.exists(path) else None


def _key(filter_: Seccomp) -> str:
    # Not at the top: hashlib maps OpenSSL, 600 KB and 16 mappings that each fork of the zygote would pay for.
    import hashlib

    text = json.dumps(
        [_FORMAT, __version__, host_architecture(), filter_], sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(text.encode()).hexdigest()


def read_program(path: str) -> Program | None:
    """A program that `cached_program` or `compiled_file` has kept; None when there is no whole one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # In one go, without the layers of a file object: each container does this.
        data = os.read(descriptor, os.fstat(descriptor).st_size + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if len(data) < _HEADER.size:
        return None
    magic, flags, code, listener, metadata = _HEADER.unpack_from(data)
    if magic != _MAGIC or len(data) != _HEADER.size + code + listener + metadata:
        return None
    body = data[_HEADER.size :]
    return Program(
        body[:code], flags, body[code : code + listener].decode(), body[code + listener :].decode()
    )


def program_file(program: Program) -> int:
    """A descriptor of memory with the program, for `read_program` by its path in /proc; the caller's to close."""
    memory = os.memfd_create("sampan-seccomp", os.MFD_CLOEXEC)
    try:
        os.write(memory, _packed(program))
    except BaseException:
        os.close(memory)
        raise
    return memory


def _packed(program: Program) -> bytes:
    listener, metadata = program.listener_path.encode(), program.listener_metadata.encode()
    header = _HEADER.pack(_MAGIC, program.flags, len(program.instructions), len(listener), len(metadata))
    return header + program.instructions + listener + metadata


def _write(path: str, program: Program) -> None:
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(_packed(program))
        os.rename(temporary, path)
    except OSError:
        _unlink(temporary)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
