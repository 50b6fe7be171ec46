"""The v2 device list: a BPF program that the kernel asks at every open and mknod of a device.

The program gets `struct bpf_cgroup_dev_ctx` (access and type in one word, major, minor) and returns 1 to allow.
It is generated here (a handful of instructions per exception) and loaded with bpf(2). Sources:
include/uapi/linux/bpf.h, Documentation/admin-guide/cgroup-v2.rst ("Device controller").
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING

from sampan.cgroups.devices import ANY
from sampan.cgroups.interface import CgroupError
from sampan.linux.libc import syscall, syscall_number

if TYPE_CHECKING:
    from sampan.cgroups.devices import DeviceKey, DeviceList

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI, _REPLACE = 2, 4

_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}

_LOAD_WORD = 0x61  # ldx w dst, [src + off]
_MOVE_REGISTER, _MOVE_CONSTANT = 0xBF, 0xB4
_AND_CONSTANT, _SHIFT_RIGHT = 0x54, 0x74
_JUMP_EQUAL, _JUMP_UNEQUAL, _JUMP_UNEQUAL_REGISTER = 0x15, 0x55, 0x5D
_EXIT = 0x95

_RESULT, _CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5


def device_program(devices: DeviceList) -> bytes:
    """The instructions (8 bytes each) that carry out a folded device list.

    Allowing exceptions must cover everything that is asked for; a denying one denies when it covers a part of it.
    That is what the v1 controller does.
    """
    code = [
        _instruction(_LOAD_WORD, _TYPE, _CONTEXT, 0),
        _instruction(_MOVE_REGISTER, _WANTED, _TYPE),
        _instruction(_AND_CONSTANT, _TYPE, immediate=0xFFFF),
        _instruction(_SHIFT_RIGHT, _WANTED, immediate=16),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
    ]
    for key, access in devices.exceptions.items():
        code += _exception(key, access, allow=not devices.allow_all)
    return b"".join(code + _return(devices.allow_all))


def attach_device_filter(directory: str, devices: DeviceList) -> None:
    """Make `devices` the device list of the cgroup at `directory`, in place of the one attached before.

    Raises CgroupError; a filter that could not be attached means that nothing is confined, so callers must not go on.
    """
    try:
        program = _load(device_program(devices))
    except OSError as error:
        raise CgroupError(
            f"cannot load the device filter of {directory}: {error.strerror}", error.errno
        ) from error
    try:
        cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _replace(cgroup, program)
        finally:
            os.close(cgroup)
    except OSError as error:
        raise CgroupError(
            f"cannot attach a device filter to {directory}: {error.strerror}", error.errno
        ) from error
    finally:
        os.close(program)


def _exception(key: DeviceKey, access: str, *, allow: bool) -> list[bytes]:
    """Instructions that return `allow` when the request matches and fall through otherwise."""
    verdict = _return(allow)
    tests: list[tuple[int, int, int]] = [(_JUMP_UNEQUAL, _TYPE, _KINDS[key.type])]
    mask = sum(_ACCESS[letter] for letter in access)
    code: list[bytes] = []
    if key.major != ANY:
        tests.append((_JUMP_UNEQUAL, _MAJOR, key.major))
    if key.minor != ANY:
        tests.append((_JUMP_UNEQUAL, _MINOR, key.minor))
    tail: list[bytes] = []
    if mask != 7:
        tail = [
            _instruction(_MOVE_REGISTER, _CONTEXT, _WANTED),
            _instruction(_AND_CONSTANT, _CONTEXT, immediate=mask),
            _instruction(_JUMP_UNEQUAL_REGISTER, _CONTEXT, _WANTED, len(verdict))
            if allow
            else _instruction(_JUMP_EQUAL, _CONTEXT, offset=len(verdict), immediate=0),
        ]
    for position, (operation, register, value) in enumerate(tests):
        skip = len(tests) - position - 1 + len(tail) + len(verdict)
        code.append(_instruction(operation, register, offset=skip, immediate=value))
    return code + tail + verdict


def _return(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE_CONSTANT, _RESULT, immediate=int(allow)), _instruction(_EXIT)]


def _instruction(
    operation: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0
) -> bytes:
    return struct.pack("=BBhI", operation, source << 4 | destination, offset, immediate & 0xFFFFFFFF)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return syscall(syscall_number("bpf"), command, ctypes.byref(buffer), len(attributes))


def _load(program: bytes) -> int:
    """A descriptor of the loaded program. Before Linux 5.11 its memory counts against RLIMIT_MEMLOCK."""
    instructions = ctypes.create_string_buffer(program, len(program))
    license_name = ctypes.create_string_buffer(b"Apache")
    attributes = struct.pack(
        "=IIQQIIQII16s",
        _TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_name),
        0,
        0,
        0,
        0,
        0,
        b"sampan_device",
    )
    try:
        return _bpf(_PROG_LOAD, attributes)
    except PermissionError:
        import resource

        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return _bpf(_PROG_LOAD, attributes)


def _replace(cgroup: int, program: int) -> None:
    """Attach; in one step with the removal of the former program when there is one, so that no moment is unguarded."""
    former = [_bpf(_PROG_GET_FD_BY_ID, struct.pack("=III", number, 0, 0)) for number in _attached(cgroup)]
    try:
        if len(former) == 1:
            flags = _ALLOW_MULTI | _REPLACE
            _bpf(
                _PROG_ATTACH,
                struct.pack("=IIIII", cgroup, program, _ATTACH_CGROUP_DEVICE, flags, former[0]),
            )
            return
        _bpf(_PROG_ATTACH, struct.pack("=IIIII", cgroup, program, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI, 0))
        for descriptor in former:
            _bpf(_PROG_DETACH, struct.pack("=IIIII", cgroup, descriptor, _ATTACH_CGROUP_DEVICE, 0, 0))
    finally:
        for descriptor in former:
            os.close(descriptor)


def _attached(cgroup: int) -> list[int]:
    """Ids of the device programs attached to exactly this cgroup."""
    capacity = 64
    ids = (ctypes.c_uint32 * capacity)()
    attributes = struct.pack("=IIIIQI", cgroup, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), capacity)
    buffer = ctypes.create_string_buffer(attributes, len(attributes) + 4)
    syscall(syscall_number("bpf"), _PROG_QUERY, ctypes.byref(buffer), len(attributes))
    count = int(struct.unpack_from("=I", buffer.raw, 24)[0])
    return list(ids[:count])
