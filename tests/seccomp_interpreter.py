"""A classic BPF machine as small as seccomp's, and the plain reading of a filter that programs are held against."""

from __future__ import annotations

import struct

from sampan.oci.runtime import Seccomp, SeccompArg, SeccompSyscall
from sampan.seccomp.architectures import BY_OCI_NAME, X32_BIT, syscall_numbers
from sampan.seccomp.compiler import ACTIONS

ENOSYS, EPERM = 38, 1
ERRNO = ACTIONS["SCMP_ACT_ERRNO"]


def run(program: bytes, number: int, audit: int, arguments: list[int]) -> int:
    """The action for one call. An instruction that does not exist, or running off the end, is an error."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *arguments)
    code = [struct.unpack_from("=HBBI", program, offset) for offset in range(0, len(program), 8)]
    accumulator = position = 0
    while True:
        operation, true, false, k = code[position]
        position += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x54:
                accumulator &= k
            case 0x05:
                position += k
            case 0x15:
                position += true if accumulator == k else false
            case 0x25:
                position += true if accumulator > k else false
            case 0x35:
                position += true if accumulator >= k else false
            case 0x06:
                return k
            case _:
                raise AssertionError(f"instruction {operation:#x} at {position - 1}")


def holds(condition: SeccompArg, arguments: list[int]) -> bool:
    actual, value = arguments[condition["index"]], condition["value"]
    return {
        "SCMP_CMP_NE": actual != value,
        "SCMP_CMP_LT": actual < value,
        "SCMP_CMP_LE": actual <= value,
        "SCMP_CMP_EQ": actual == value,
        "SCMP_CMP_GE": actual >= value,
        "SCMP_CMP_GT": actual > value,
        "SCMP_CMP_MASKED_EQ": actual & value == condition.get("valueTwo", 0),
    }[condition["op"]]


def evaluate(filter_: Seccomp, oci_architecture: str, number: int, arguments: list[int]) -> int:
    """What the filter says about a call, rule by rule. `number` without x32's bit."""
    architecture = BY_OCI_NAME[oci_architecture]
    numbers = syscall_numbers(architecture.name)
    default = _value(filter_["defaultAction"], filter_.get("defaultErrnoRet"))
    matching: list[tuple[SeccompSyscall, int]] = []
    newest = -1
    for rule in filter_.get("syscalls", []):
        named = [numbers[name] for name in rule["names"] if name in numbers]
        newest = max([newest, *(n for n in named if n < 0xF0000)])  # not arm's private calls
        action = _value(rule["action"], rule.get("errnoRet"))
        if number in named and action != default:
            matching.append((rule, action))
    for rule, action in matching:
        if not rule.get("args"):
            return action
    for rule, action in matching:
        conditions = rule["args"]
        repeated = len({c["index"] for c in conditions}) < len(conditions)
        if (any if repeated else all)(holds(condition, arguments) for condition in conditions):
            return action
    denies = filter_["defaultAction"] not in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
    if denies and newest >= 0 and number > newest:
        return ERRNO | ENOSYS
    return default


def full_number(oci_architecture: str, number: int) -> int:
    return number | (X32_BIT if oci_architecture == "SCMP_ARCH_X32" else 0)


def _value(action: str, errno_return: int | None) -> int:
    if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        return ACTIONS[action] | (EPERM if errno_return is None else errno_return)
    return ACTIONS[action]
