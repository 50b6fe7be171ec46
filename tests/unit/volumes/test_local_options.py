"""Options of the local driver."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidParameter
from sampan.linux import mount as mnt
from sampan.volumes.local import check_options, parse_mount_options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"foo": "1"}, 'invalid option: "foo"'),
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"device": "tmpfs"}, 'missing required option: "type"'),
        ({"o": "ro"}, 'missing required option: "device"'),
        ({"size": "10m"}, "quota size requested but no quota support"),
        ({"size": "x"}, "invalid size: 'x'"),
        ({"type": "cifs", "device": "//host:445/share", "o": ""}, "port not allowed in CIFS device URL"),
    ],
)
def test_mistakes(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        check_options(options)


@pytest.mark.parametrize(
    "options",
    [{}, {"type": "tmpfs", "device": "tmpfs"}, {"type": "none", "device": "/x", "o": "bind"}, {"size": "0"}],
)
def test_good_ones(options: dict[str, str]) -> None:
    check_options(options)


@pytest.mark.parametrize(
    ("text", "flags", "data"),
    [
        ("", 0, ""),
        ("bind,ro", mnt.MS_BIND | mnt.MS_RDONLY, ""),
        ("size=100m,uid=1000,noexec", mnt.MS_NOEXEC, "size=100m,uid=1000"),
        ("ro,rw", 0, ""),
        ("rbind,rslave", mnt.MS_BIND | mnt.MS_REC | mnt.MS_SLAVE, ""),
        ("addr=10.0.0.1,,rw,nfsvers=4", 0, "addr=10.0.0.1,nfsvers=4"),
    ],
)
def test_mount_options(text: str, flags: int, data: str) -> None:
    assert parse_mount_options(text) == (flags, data)


@given(st.text())
def test_any_text_is_flags_and_data(text: str) -> None:
    flags, data = parse_mount_options(text)
    assert flags >= 0
    assert set(data.split(",")) <= set(text.split(",")) | {""}
