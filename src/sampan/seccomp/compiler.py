"""From an OCI `linux.seccomp` object to a BPF program.

The meaning is libseccomp's with runc's additions:

- a system call of an architecture that is not listed kills the thread; the machine's own is always listed;
- rules whose action is the default one say nothing; names that an architecture does not have are passed over;
- conditions of one rule must all hold, but several on the same argument make alternatives of the rule;
- an unconditional rule wins over conditional ones for the same call, otherwise the first that matches;
- a number above the newest that the rules name gives ENOSYS, not the default error: the C library of a container
  then falls back to an older call, which with EPERM it would not (runc 1.0.0-rc93; clone3, faccessat2).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import InvalidParameter, NotSupported
from sampan.seccomp import bpf
from sampan.seccomp.architectures import (
    BY_OCI_NAME,
    IPC,
    SOCKETCALL,
    X32_BIT,
    Architecture,
    architecture_of,
    host_architecture,
    syscall_numbers,
)
from sampan.seccomp.bpf import Instruction, Piece, give
from sampan.seccomp.conditions import check
from sampan.seccomp.interface import Program

if TYPE_CHECKING:
    from sampan.oci.runtime import Seccomp, SeccompArg, SeccompSyscall
    from sampan.seccomp.conditions import Code

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
NEW_LISTENER = 8

_KILL = ACTIONS["SCMP_ACT_KILL"]
_NO_SUCH_CALL = ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS
_LARGEST_ERRNO = 0xFFFF
_PRIVATE_NUMBERS = 0xF0000
"""arm's own calls (cacheflush, set_tls) lie far above the table and do not make everything below them known."""


class _Alternative(NamedTuple):
    """Conditions that must all hold, and what then happens."""

    conditions: tuple[SeccompArg, ...]
    action: int


def compile_filter(filter_: Seccomp, machine: str | None = None) -> Program:
    """The program for `machine` (`uname -m`'s word; by default this one).

    Raises InvalidParameter for unknown actions, flags, operators and architectures, and for what cannot work
    (SCMP_ACT_NOTIFY without a listener, or as the default), NotSupported for a machine without a table.
    """
    native = architecture_of(machine or host_architecture())
    default = _action(filter_["defaultAction"], filter_.get("defaultErrnoRet"))
    notify = _check_notify(filter_)
    listed = _architectures(filter_, native)
    code = [Instruction(bpf.LOAD, k=bpf.ARCHITECTURE_OFFSET)]
    for audit in dict.fromkeys(architecture.audit for architecture in listed):
        sharing = [architecture for architecture in listed if architecture.audit == audit]
        code += bpf.guard(audit, _section(filter_, sharing, default))
    code += give(_KILL)
    if len(code) > bpf.MAX_INSTRUCTIONS:
        raise InvalidParameter(
            f"seccomp: the profile needs {len(code)} instructions, the kernel takes {bpf.MAX_INSTRUCTIONS}"
        )
    return Program(
        bpf.encode(code),
        _flags(filter_) | (NEW_LISTENER if notify else 0),
        filter_.get("listenerPath", "") if notify else "",
        filter_.get("listenerMetadata", "") if notify else "",
    )


def _action(name: str, errno_return: int | None) -> int:
    try:
        action = ACTIONS[name]
    except KeyError:
        raise InvalidParameter(
            f"seccomp: unknown action {name!r}: one of {', '.join(sorted(ACTIONS))}"
        ) from None
    if name not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        return action
    value = errno.EPERM if errno_return is None else errno_return
    if value > _LARGEST_ERRNO:
        raise InvalidParameter(f"seccomp: errnoRet {value} is out of range (0-{_LARGEST_ERRNO})")
    return action | value


def _check_notify(filter_: Seccomp) -> bool:
    """Whether rules notify; those that would stop the runtime itself are refused, as by runc."""
    if filter_["defaultAction"] == "SCMP_ACT_NOTIFY":
        raise InvalidParameter("SCMP_ACT_NOTIFY cannot be used as default action")
    rules = [rule for rule in filter_.get("syscalls") or [] if rule["action"] == "SCMP_ACT_NOTIFY"]
    if any("write" in rule["names"] for rule in rules):
        raise InvalidParameter("SCMP_ACT_NOTIFY cannot be used for the write syscall")
    if rules and not filter_.get("listenerPath"):
        raise InvalidParameter(
            "seccomp: SCMP_ACT_NOTIFY needs listenerPath, the socket that gets the notifications"
        )
    return bool(rules)


def _flags(filter_: Seccomp) -> int:
    """Without a list of flags, speculation is not slowed down; an empty list asks for no flag at all. As runc."""
    flags = 0
    for name in filter_.get("flags", ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]):
        if name not in FLAGS:
            raise InvalidParameter(f"seccomp: unknown flag {name!r}: one of {', '.join(sorted(FLAGS))}")
        flags |= FLAGS[name]
    return flags & ~FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]  # one thread installs, before there are others


def _architectures(filter_: Seccomp, native: Architecture) -> list[Architecture]:
    listed = [native]
    for name in filter_.get("architectures") or []:
        if name not in BY_OCI_NAME:
            if name.startswith("SCMP_ARCH_"):
                raise NotSupported(f"seccomp: no system call table for {name}")
            raise InvalidParameter(f"seccomp: unknown architecture {name!r}")
        if BY_OCI_NAME[name] not in listed:
            listed.append(BY_OCI_NAME[name])
    return listed


def _section(filter_: Seccomp, architectures: list[Architecture], default: int) -> list[Instruction]:
    """The filter of one audit architecture: of one table, or of x86_64's and x32's, told apart by a bit."""
    pieces: list[Piece] = []
    for architecture in sorted(architectures, key=lambda a: a.name == "x32"):
        base = X32_BIT if architecture.name == "x32" else 0
        pieces += _pieces(filter_, architecture, default, base)
    if [architecture.name for architecture in architectures] == ["x86_64"]:
        # x32 calls would pass for x86_64 ones under their own numbers. -1 is how a tracer skips a call.
        pieces = [piece for piece in pieces if piece.start < X32_BIT]
        pieces += [Piece(X32_BIT, give(_KILL)), Piece(0xFFFFFFFF, give(default))]
    return [Instruction(bpf.LOAD, k=bpf.NUMBER_OFFSET), *bpf.search(pieces)]


def _pieces(filter_: Seccomp, architecture: Architecture, default: int, base: int) -> list[Piece]:
    """What happens to each number of one table, neighbours of equal fate joined."""
    rules, newest = _rules_by_number(filter_, architecture, default)
    starts = {0, *rules, *(number + 1 for number in rules)}
    unknown_from = 1 << 32
    if newest is not None and filter_["defaultAction"] not in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
        unknown_from = newest + 1
        starts.add(unknown_from)
    pieces: list[Piece] = []
    for start in sorted(starts):
        if start in rules:
            code = _leaf(rules[start], default, architecture)
        else:
            code = give(_NO_SUCH_CALL if start >= unknown_from else default)
        if not pieces or pieces[-1].code != code:
            pieces.append(Piece(base + start, code))
    return pieces


def _rules_by_number(
    filter_: Seccomp, architecture: Architecture, default: int
) -> tuple[dict[int, list[_Alternative]], int | None]:
    """Alternatives by call number, and the newest number that any rule names."""
    numbers = syscall_numbers(architecture.name)
    rules: dict[int, list[_Alternative]] = {}
    newest: int | None = None
    for rule in filter_.get("syscalls") or []:
        action = _action(rule["action"], rule.get("errnoRet"))
        alternatives = [_Alternative(conditions, action) for conditions in _conditions(rule)]
        for name in rule["names"]:
            number = numbers.get(name)
            if number is not None:
                if number < _PRIVATE_NUMBERS:
                    newest = number if newest is None else max(newest, number)
                if action != default:
                    rules.setdefault(number, []).extend(alternatives)
            multiplexed = _multiplexed(name, numbers)
            if multiplexed and alternatives == [_Alternative((), action)] and action != default:
                through, argument = multiplexed
                rules.setdefault(through, []).append(_Alternative((argument,), action))
    return rules, newest


def _conditions(rule: SeccompSyscall) -> list[tuple[SeccompArg, ...]]:
    arguments = rule.get("args") or []
    if len({argument["index"] for argument in arguments}) < len(arguments):
        return [(argument,) for argument in arguments]
    return [tuple(arguments)]


def _multiplexed(name: str, numbers: dict[str, int]) -> tuple[int, SeccompArg] | None:
    """How old 32-bit programs make the call `name`: through socketcall(2) or ipc(2), if there are such."""
    for through, calls in (("socketcall", SOCKETCALL), ("ipc", IPC)):
        if name in calls and through in numbers:
            return numbers[through], {"index": 0, "value": calls[name], "op": "SCMP_CMP_EQ"}
    return None


def _leaf(
    alternatives: list[_Alternative], default: int, architecture: Architecture
) -> tuple[Instruction, ...]:
    for conditions, action in alternatives:
        if not conditions:
            return give(action)
    code: Code = []
    for number, (conditions, action) in enumerate(alternatives):
        for position, condition in enumerate(conditions):
            ok = f"{number}.{position}"
            code += check(condition, ok, f"{number}", big_endian=architecture.big_endian)
            code.append(ok)
        code += give(action)
        code.append(f"{number}")
    return bpf.link([*code, *give(default)])
