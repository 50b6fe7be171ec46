"""Image references, by the grammar of the distribution project's `reference` package, Docker's normalisation
included.

`busybox` is short for `docker.io/library/busybox:latest`: the *familiar* form is what users type and read,
the *canonical* form is what is stored and compared. A first component is a registry when it has a dot, a
colon or an upper-case letter, or is `localhost`; else it is a namespace on docker.io.

Example::

    ref = parse_normalized("busybox@sha256:…")
    ref.domain, ref.path, ref.tag, ref.digest      # "docker.io", "library/busybox", "", "sha256:…"
    str(ref.with_default_tag()), ref.familiar()
"""

from __future__ import annotations

import fnmatch
import re
from typing import NamedTuple

from sampan.errors import InvalidParameter
from sampan.names.digest import Digest, parse_digest

DEFAULT_DOMAIN = "docker.io"
LEGACY_DEFAULT_DOMAIN = "index.docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"
NAME_LENGTH_MAX = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])"
_DOMAIN = rf"{_HOST}(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_NAME = rf"(?:{_DOMAIN}/)?{_PATH}"
_TAG = r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(rf"({_NAME})(?::({_TAG}))?(?:@({_DIGEST}))?")
_NAME_PARTS = re.compile(rf"(?:({_DOMAIN})/)?({_PATH})")
_TAG_ONLY = re.compile(_TAG)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


class Reference(NamedTuple):
    """A parsed reference. `str()` of it is the canonical form."""

    domain: str
    """Registry with its port; empty when `parse` met none."""
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Repository with its registry, without tag and digest."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    @property
    def is_name_only(self) -> bool:
        return not self.tag and not self.digest

    @property
    def checked_digest(self) -> Digest | None:
        """The digest, which parsing has validated."""
        return Digest(self.digest) if self.digest else None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"

    def familiar_name(self) -> str:
        """The repository as users write it: `busybox`, `me/app`, `localhost:5000/app`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(OFFICIAL_PREFIX)
        return self.path if "/" in rest else rest

    def familiar(self) -> str:
        """The whole reference as users write it."""
        return str(Reference("", self.familiar_name(), self.tag, self.digest))

    def with_tag(self, tag: str) -> Reference:
        """The same with this tag. Raises InvalidParameter ("invalid tag format")."""
        if not _TAG_ONLY.fullmatch(tag):
            raise InvalidParameter("invalid tag format")
        return self._replace(tag=tag)

    def with_default_tag(self) -> Reference:
        """The same with `latest` when it is only a name."""
        return self._replace(tag=DEFAULT_TAG) if self.is_name_only else self

    def without_tag(self) -> Reference:
        return self._replace(tag="")

    def matches(self, pattern: str) -> bool:
        """Whether `--filter reference=` with this shell pattern selects it: the familiar form or its name
        alone.

        As Go's `path.Match`, so `*` does not cross a slash.
        """
        return any(_path_match(pattern, form) for form in (self.familiar(), self.familiar_name()))


def parse(text: str) -> Reference:
    """The reference as written, nothing filled in. Raises InvalidParameter in the distribution project's
    words.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        if text == "":
            raise InvalidParameter("repository name must have at least one component")
        if _REFERENCE.fullmatch(text.lower()):
            raise InvalidParameter("repository name must be lowercase")
        raise InvalidParameter("invalid reference format")
    name, tag, digest = match.groups(default="")
    parts = _NAME_PARTS.fullmatch(name)
    assert parts is not None  # what `_REFERENCE` captured as the name matches the same grammar
    domain, path = parts.groups(default="")
    if len(path) > NAME_LENGTH_MAX:
        raise InvalidParameter(f"repository name must not be more than {NAME_LENGTH_MAX} characters")
    return Reference(domain, path, tag, parse_digest(digest) if digest else "")


def parse_normalized(text: str) -> Reference:
    """The reference with its registry and `library/` filled in; no tag is added (see `with_default_tag`).

    Raises InvalidParameter: "invalid reference format", "invalid reference format: repository name (X) must
    be lowercase", "invalid repository name (X), cannot specify 64-byte hexadecimal strings", and those of
    `parse`.
    """
    if _IDENTIFIER.fullmatch(text):
        raise InvalidParameter(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, remainder = _split_domain(text)
    remote = remainder.partition(":")[0]
    if remote.lower() != remote:
        raise InvalidParameter(f"invalid reference format: repository name ({remote}) must be lowercase")
    return parse(f"{domain}/{remainder}")


def parse_docker_reference(text: str) -> Reference:
    """What `docker pull` and containerd mean by the text: a digest wins over a tag, a bare name gets
    `latest`.
    """
    reference = parse_normalized(text)
    return reference.without_tag() if reference.digest else reference.with_default_tag()


def familiar(text: str) -> str:
    """The familiar form of a canonical reference; a text that is no reference comes back as it is."""
    try:
        return parse_normalized(text).familiar()
    except InvalidParameter:
        return text


def is_identifier(text: str) -> bool:
    """Whether the text is a full id (64 hex digits), which no repository may be called."""
    return _IDENTIFIER.fullmatch(text) is not None


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_registry = bool(slash) and (
        "." in first or ":" in first or first == "localhost" or first.lower() != first
    )
    domain, remote = (first, rest) if is_registry else (DEFAULT_DOMAIN, name)
    if domain == LEGACY_DEFAULT_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remote:
        remote = OFFICIAL_PREFIX + remote
    return domain, remote


def _path_match(pattern: str, text: str) -> bool:
    wanted, given = pattern.split("/"), text.split("/")
    return len(wanted) == len(given) and all(
        fnmatch.fnmatchcase(part, shape.replace("[^", "[!"))
        for part, shape in zip(given, wanted, strict=True)
    )
