"""Attributes of exporters."""

from __future__ import annotations

import pytest
from hypothesis import given as for_any
from hypothesis import strategies as st

from sampan.errors import InvalidParameter, NotSupported
from sampan.exporters.annotations import parse
from sampan.exporters.forms import converted_type, image_form, layer_form
from sampan.names import platform as platforms
from sampan.ops.layering import LayerForm

AMD64, ARM64 = platforms.parse("linux/amd64"), platforms.parse("linux/arm64")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefer-nondist-layers", "1"),
        ("compression", "estargz"),
    ],
)
def test_what_a_result_would_silently_lack_is_refused(name: str, value: str) -> None:
    with pytest.raises(NotSupported, match=name):
        image_form({"name": "a:1", name: value})


def test_what_is_there_or_switched_off_is_taken() -> None:
    form = image_form({"name": "a:1", "push": "true", "force-compression": "false", "compression": "zstd"})
    assert form.compressed == LayerForm("zstd") and form.oci_types and not form.clamped


def test_layers_are_written_as_asked() -> None:
    assert layer_form({}) == LayerForm("none")
    assert layer_form({}, default="gzip") == LayerForm("gzip")
    assert layer_form({"force-compression": ""}) == LayerForm("gzip", forced=True)
    assert layer_form({"compression": "zstd", "compression-level": "19"}).level == 19
    assert image_form({"rewrite-timestamp": "true"}).layers(7).latest_ns == 7_000_000_000
    assert image_form({"rewrite-timestamp": "true"}).layers(None).latest_ns is None
    assert image_form({}).layers(7).latest_ns is None


@pytest.mark.parametrize(
    "attributes",
    [
        {"compression": "brotli"},
        {"compression": "gzip", "compression-level": "10"},
        {"compression": "zstd", "compression-level": "23"},
        {"compression-level": "x"},
        {"force-compression": "maybe"},
        {"oci-mediatypes": "false", "oci-artifact": "true"},
        {"oci-mediatypes": "false", "annotation-index.a": "b"},
        {"annotation-stage.a": "b"},
        {"annotation[linux/§].a": "b", "annotation-manifest[a/b/c/d/e].c": "d"},
    ],
)
def test_what_makes_no_sense_is_refused(attributes: dict[str, str]) -> None:
    with pytest.raises(InvalidParameter):
        image_form(attributes)


def test_annotations_go_where_they_are_meant() -> None:
    given = parse(
        {
            "annotation.a": "all",
            "annotation-manifest[linux/arm64].a": "one",
            "annotation-manifest-descriptor.b": "c",
            "annotation-index.org.example/d": "e",
            "annotation-index-descriptor.f": "",
            "name": "x",
        }
    )
    assert given.of_manifest(AMD64) == {"a": "all"} and given.of_manifest(ARM64) == {"a": "one"}
    assert given.of_descriptor(ARM64) == {"b": "c"}
    assert given.index == {"org.example/d": "e"} and given.index_descriptor == {"f": ""}
    with pytest.raises(InvalidParameter, match="no platform linux/arm64"):
        given.check_platforms([AMD64])
    with pytest.raises(InvalidParameter, match="index annotations"):
        given.check_no_index()


@pytest.mark.parametrize("compression", ["", "+gzip", "+zstd"])
def test_media_types_have_a_twin(compression: str) -> None:
    ours = f"application/vnd.oci.image.layer.v1.tar{compression}"
    theirs = converted_type(ours, oci=False)
    assert theirs == f"application/vnd.docker.image.rootfs.diff.tar{compression.replace('+', '.')}"
    assert converted_type(theirs, oci=True) == converted_type(ours, oci=True) == ours


@for_any(st.dictionaries(st.from_regex(r"annotation.{0,40}"), st.text(max_size=5), max_size=3))
def test_any_name_is_an_annotation_or_refused_or_none(attributes: dict[str, str]) -> None:
    try:
        found = parse(attributes)
    except InvalidParameter:
        return
    assert set(found.index.values()) <= set(attributes.values())
