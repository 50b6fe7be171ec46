"""Pure parts: names in archives, inspect's shapes by version, seams that are still empty."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidParameter
from sampan.images.inspection import config_document
from sampan.images.intake import _checked_name, _digest_in
from sampan.images.resolution import is_id_prefix, no_such_image, parse_any
from sampan.images.tagging import target_reference
from sampan.oci.image import ContainerConfig


@given(st.text(alphabet="./ab", max_size=12))
def test_checked_names_stay_in_the_archive(name: str) -> None:
    try:
        plain = _checked_name(name)
    except InvalidParameter as error:
        assert repr(name) in str(error)
        return
    assert not plain.startswith("/") and ".." not in plain.split("/")


def test_digest_in() -> None:
    assert _digest_in("blobs/sha256/" + "a" * 64) == "sha256:" + "a" * 64
    assert _digest_in("index.json") is None
    for name in ("blobs/sha256/short", "blobs/md5/" + "a" * 32, "blobs/sha256/" + "A" * 64):
        with pytest.raises(InvalidParameter, match=name):
            _digest_in(name)


def test_config_by_version() -> None:
    config = ContainerConfig(cmd=["sh"], hostname="h", stop_signal="SIGQUIT")
    assert config_document(config, (1, 52)) == {"Cmd": ["sh"], "StopSignal": "SIGQUIT"}
    fifty = config_document(config, (1, 50))
    assert fifty["Env"] is None and fifty["User"] == "" and "Hostname" not in fifty
    old = config_document(config, (1, 49))
    assert old["Hostname"] == "" and old["Tty"] is False and old["Cmd"] == ["sh"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("busybox", "No such image: busybox:latest"),
        ("me/app:2", "No such image: me/app:2"),
        ("a" * 64, f"No such image: sha256:{'a' * 64}"),
        (f"x@sha256:{'b' * 64}", f"No such image: x@sha256:{'b' * 64}"),
    ],
)
def test_no_such_image(text: str, message: str) -> None:
    assert str(no_such_image(text)) == message
    parse_any(text)


def test_is_id_prefix() -> None:
    image_id = "sha256:abcdef" + "0" * 58
    assert is_id_prefix(image_id, "abc") and is_id_prefix(image_id, "sha256:ab")
    assert not is_id_prefix(image_id, "bcd") and not is_id_prefix(image_id, "")


def test_target_reference() -> None:
    assert str(target_reference("busybox", "1")) == "docker.io/library/busybox:1"
    assert str(target_reference("me/app:2", "")) == "docker.io/me/app:2"
    assert target_reference("", "1") is None
    with pytest.raises(InvalidParameter, match="refusing to create a tag with a digest reference"):
        target_reference(f"x@sha256:{'a' * 64}", "")
    with pytest.raises(InvalidParameter, match="invalid tag format"):
        target_reference("x", "not/a/tag")
