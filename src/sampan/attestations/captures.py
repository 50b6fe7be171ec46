"""What graphs used: their sources with the digests that those were resolved to, secrets and agents by id, the network.

A build notes what its sources were resolved to (`solver.build.Build.notes`) when it asks what identifies them, so a result that was
found in the cache tells as much as one that was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from sampan.llb import ops_pb2 as pb
from sampan.llb.graph import Graph
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import Reference, is_identifier, parse_normalized

IMAGE = "docker-image://"
GIT = "git://"
LAYOUT = "oci-layout://"
LOCAL = "local://"
WEB = ("http://", "https://")
_MASK = "xxxxx"
_WITH_PASSWORDS = frozenset({"http", "https", "git", "ssh", "git+ssh", "ftp"})


class ImageSource(NamedTuple):
    """An image, as it was named, and what that meant."""

    reference: str
    platform: Platform | None
    digest: str
    is_clients: bool = False
    """Of a layout at the client, and of no registry."""


@dataclass
class Capture:
    """See the module. Mappings are by what BuildKit tells them apart with."""

    images: list[ImageSource] = field(default_factory=list)
    repositories: dict[str, str] = field(default_factory=dict)
    """Commits by `URL#ref`."""
    files: dict[str, str] = field(default_factory=dict)
    """Digests by URL."""
    locals: set[str] = field(default_factory=set)
    secrets: dict[str, bool] = field(default_factory=dict)
    """By id, whether the build could have done without."""
    agents: dict[str, bool] = field(default_factory=dict)
    network: bool = False
    incomplete: bool = False
    """Something was used that is not known here: graphs that the build itself made."""

    def merge(self, other: Capture) -> None:
        """Add what the other one used."""
        for image in other.images:
            self.add_image(image)
        for url, commit in other.repositories.items():
            self.repositories.setdefault(url, commit)
        for url, digest in other.files.items():
            self.files.setdefault(url, digest)
        self.locals |= other.locals
        for mine, theirs in ((self.secrets, other.secrets), (self.agents, other.agents)):
            for id, optional in theirs.items():
                mine[id] = mine.get(id, True) and optional
        self.network |= other.network
        self.incomplete |= other.incomplete

    def add_image(self, image: ImageSource) -> None:
        """Once for each name and platform."""
        for known in self.images:
            same = (known.reference, known.is_clients) == (image.reference, image.is_clients)
            if same and known.platform in (image.platform, None):
                return
        self.images.append(image)

    @property
    def told_images(self) -> list[ImageSource]:
        """In order; one that is named by tag and again with its digest is told by its tag."""
        tagged = {_tagged(each) for each in self.images if not _parsed(each).digest}
        told = [each for each in self.images if not _parsed(each).digest or _tagged(each) not in tagged]
        return sorted(told, key=lambda each: each.reference)


def captured(graph: Graph, notes: Mapping[str, Mapping[str, str]]) -> Capture:
    """What a graph used, of which `notes` say by vertex what sources were resolved to."""
    capture = Capture()
    for vertex in graph.vertices():
        match vertex.kind:
            case "source":
                _add_source(capture, vertex.op, notes.get(vertex.digest, {}))
            case "exec":
                _add_program(capture, vertex.op.exec)
            case "build":
                capture.incomplete = True
    return capture


def _add_source(capture: Capture, op: pb.Op, note: Mapping[str, str]) -> None:
    identifier, attributes = op.source.identifier, op.source.attrs
    if identifier.startswith(IMAGE):
        name = identifier.removeprefix(IMAGE)
        digest = note.get("digest", "") or name.partition("@")[2]
        capture.add_image(ImageSource(name, _platform(op), digest))
    elif identifier.startswith(LAYOUT):
        name = identifier.removeprefix(LAYOUT)
        capture.add_image(ImageSource(name, _platform(op), name.partition("@")[2], True))
    elif identifier.startswith(LOCAL):
        capture.locals.add(identifier.removeprefix(LOCAL))
    elif identifier.startswith(GIT):
        capture.repositories.setdefault(redacted(note.get("url", identifier)), note.get("commit", ""))
        for name in ("git.authtokensecret", "git.authheadersecret"):
            if attributes.get(name, ""):
                capture.secrets.setdefault(attributes[name], True)
        if attributes.get("git.mountsshsock", ""):
            capture.agents.setdefault(attributes["git.mountsshsock"], True)
    elif identifier.startswith(WEB):
        capture.files.setdefault(redacted(identifier), note.get("digest", ""))
        if attributes.get("http.authheadersecret", ""):
            capture.secrets.setdefault(attributes["http.authheadersecret"], True)


def _add_program(capture: Capture, program: pb.ExecOp) -> None:
    used = [(each.ID, each.optional) for each in program.secretenv]
    for mount in program.mounts:
        if mount.mountType == pb.SECRET:
            used.append((mount.secretOpt.ID, mount.secretOpt.optional))
        elif mount.mountType == pb.SSH:
            id = mount.sshOpt.ID or "default"
            capture.agents[id] = capture.agents.get(id, True) and mount.sshOpt.optional
    for id, optional in used:
        capture.secrets[id] = capture.secrets.get(id, True) and optional
    capture.network |= program.network != pb.NONE


def of_platform(
    images: Iterable[ImageSource], wanted: Platform, all: Sequence[Platform]
) -> list[ImageSource]:
    """Those that a result for one of several platforms stands on: of a name that was resolved for each of them, its own."""
    images = list(images)
    resolved: dict[str, set[Platform | None]] = {}
    for image in images:
        resolved.setdefault(image.reference, set()).add(image.platform)
    everywhere = {name for name, found in resolved.items() if all and found.issuperset(all)}
    return [each for each in images if each.reference not in everywhere or each.platform in (wanted, None)]


def redacted(url: str) -> str:
    """Without the name and password that a URL may hold. What is no URL stays as it is."""
    try:
        parts = urlsplit(url)
        if "@" not in parts.netloc or parts.scheme not in _WITH_PASSWORDS:
            return url
        return urlunsplit(parts._replace(netloc=_without_password(parts)))
    except ValueError:
        return url


def _without_password(parts: SplitResult) -> str:
    given, _, host = parts.netloc.rpartition("@")
    name, colon, _ = given.partition(":")
    return f"{_MASK if name else ''}{f':{_MASK}' if colon else ''}@{host}"


def _platform(op: pb.Op) -> Platform | None:
    if not op.HasField("platform"):
        return None
    given = op.platform
    return platforms.normalize(Platform(given.OS, given.Architecture, given.Variant, given.OSVersion))


def _parsed(image: ImageSource) -> Reference:
    id = image.reference.removeprefix("sha256:")
    if is_identifier(id):
        return Reference("", "", "", image.reference)
    return parse_normalized(image.reference)


def _tagged(image: ImageSource) -> str:
    parsed = _parsed(image)
    return f"{parsed.name}:{parsed.tag or 'latest'}"
