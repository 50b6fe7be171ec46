"""Where distribution keeps things, below `<root>/docker/registry/v2`. Names are checked before they become paths."""

from __future__ import annotations

import re
from pathlib import Path

from sampan.errors import InvalidParameter
from sampan.names.digest import Digest, algorithm_of, encoded_of, parse_digest
from sampan.registryserver.failures import Refused

NAME_LENGTH_MAX = 255
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}")
_UPLOAD = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def checked_name(name: str) -> str:
    """A repository's name. Raises `Refused` NAME_INVALID: no component may begin with a dot or be empty."""
    if len(name) > NAME_LENGTH_MAX or not _NAME.fullmatch(name):
        raise Refused("NAME_INVALID", {"name": name[:300]})
    return name


def checked_tag(tag: str) -> str:
    """A tag. Raises `Refused`."""
    if not _TAG.fullmatch(tag):
        raise Refused("TAG_INVALID", {"tag": tag[:300]})
    return tag


def checked_digest(text: str) -> Digest:
    """A digest of a known algorithm. Raises `Refused` DIGEST_INVALID."""
    try:
        return parse_digest(text)
    except InvalidParameter as error:
        raise Refused("DIGEST_INVALID", f"{error}: {text[:200]}") from None


def checked_upload(id: str) -> str:
    """An upload's id. Raises `Refused`."""
    if not _UPLOAD.fullmatch(id):
        raise Refused("BLOB_UPLOAD_UNKNOWN")
    return id


class Paths:
    """The files and directories of one registry."""

    def __init__(self, root: Path) -> None:
        self.root = root / "docker" / "registry" / "v2"
        self.blobs = self.root / "blobs"
        self.repositories = self.root / "repositories"
        self.announcements = self.root / "catalog"
        """Ours, in a bucket: an object per repository (see `catalogue`)."""
        self.announced = self.root / "catalog-complete"

    def blob_directory(self, digest: Digest) -> Path:
        encoded = encoded_of(digest)
        return self.blobs / algorithm_of(digest) / encoded[:2] / encoded

    def blob(self, digest: Digest) -> Path:
        return self.blob_directory(digest) / "data"

    def repository(self, name: str) -> Path:
        return self.repositories / name

    def layer_link(self, name: str, digest: Digest) -> Path:
        return self.repository(name) / "_layers" / algorithm_of(digest) / encoded_of(digest) / "link"

    def revisions(self, name: str) -> Path:
        return self.repository(name) / "_manifests" / "revisions"

    def revision_link(self, name: str, digest: Digest) -> Path:
        return self.revisions(name) / algorithm_of(digest) / encoded_of(digest) / "link"

    def tags(self, name: str) -> Path:
        return self.repository(name) / "_manifests" / "tags"

    def tag_link(self, name: str, tag: str) -> Path:
        return self.tags(name) / tag / "current" / "link"

    def tag_index_link(self, name: str, tag: str, digest: Digest) -> Path:
        return self.tags(name) / tag / "index" / algorithm_of(digest) / encoded_of(digest) / "link"

    def referrers(self, name: str, subject: Digest) -> Path:
        """Ours, beside distribution's directories, which it passes over: a link per manifest with this subject."""
        return (
            self.repository(name) / "_manifests" / "referrers" / algorithm_of(subject) / encoded_of(subject)
        )

    def referrer_link(self, name: str, subject: Digest, digest: Digest) -> Path:
        return self.referrers(name, subject) / algorithm_of(digest) / encoded_of(digest) / "link"

    def uploads(self, name: str) -> Path:
        return self.repository(name) / "_uploads"

    def upload(self, name: str, id: str) -> Path:
        return self.uploads(name) / id
