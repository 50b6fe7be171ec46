"""Types of the Engine API's volume requests and answers.

Source: the Engine API definition, `Volume`, `VolumeCreateRequest`, `VolumeListResponse`.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field


class VolumeCreateRequest(Struct, rename="pascal"):
    """Body of POST /volumes/create. Every field is optional: without a name the volume is anonymous."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, object] | None = None


class UsageData(Struct, rename="pascal"):
    """What a volume costs; -1 where it is not known."""

    size: int
    """Bytes."""
    ref_count: int


class Volume(Struct, rename="pascal", kw_only=True):
    """A volume as every route prints it. Labels and options are null where none were given."""

    created_at: str
    """RFC 3339, whole seconds."""
    driver: str
    labels: dict[str, str] | None
    mountpoint: str
    """Host path of the data."""
    name: str
    options: dict[str, str] | None
    scope: str = "local"
    usage_data: UsageData | UnsetType = UNSET
    """Of `/system/df` only."""


class VolumeList(Struct, rename="pascal"):
    """Answer of GET /volumes."""

    volumes: list[Volume]
    warnings: list[str] | None = None


class VolumesPruned(Struct, rename="pascal"):
    """Answer of POST /volumes/prune."""

    volumes_deleted: list[str]
    space_reclaimed: int = field(default=0)
    """Bytes."""
