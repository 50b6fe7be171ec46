"""Reading and resolving profiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidParameter
from sampan.oci.defaults import CAPABILITIES
from sampan.seccomp import cache as cache_module
from sampan.seccomp import cached_program, load_profile, parse_kernel, resolve


def names(
    capabilities: tuple[str, ...] = CAPABILITIES, arch: str = "x86_64", kernel: tuple[int, int] = (6, 1)
) -> set[str]:
    filter_ = resolve(load_profile(), capabilities, arch=arch, kernel=kernel)
    return {
        name for rule in filter_["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]
    }


def test_capabilities_open_system_calls() -> None:
    assert "mount" not in names()
    assert "mount" in names((*CAPABILITIES, "CAP_SYS_ADMIN"))
    assert "chroot" in names() and "chroot" not in names(())


def test_kernel_version_decides() -> None:
    assert "ptrace" in names(kernel=(4, 8)) and "ptrace" not in names(kernel=(4, 7))


def test_architecture_decides() -> None:
    assert "arch_prctl" in names() and "arch_prctl" not in names(arch="aarch64")
    filter_ = resolve(load_profile(), (), arch="x86_64", kernel=(6, 1))
    assert filter_["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]


@pytest.mark.parametrize(
    ("release", "version"), [("6.1.0-13-amd64", (6, 1)), ("4.8", (4, 8)), ("5.10-rc1", (5, 10))]
)
def test_kernel_releases(release: str, version: tuple[int, int]) -> None:
    assert parse_kernel(release) == version


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"syscalls": []}', '{"defaultAction": 3}',
                                  '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": "x", "action": "a"}]}',
                                  '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"]}]}'])  # fmt: skip
def test_wrong_files(text: str) -> None:
    with pytest.raises(InvalidParameter, match="decoding seccomp profile failed: "):
        load_profile(text)


def test_contradictions() -> None:
    both = load_profile(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
                                    "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}))  # fmt: skip
    with pytest.raises(InvalidParameter, match="both 'architectures' and 'archMap'"):
        resolve(both, (), arch="x86_64", kernel=(6, 1))
    twice = load_profile(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"name": "read", "names": ["write"], "action": "SCMP_ACT_ALLOW"}]}))  # fmt: skip
    with pytest.raises(InvalidParameter, match="both 'name' and 'names'"):
        resolve(twice, (), arch="x86_64", kernel=(6, 1))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["defaultAction", "syscalls", "names", "action", "args", "includes", "archMap", "caps", "op"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(values)
def test_any_json_resolves_or_is_refused(document: object) -> None:
    try:
        resolve(load_profile(json.dumps(document)), (), arch="x86_64", kernel=(6, 1))
    except InvalidParameter:
        pass


def test_cache_gives_the_same_program_and_survives_rubbish(tmp_path: Path) -> None:
    filter_ = resolve(load_profile(), (), arch="x86_64", kernel=(6, 1))
    directory = str(tmp_path / "seccomp")
    first = cached_program(filter_, directory)
    (file,) = (tmp_path / "seccomp").iterdir()
    for content in (file.read_bytes(), b"", b"rubbish" * 100, file.read_bytes()[:-1]):
        cache_module._in_memory.clear()
        file.write_bytes(content)
        assert cached_program(filter_, directory) == first
        assert [entry.name for entry in (tmp_path / "seccomp").iterdir()] == [file.name]


def test_cache_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache_module._in_memory.clear()
    assert cached_program({"defaultAction": "SCMP_ACT_ALLOW"}, str(tmp_path / "file" / "below")).instructions
