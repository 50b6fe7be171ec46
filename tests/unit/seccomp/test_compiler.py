"""Compiled programs, run by an interpreter, against the plain reading of the filter."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidParameter, NotSupported
from sampan.oci.defaults import ALL_CAPABILITIES, CAPABILITIES
from sampan.oci.runtime import Seccomp, SeccompArg
from sampan.seccomp import compile_filter, load_profile, resolve
from sampan.seccomp.architectures import BY_OCI_NAME, syscall_numbers
from seccomp_interpreter import evaluate, full_number, run

X86 = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
ALLOW, KILL = 0x7FFF0000, 0
EPERM, ENOSYS = 0x50001, 0x50026

small = st.sampled_from([0, 1, 2, 38, 39, 40, 0xFFFFFFFF, 0x1_0000_0000, 0x1_0000_0001, 2**63, 2**64 - 1])
word = small | st.integers(0, 2**64 - 1)
condition = st.builds(
    lambda index, value, two, op: SeccompArg(index=index, value=value, valueTwo=two, op="SCMP_CMP_" + op),
    st.integers(0, 5),
    word,
    word,
    st.sampled_from(["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]),
)
name = st.sampled_from(
    ["read", "write", "open", "clone", "personality", "ptrace", "listns", "preadv2", "no_such_call"]
)
rule = st.fixed_dictionaries(
    {
        "names": st.lists(name, max_size=4),
        "action": st.sampled_from(
            ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_LOG"]
        ),
    },
    optional={"errnoRet": st.integers(0, 4095), "args": st.lists(condition, max_size=4)},
)
filters = st.fixed_dictionaries(
    {
        "defaultAction": st.sampled_from(["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL"]),
        "architectures": st.just(X86),
        "syscalls": st.lists(rule, max_size=6),
    }
)


@settings(max_examples=150, deadline=None)
@given(filters, st.sampled_from(X86), name, st.lists(word, min_size=6, max_size=6))
def test_programs_mean_what_the_filter_says(
    filter_: Seccomp, architecture: str, called: str, arguments: list[int]
) -> None:
    table = BY_OCI_NAME[architecture]
    number = syscall_numbers(table.name).get(called, 1000)
    program = compile_filter(filter_, "x86_64").instructions
    actual = run(program, full_number(architecture, number), table.audit, arguments)
    assert actual == evaluate(filter_, architecture, number, arguments)


@pytest.mark.parametrize("capabilities", [CAPABILITIES, ALL_CAPABILITIES, ()])
@pytest.mark.parametrize(
    ("machine", "architectures"),
    [("x86_64", X86), ("aarch64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])],
)
def test_default_profile_call_by_call(
    capabilities: tuple[str, ...], machine: str, architectures: list[str]
) -> None:
    filter_ = resolve(load_profile(), capabilities, arch=machine, kernel=(6, 1))
    program = compile_filter(filter_, machine).instructions
    for architecture in architectures:
        audit = BY_OCI_NAME[architecture].audit
        for number in range(500):
            if architecture == "SCMP_ARCH_X86" and number in (102, 117):
                continue  # socketcall and ipc: tested below
            for arguments in ([0] * 6, [40] * 6, [0x7E020000] * 6, [2**32 - 1] * 6):
                actual = run(program, full_number(architecture, number), audit, arguments)
                assert actual == evaluate(filter_, architecture, number, arguments), (architecture, number)


@pytest.fixture(scope="module")
def default() -> bytes:
    return compile_filter(
        resolve(load_profile(), CAPABILITIES, arch="x86_64", kernel=(6, 1)), "x86_64"
    ).instructions


def call(program: bytes, name: str, *arguments: int) -> int:
    padded = [*arguments, *[0] * (6 - len(arguments))]
    return run(program, syscall_numbers("x86_64")[name], BY_OCI_NAME["SCMP_ARCH_X86_64"].audit, padded)


def test_what_docker_promises(default: bytes) -> None:
    assert call(default, "read") == ALLOW
    assert call(default, "mount") == EPERM
    assert call(default, "keyctl") == EPERM
    assert call(default, "clone", 0x11) == ALLOW
    assert call(default, "clone", 0x10000000) == EPERM  # CLONE_NEWUSER
    assert call(default, "clone3") == ENOSYS
    assert call(default, "socket", 38) == EPERM  # AF_ALG
    assert call(default, "socket", 40) == EPERM  # AF_VSOCK
    assert call(default, "socket", 2) == ALLOW


def test_numbers_above_the_newest_known_do_not_exist(default: bytes) -> None:
    audit = BY_OCI_NAME["SCMP_ARCH_X86_64"].audit
    assert run(default, 5000, audit, [0] * 6) == ENOSYS
    assert run(default, syscall_numbers("x86_64")["kexec_load"], audit, [0] * 6) == EPERM


def test_a_foreign_architecture_is_killed(default: bytes) -> None:
    assert run(default, 0, BY_OCI_NAME["SCMP_ARCH_AARCH64"].audit, [0] * 6) == KILL


def test_x32_numbers_do_not_pass_for_x86_64_ones() -> None:
    filter_: Seccomp = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}],
    }
    program = compile_filter(filter_, "x86_64").instructions
    assert run(program, 0x40000000 | 165, 0xC000003E, [0] * 6) == KILL
    assert run(program, 0xFFFFFFFF, 0xC000003E, [0] * 6) == ALLOW  # a call that a tracer skips


def test_i386_sockets_pass_through_socketcall() -> None:
    filter_: Seccomp = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{"names": ["connect", "semop"], "action": "SCMP_ACT_ALLOW"}],
    }
    program = compile_filter(filter_, "x86_64").instructions
    audit, numbers = BY_OCI_NAME["SCMP_ARCH_X86"].audit, syscall_numbers("x86")
    assert run(program, numbers["socketcall"], audit, [3, 0, 0, 0, 0, 0]) == ALLOW
    assert run(program, numbers["socketcall"], audit, [2, 0, 0, 0, 0, 0]) == EPERM
    assert run(program, numbers["ipc"], audit, [1, 0, 0, 0, 0, 0]) == ALLOW


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"defaultAction": "SCMP_ACT_FOO"}, "unknown action 'SCMP_ACT_FOO'"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "cannot be used as default action"),
        ({"flags": ["X"]}, "unknown flag 'X'"),
        ({"architectures": ["Z80"]}, "unknown architecture 'Z80'"),
        ({"syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}, "for the write syscall"),
        ({"syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}, "needs listenerPath"),
        (
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                           "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]},
            "arguments 0 to 5, not 6",
        ),
        ({"defaultErrnoRet": 70000}, "errnoRet 70000 is out of range"),
    ],
)  # fmt: skip
def test_mistakes_are_named(change: Seccomp, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        compile_filter({"defaultAction": "SCMP_ACT_ERRNO", **change}, "x86_64")


def test_unknown_machine() -> None:
    with pytest.raises(NotSupported, match="pdp11"):
        compile_filter({"defaultAction": "SCMP_ACT_ERRNO"}, "pdp11")


def test_flags() -> None:
    assert compile_filter({"defaultAction": "SCMP_ACT_ALLOW"}, "x86_64").flags == 4
    assert compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "flags": []}, "x86_64").flags == 0
    notify = compile_filter(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": "/run/agent.sock",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        },
        "x86_64",
    )
    assert notify.flags & 8 and notify.listener_path == "/run/agent.sock"
