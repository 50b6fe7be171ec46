"""A frontend's result as exporters take it: by its metadata, which file system is for which platform, and what its image says."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.buildkit.caching import INLINE
from sampan.buildkit.frontends import CONFIG, EPOCH, PLATFORMS
from sampan.errors import InvalidParameter
from sampan.exporters.results import PlatformResult, Results
from sampan.images.documents import config_platform
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.oci import defaults
from sampan.oci.image import ContainerConfig, ImageConfig, parse_config
from sampan.oci.image import Platform as Described
from sampan.solver.interface import EMPTY, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.buildkit.jobs import Ref, Result

_EPOCH_OPTION = "source-date-epoch"


class Listed(NamedTuple):
    """A platform that a result says it has."""

    id: str
    platform: Platform


class _Entry(msgspec.Struct):
    ID: str = ""
    Platform: Described = Described()


class _Mapping(msgspec.Struct):
    Platforms: list[_Entry] = []


async def made(result: Result, attributes: Mapping[str, str]) -> Results:
    """Every platform's files, made now; `attributes` are the exporter's. Raises `InvalidParameter`, `VertexFailed`."""
    found = listed(result)
    trees = await asyncio.gather(*(_tree(result.find(each.id)) for each in found))
    several = not result.is_single
    return Results(
        [
            PlatformResult(
                each.id, each.platform, tree, _config(result, each), epoch(result, each.id, attributes)
            )
            for each, tree in zip(found, trees, strict=True)
        ],
        several,
    )


def listed(result: Result) -> list[Listed]:
    """The platforms of a result (`refs.platforms`); of one that does not say, that of its image's configuration.

    Raises `InvalidParameter` for a mapping that makes no sense.
    """
    several = not result.is_single
    if PLATFORMS not in result.metadata:
        if several:
            raise InvalidParameter("unable to export multiple refs, missing platforms mapping")
        data = result.metadata.get(CONFIG)
        platform = _platform_of(parse_config(data)) if data else platforms.local()
        return [Listed(str(platform), platform)]
    try:
        entries = msgspec.json.decode(result.metadata[PLATFORMS], type=_Mapping).Platforms
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"failed to parse platforms of the result: {error}") from None
    if not entries:
        raise InvalidParameter("invalid empty platforms index for exporter")
    found = list({each.id: each for each in map(_listed, entries)}.values())
    if not several and len(found) > 1:
        raise InvalidParameter("cannot export multiple platforms without multi-platform enabled")
    return found


def epoch(result: Result, id: str, attributes: Mapping[str, str]) -> int | None:
    """The time (seconds) that an exporter's attributes give, an empty one being none; else the frontend's."""
    text = attributes.get(_EPOCH_OPTION)
    if text is None:
        text = result.about(EPOCH, id).decode(errors="replace")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise InvalidParameter(f"invalid SOURCE_DATE_EPOCH: {text}") from None


def _listed(entry: _Entry) -> Listed:
    if not entry.ID:
        raise InvalidParameter("invalid empty platform key for exporter")
    given = entry.Platform
    if not given.os or not given.architecture:
        raise InvalidParameter(f"invalid platform value of {entry.ID} for exporter")
    platform = Platform(given.os, given.architecture, given.variant, given.os_version)
    return Listed(entry.ID, platforms.normalize(platform))


def _platform_of(config: ImageConfig) -> Platform:
    if not config.os and not config.architecture:
        return platforms.local()
    if not config.os or not config.architecture:
        raise InvalidParameter("invalid image config: os and architecture must be specified together")
    return config_platform(config)


async def _tree(ref: Ref | None) -> Tree:
    return await ref.tree() if ref is not None else EMPTY


def _config(result: Result, listed: Listed) -> ImageConfig:
    data = result.about(CONFIG, listed.id)
    config = parse_config(data) if data else _usual_config(listed.platform)
    # What a frontend gives as configuration may be its base's, with that one's records.
    config.inline_cache = b64encode(result.about(INLINE, listed.id)).decode()
    return config


def _usual_config(platform: Platform) -> ImageConfig:
    """Of an image about which nothing was said."""
    return ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        os_version=platform.os_version,
        config=ContainerConfig(env=[f"PATH={defaults.PATH}"], working_dir="/"),
    )
