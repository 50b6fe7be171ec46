"""Where an image goes and by which names: `name`, `name-canonical`, `dangling-name-prefix`, `store`, `unpack`, `push` and
`push-by-digest` among BuildKit's attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sampan.errors import InvalidParameter
from sampan.exporters.forms import flag
from sampan.images.records import dangling_name
from sampan.names.reference import Reference, parse_normalized

_FROM_FRONTEND = "image.name"
"""Of a result's metadata: what `name=*` means."""


class Naming(NamedTuple):
    """See the module."""

    names: Sequence[Reference] = ()
    """With tags; without any where `by_digest`."""
    by_digest: bool = False
    """Whether registries are given no tag."""
    canonical: bool = False
    """Whether each name with the digest behind it is one too."""
    prefix: str = ""
    """With the digest behind it the name of an image that has none."""
    kept: bool = True
    """Whether it becomes an image of the engine's."""
    unpacked: bool = True
    """Whether containers of it need not wait for its layers."""
    pushed: bool = False

    def records(self, digest: str) -> list[Reference]:
        """The names in the engine's store of the image of that digest; it may have none."""
        plain = [] if self.by_digest else list(self.names)
        if self.by_digest or self.canonical:
            plain += [each._replace(tag="", digest=digest) for each in self.names]
        if not plain and self.prefix:
            plain = [parse_normalized(self.prefix)._replace(tag="", digest=digest)]
        return list(dict.fromkeys(plain))

    def told(self, digest: str) -> str:
        """What the client is told that the image is called."""
        if self.names:
            return ",".join(str(each) for each in self.names)
        return f"{self.prefix}@{digest}" if self.prefix else dangling_name(digest)


def naming(attributes: Mapping[str, str], metadata: Mapping[str, str] | None = None) -> Naming:
    """What an exporter's attributes ask for, and what a result's metadata calls it. Raises `InvalidParameter`."""
    by_digest = flag(attributes, "push-by-digest", False)
    pushed = flag(attributes, "push", False)
    names = names_of(attributes, metadata or {}, default_tag=not by_digest)
    if pushed and not names:
        raise InvalidParameter("tag is needed when pushing to registry")
    for each in names:
        if by_digest and not each.is_name_only:
            raise InvalidParameter(f"can't push tagged ref {each} by digest")
        if each.digest:
            raise InvalidParameter("build tag cannot contain a digest")
    prefix = attributes.get("dangling-name-prefix", "")
    return Naming(
        names,
        by_digest,
        flag(attributes, "name-canonical", False),
        "" if prefix == dangling_name("").removesuffix("@") else prefix,
        flag(attributes, "store", True),
        flag(attributes, "unpack", True),
        pushed,
    )


def names_of(
    attributes: Mapping[str, str], metadata: Mapping[str, str], *, default_tag: bool = True
) -> list[Reference]:
    """The names that are given, each once. Raises `InvalidParameter`."""
    text = attributes.get("name", "")
    if text == "*":
        text = metadata.get(_FROM_FRONTEND, "")
    given = [parse_normalized(each) for each in text.split(",") if each]
    return list(dict.fromkeys(each.with_default_tag() if default_tag else each for each in given))
