"""Annotations that an image's documents get, by the names of BuildKit's attributes:
`annotation[-KIND][[PLATFORM]].KEY`, KIND one of `manifest` (as without), `manifest-descriptor`, `index`, `index-descriptor`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sampan.errors import InvalidParameter
from sampan.names import platform as platforms
from sampan.names.platform import Platform

_NAME = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)")
_KINDS = ("manifest", "manifest-descriptor", "index", "index-descriptor")


class Annotation(NamedTuple):
    """One of them."""

    kind: str
    platform: Platform | None
    """None: for every platform."""
    key: str
    value: str


class Annotations:
    """All that an export was given."""

    def __init__(self, given: Iterable[Annotation] = ()) -> None:
        self._given = tuple(given)

    @property
    def index(self) -> dict[str, str]:
        """In the index."""
        return {each.key: each.value for each in self._given if each.kind == "index"}

    @property
    def index_descriptor(self) -> dict[str, str]:
        """In what names the index."""
        return {each.key: each.value for each in self._given if each.kind == "index-descriptor"}

    def of_manifest(self, platform: Platform) -> dict[str, str]:
        """In a platform's manifest."""
        return self._of("manifest", platform)

    def of_descriptor(self, platform: Platform) -> dict[str, str]:
        """In what names a platform's manifest."""
        return self._of("manifest-descriptor", platform)

    def check_platforms(self, given: Sequence[Platform]) -> None:
        """Raises `InvalidParameter` for one about a platform that an index does not have."""
        for each in self._given:
            if each.platform is not None and each.platform not in given:
                raise InvalidParameter(f"invalid annotation: no platform {each.platform} found in source")

    def check_no_index(self) -> None:
        """Raises `InvalidParameter` for one about an index, where there is none."""
        if self.index or self.index_descriptor:
            raise InvalidParameter("index annotations not supported for single platform export")

    def check_types(self) -> None:
        """Raises `InvalidParameter` for what Docker's media types have no place for."""
        if any(each.kind != "manifest" for each in self._given):
            raise InvalidParameter('cannot export annotations with "oci-mediatypes=false"')

    def _of(self, kind: str, platform: Platform) -> dict[str, str]:
        """Those for every platform first: one for this platform wins."""
        mine = [each for each in self._given if each.kind == kind and each.platform in (None, platform)]
        return {each.key: each.value for each in sorted(mine, key=lambda each: each.platform is not None)}


def parse(attributes: Mapping[str, str]) -> Annotations:
    """Those among an exporter's attributes or a result's metadata. Raises `InvalidParameter`."""
    found = []
    for name, value in attributes.items():
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        kind, platform, key = match[1] or "manifest", match[2], match[3]
        if kind not in _KINDS:
            raise InvalidParameter(f"unrecognized annotation type {kind}")
        found.append(Annotation(kind, platforms.parse(platform) if platform else None, key, value))
    return Annotations(found)
