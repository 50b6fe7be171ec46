"""Attributes of BuildKit's exporters that say how layers are written."""

from __future__ import annotations

from collections.abc import Mapping

from sampan.errors import InvalidParameter, NotSupported
from sampan.ops.layering import Compression, LayerForm

_COMPRESSIONS: dict[str, Compression] = {
    "": "none",
    "uncompressed": "none",
    "gzip": "gzip",
    "zstd": "zstd",
}

_NOT_HERE = {
    "dangling-name-prefix": "names for images without one",
    "force-compression": "compressing layers anew",
    "name-canonical": "names with a digest",
    "push-by-digest": "pushing by digest",
}


def check(attributes: Mapping[str, str]) -> None:
    """Raises `NotSupported` for what a result would silently lack."""
    for name, value in attributes.items():
        if name.startswith("annotation"):
            what = "annotations"
        elif name in _NOT_HERE and value not in ("", "false", "0"):
            what = _NOT_HERE[name]
        elif (name, value) in (("tar", "false"), ("tar", "0")):
            what = "a result as a directory of blobs"
        else:
            continue
        raise NotSupported(f"not in this version of Sampan's builder: {what} ({name})")


def layer_form(attributes: Mapping[str, str], epoch: int | None, *, default: str = "") -> LayerForm:
    """`compression` and `rewrite-timestamp`; `epoch` is SOURCE_DATE_EPOCH in seconds. Raises `InvalidParameter`."""
    name = attributes.get("compression", "") or default
    compression = _COMPRESSIONS.get(name)
    if compression is None:
        raise InvalidParameter(f"unsupported layer compression type {name}")
    if attributes.get("rewrite-timestamp", "") not in ("true", "1"):
        return LayerForm(compression)
    if epoch is None:
        raise InvalidParameter("rewrite-timestamp needs SOURCE_DATE_EPOCH")
    return LayerForm(compression, epoch * 1_000_000_000)
