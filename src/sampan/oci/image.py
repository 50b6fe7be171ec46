"""Images as documents: OCI image spec v1.1 and Docker's older forms of the same, as typed structs.

Three rules hold for all of them:

- **Digests are over bytes.** A blob is kept as it came; these structs are a reading of it. Never write a
  document back that was only read: fields unknown here would be lost and the digest would change.
- **JSON as Go reads it**: null is the same as absent, unknown fields are ignored, `Cmd` may be a string.
- **Anything else of the wrong shape is refused** with an error that names the field (`$.layers[0].size`).
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from sampan.errors import InvalidParameter
from sampan.names.digest import Digest, digest_of, parse_digest

# -- media types -----------------------------------------------------------------------------------

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
IN_TOTO = "application/vnd.in-toto+json"

OCI_LAYERS = {DOCKER_LAYER: OCI_LAYER, DOCKER_LAYER_GZIP: OCI_LAYER_GZIP, DOCKER_LAYER_ZSTD: OCI_LAYER_ZSTD}
"""Docker's types of layers, and what OCI calls the same."""

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})

ANNOTATION_REF_NAME = "org.opencontainers.image.ref.name"
ANNOTATION_CREATED = "org.opencontainers.image.created"
ANNOTATION_IMAGE_NAME = "io.containerd.image.name"
"""The full reference of an entry in an `index.json` that Docker or containerd wrote."""
ANNOTATION_REFERENCE_TYPE = "vnd.docker.reference.type"
"""`attestation-manifest` marks the manifests that describe another one, named by the next annotation."""
ANNOTATION_REFERENCE_DIGEST = "vnd.docker.reference.digest"

DOCUMENT_LIMIT = 8 << 20
"""Bytes above which a manifest, index or config is refused unread; registries allow 4 MiB."""


def is_layer_type(media_type: str) -> bool:
    """Whether descriptors of this type name a file-system layer."""
    return media_type.startswith(("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."))


# -- descriptors, indexes, manifests ---------------------------------------------------------------


def _check_digest(text: str) -> None:
    """Raises ValueError, which msgspec completes with the place in the document."""
    try:
        parse_digest(text)
    except InvalidParameter as error:
        raise ValueError(f"{error}: {text!r}") from None


class Platform(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A platform as descriptors carry it (image-index.md)."""

    architecture: str = ""
    os: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A reference to a blob: what it is, how long it is, and its digest (descriptor.md)."""

    media_type: str = ""
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    data: str = ""
    """The blob itself in base64, sometimes."""
    platform: Platform | None = None
    artifact_type: str = ""

    def __post_init__(self) -> None:
        _check_digest(self.digest)
        if self.size < 0:
            raise ValueError(f"negative size {self.size}")

    @property
    def checked_digest(self) -> Digest:
        """The digest, which construction has validated."""
        return Digest(self.digest)


def _no_descriptors() -> list[Descriptor]:
    """The default of a list that is written even when it is empty (msgspec omits what `list` made)."""
    return []


class Index(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """An image index or Docker manifest list: one image for several platforms (image-index.md)."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    manifests: list[Descriptor] = msgspec.field(default_factory=_no_descriptors)
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class Manifest(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """An image manifest: one config and the layers, lowest first (manifest.md)."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor
    layers: list[Descriptor] = msgspec.field(default_factory=_no_descriptors)
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class Layout(msgspec.Struct, kw_only=True, rename="camel"):
    """The file `oci-layout` of an image layout directory."""

    image_layout_version: str


class ArchiveImage(msgspec.Struct, kw_only=True):
    """One entry of `manifest.json` in a docker-archive; the paths are names in the archive."""

    config: str = msgspec.field(name="Config")
    repo_tags: list[str] | None = msgspec.field(default=None, name="RepoTags")
    layers: list[str] = msgspec.field(default_factory=list, name="Layers")
    parent: str = msgspec.field(default="", name="Parent")
    layer_sources: dict[str, Descriptor] = msgspec.field(default_factory=dict, name="LayerSources")


# -- the image config ------------------------------------------------------------------------------


class Healthcheck(msgspec.Struct, kw_only=True, omit_defaults=True, rename="pascal"):
    """How Docker tests that a container works; times in nanoseconds, 0 inherits."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(msgspec.Struct, kw_only=True, omit_defaults=True, rename="pascal"):
    """What a container of the image starts with: `config` of the image config, with Docker's extras.

    None and the empty list differ for Docker (inherit against none), so lists and maps are optional.
    """

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] | None = None


class RootFS(msgspec.Struct, kw_only=True):
    """The layers by the digests of their uncompressed archives, lowest first."""

    type: str = "layers"
    diff_ids: list[str] = []

    def __post_init__(self) -> None:
        for diff_id in self.diff_ids:
            _check_digest(diff_id)


class History(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One step of how the image came about."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The image config blob (config.md), with what Docker's own images add."""

    id: str = ""
    parent: str = ""
    comment: str = ""
    created: str | None = None
    """RFC 3339, as written."""
    container: str = ""
    container_config: ContainerConfig | None = None
    docker_version: str = ""
    author: str = ""
    config: ContainerConfig | None = None
    architecture: str = msgspec.field(default_factory=str)
    variant: str = ""
    os: str = msgspec.field(default_factory=str)
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: list[str] = msgspec.field(default_factory=list, name="os.features")
    rootfs: RootFS = msgspec.field(default_factory=RootFS)
    history: list[History] = []
    inline_cache: str = msgspec.field(default="", name="moby.buildkit.cache.v0")
    """BuildKit's records of build cache about the image's own layers, in base64."""


# -- reading and writing ---------------------------------------------------------------------------

_Document = TypeVar("_Document", Index, Manifest, ImageConfig, Layout)
_STRING_OR_LIST = ("Cmd", "Entrypoint", "Shell")


def parse_index(data: bytes, name: str = "index") -> Index:
    """Raises InvalidParameter naming the field; also for a document that is a manifest at the same time."""
    return _read(data, Index, name, forbidden=("layers", "config", "fsLayers"))


def parse_manifest(data: bytes, name: str = "manifest") -> Manifest:
    """Raises InvalidParameter naming the field; also for a document that is an index at the same time."""
    return _read(data, Manifest, name, forbidden=("manifests", "fsLayers"))


def parse_config(data: bytes, name: str = "image config") -> ImageConfig:
    """Raises InvalidParameter naming the field."""
    return _read(data, ImageConfig, name)


def parse_layout(data: bytes, name: str = "oci-layout") -> Layout:
    """Raises InvalidParameter for anything but version 1."""
    layout = _read(data, Layout, name)
    if not layout.image_layout_version.startswith("1."):
        raise InvalidParameter(f"{name}: unsupported image layout version {layout.image_layout_version!r}")
    return layout


def parse_archive_manifest(data: bytes, name: str = "manifest.json") -> list[ArchiveImage]:
    """The entries of a docker-archive's `manifest.json`. Raises InvalidParameter naming the field."""
    document = _plain(data, name)
    if not isinstance(document, list):
        raise InvalidParameter(f"{name}: expected an array of images")
    return _convert(document, list[ArchiveImage], name)


def encode(document: Index | Manifest | ImageConfig | Layout | list[ArchiveImage]) -> bytes:
    """The document as compact JSON, fields in the order of the specification: same value, same bytes, same
    digest.
    """
    return msgspec.json.encode(document)


def stated_media_type(data: bytes) -> str:
    """What a manifest or index says that it is, or which of the two it looks like. Raises `msgspec.DecodeError`."""
    document = msgspec.json.decode(data, type=dict[str, object])
    return str(document.get("mediaType") or (OCI_INDEX if "manifests" in document else OCI_MANIFEST))


def describe(data: bytes, media_type: str, **fields: Any) -> Descriptor:
    """The descriptor of bytes in memory; `fields` are further fields of it."""
    return Descriptor(media_type=media_type, digest=digest_of(data), size=len(data), **fields)


def chain_ids(diff_ids: list[str]) -> list[Digest]:
    """The chain id of each layer: the digest that names it together with all below it (config.md, "Layer
    ChainID").
    """
    chain: list[Digest] = []
    for diff_id in diff_ids:
        checked = parse_digest(diff_id)
        chain.append(digest_of(f"{chain[-1]} {checked}".encode()) if chain else checked)
    return chain


def _read(data: bytes, type_: type[_Document], name: str, forbidden: tuple[str, ...] = ()) -> _Document:
    document = _plain(data, name)
    if not isinstance(document, dict):
        raise InvalidParameter(f"{name}: expected a JSON object")
    # CVE-2021-41190: one document that is a manifest to one reader and an index to another.
    for key in forbidden:
        if key in document:
            raise InvalidParameter(f"{name}: unexpected field `{key}` (ambiguous or unsupported document)")
    if "schemaVersion" in document and document["schemaVersion"] != 2:
        raise InvalidParameter(
            f"{name}: unsupported schemaVersion {document['schemaVersion']!r} - at `$.schemaVersion`"
        )
    return _convert(document, type_, name)


_T = TypeVar("_T")


def _convert(document: object, type_: type[_T], name: str) -> _T:
    try:
        return msgspec.convert(document, type_)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"{name}: {error}") from None


def _plain(data: bytes, name: str) -> object:
    if len(data) > DOCUMENT_LIMIT:
        raise InvalidParameter(
            f"{name}: {len(data)} bytes, more than the {DOCUMENT_LIMIT} allowed for a document"
        )
    try:
        return _as_go(msgspec.json.decode(data))
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidParameter(f"{name}: invalid JSON: {error}") from None


def _as_go(value: Any) -> Any:
    """Drop nulls from objects (null is absent) and make lists of command strings."""
    if isinstance(value, dict):
        kept = {key: _as_go(item) for key, item in value.items() if item is not None}
        for key in _STRING_OR_LIST:
            if isinstance(kept.get(key), str):
                kept[key] = [kept[key]]
        return kept
    if isinstance(value, list):
        return [_as_go(item) for item in value]
    return value
