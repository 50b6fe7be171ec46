"""Attributes of BuildKit's exporters that say how layers are written."""

from __future__ import annotations

from collections.abc import Mapping

from sampan.errors import InvalidParameter
from sampan.ops.layering import Compression, LayerForm

_COMPRESSIONS: dict[str, Compression] = {
    "": "none",
    "uncompressed": "none",
    "gzip": "gzip",
    "zstd": "zstd",
}


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
