"""What `-v`, `--mount`, `--tmpfs` and `--volumes-from` mean, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.containers.mount_spec import (
    merge_tmpfs_options,
    parse_bind,
    parse_mount,
    parse_tmpfs,
    parse_volumes_from,
)
from sampan.engineapi.container import BindOptions, Mount, VolumeOptions
from sampan.errors import InvalidParameter


def test_bind_of_a_host_path_is_made_when_missing() -> None:
    record = parse_bind("/srv/data:/data:ro,rslave")
    assert (record.type, record.source, record.destination) == ("bind", "/srv/data", "/data")
    assert record.read_only and record.create_source and record.propagation == "rslave"


def test_bind_of_a_name_is_a_volume() -> None:
    record = parse_bind("data:/data:nocopy")
    assert (record.type, record.name, record.no_copy, record.propagation) == ("volume", "data", True, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
        (":/b", "invalid volume specification: ':/b'"),
        ("/a:b", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/b:rx", "invalid mode: rx"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("data:/b:rslave", "field BindOptions must not be specified"),
        ("/a:/b:nocopy", "field VolumeOptions must not be specified"),
    ],
)
def test_bad_binds_are_named(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        parse_bind(text)
    assert message in str(error.value)


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        record = parse_bind(text)
    except InvalidParameter:
        return
    assert record.destination.startswith("/") and record.destination != "/"
    assert ".." not in record.destination.split("/")


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (Mount(type="bind", target="/x"), "field Source must not be empty"),
        (Mount(type="bind", source="/a"), "field Target must not be empty"),
        (Mount(type="odd", target="/x"), "mount type unknown"),
        (
            Mount(type="bind", source="/a", target="/x", volume_options=VolumeOptions()),
            'VolumeOptions must not be specified on mount type "bind"',
        ),
        (Mount(type="tmpfs", source="/a", target="/x"), "field Source must not be specified"),
        (
            Mount(type="bind", source="/a", target="/x", bind_options=BindOptions(propagation="odd")),
            "invalid propagation mode: odd",
        ),
        (
            Mount(type="volume", target="/x", read_only=True),
            "must not set ReadOnly mode when using anonymous volumes",
        ),
        (
            Mount(type="volume", source="v", target="/x", volume_options=VolumeOptions(subpath="../etc")),
            "subpath must be a relative path within the volume",
        ),
    ],
)
def test_bad_mounts_are_named(mount: Mount, message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        parse_mount(mount)
    assert str(error.value).endswith(message)
    if "Options" not in message:
        assert str(error.value).startswith(f'invalid mount config for type "{mount.type}"')


def test_mount_refuses_to_make_its_source() -> None:
    assert not parse_mount(Mount(type="bind", source="/a", target="/x")).create_source


def test_tmpfs_options_are_checked_and_the_last_word_wins() -> None:
    assert parse_tmpfs("/run", "rw,size=1m,noexec,exec").options == ["rw", "size=1m", "exec"]
    with pytest.raises(InvalidParameter, match="invalid tmpfs option"):
        merge_tmpfs_options(["loop"])


def test_volumes_from() -> None:
    assert parse_volumes_from("web:ro") == ("web", True)
    assert parse_volumes_from("web") == ("web", None)
    with pytest.raises(InvalidParameter, match="empty string"):
        parse_volumes_from("")
    with pytest.raises(InvalidParameter, match="invalid mode: odd"):
        parse_volumes_from("web:odd")
