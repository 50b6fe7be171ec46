"""Attributes of BuildKit's exporters that say how an image is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sampan.errors import InvalidParameter, NotSupported
from sampan.exporters.annotations import Annotations, parse
from sampan.names.booleans import parse_bool
from sampan.oci.image import DOCKER_FOREIGN_LAYER, DOCKER_LAYER_GZIP, OCI_LAYER_GZIP, OCI_LAYERS
from sampan.ops.layering import Compression, LayerForm

_COMPRESSIONS: dict[str, Compression] = {
    "": "none",
    "uncompressed": "none",
    "gzip": "gzip",
    "zstd": "zstd",
}
_NOT_HERE = {
    "prefer-nondist-layers": "layers that are not to be distributed",
}
_LEVELS = {"gzip": 9, "zstd": 22}
_TO_OCI = {**OCI_LAYERS, DOCKER_FOREIGN_LAYER: OCI_LAYER_GZIP}
_TO_DOCKER = {
    **{ours: docker for docker, ours in OCI_LAYERS.items()},
    DOCKER_FOREIGN_LAYER: DOCKER_LAYER_GZIP,
}


class ImageForm(NamedTuple):
    """How an image is written."""

    compressed: LayerForm = LayerForm()
    clamped: bool = False
    """Whether no file of a built layer is said to be younger than the result's time."""
    oci_types: bool = True
    """OCI's media types, else Docker's."""
    annotations: Annotations = Annotations()

    def layers(self, epoch: int | None) -> LayerForm:
        """Of layers of a result of that time (seconds)."""
        if not self.clamped or epoch is None:
            return self.compressed
        return self.compressed._replace(latest_ns=epoch * 1_000_000_000)


USUAL = ImageForm()


def check(attributes: Mapping[str, str]) -> None:
    """Raises `NotSupported` for what a result would silently lack."""
    for name, what in _NOT_HERE.items():
        if flag(attributes, name, False):
            raise NotSupported(f"not in this version of Sampan's builder: {what} ({name})")


def image_form(
    attributes: Mapping[str, str], metadata: Mapping[str, str] | None = None, *, default: str = ""
) -> ImageForm:
    """What an exporter's attributes ask for; annotations also of a result's metadata. `default` is the compression.

    Raises `InvalidParameter`, and `NotSupported` for what an image would silently lack.
    """
    check(attributes)
    oci_types = flag(attributes, "oci-mediatypes", True)
    if flag(attributes, "oci-artifact", oci_types) and not oci_types:
        raise InvalidParameter('exporter option "oci-artifact=true" conflicts with "oci-mediatypes=false"')
    annotations = parse({**(metadata or {}), **attributes})
    if not oci_types:
        annotations.check_types()
    compressed = layer_form(attributes, default=default)
    return ImageForm(compressed, flag(attributes, "rewrite-timestamp", False), oci_types, annotations)


def layer_form(attributes: Mapping[str, str], *, default: str = "") -> LayerForm:
    """`compression`, `compression-level` and `force-compression`. Raises `InvalidParameter`, `NotSupported`."""
    forced = flag(attributes, "force-compression", False)
    name = attributes.get("compression", "") or default or ("gzip" if forced else "")
    if name == "estargz":
        raise NotSupported("not in this version of Sampan's builder: layers as estargz (compression)")
    compression = _COMPRESSIONS.get(name)
    if compression is None:
        raise InvalidParameter(f"unsupported layer compression type {name}")
    return LayerForm(compression, level=_level(attributes, compression), forced=forced)


def converted_type(media_type: str, *, oci: bool) -> str:
    """The same layer's type among OCI's, or among Docker's."""
    return (_TO_OCI if oci else _TO_DOCKER).get(media_type, media_type)


def flag(attributes: Mapping[str, str], name: str, default: bool) -> bool:
    """A switch: its name alone switches it on. Raises `InvalidParameter`."""
    text = attributes.get(name)
    if text is None:
        return default
    return parse_bool(name, text) if text else True


def _level(attributes: Mapping[str, str], compression: Compression) -> int | None:
    text = attributes.get("compression-level", "")
    if not text:
        return None
    if not text.isdecimal():
        raise InvalidParameter(f"non-integer value {text} specified for compression-level")
    most = _LEVELS.get(compression, int(text))
    if int(text) > most:
        raise InvalidParameter(f"compression-level {text}: {compression} has levels from 0 to {most}")
    return int(text)
