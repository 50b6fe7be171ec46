"""`docker search` with its filters, and what `docker buildx` and Swarm ask a registry: what an image's name means there."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from sampan.engineapi.filters import Filters
from sampan.errors import InvalidParameter, SampanError
from sampan.images.remote import unresolved
from sampan.names.reference import Reference
from sampan.oci.image import (
    ANNOTATION_REFERENCE_TYPE,
    CONFIG_TYPES,
    INDEX_TYPES,
    Descriptor,
    Platform,
    parse_config,
    parse_index,
    parse_manifest,
)
from sampan.registry.client import RegistryClient
from sampan.registry.credentials import Credentials
from sampan.registry.failures import ConnectionFailed
from sampan.registry.search import SearchResult

_FILTERS = ("is-automated", "is-official", "stars")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


class DistributionInspect(msgspec.Struct, rename="pascal"):
    """What an image's name means at its registry (`GET /distribution/{name}/json`)."""

    descriptor: Descriptor
    platforms: list[Platform]


class _Wanted(NamedTuple):
    official: bool | None
    stars: int


async def search(
    client: RegistryClient, term: str, limit: int, filters: Filters, credentials: Credentials
) -> list[SearchResult]:
    """Search a registry. Raises `InvalidParameter` for an unknown filter, a wrong value or a limit out of range."""
    for key in filters:
        if key not in _FILTERS:
            raise InvalidParameter(f"invalid filter '{key}'")
    if _flag(filters, "is-automated"):
        return []  # automated builds are no more; whatever a registry says of them is untrue
    wanted = _Wanted(_flag(filters, "is-official"), _stars(filters))
    found = await client.search(term, limit, credentials)
    return [
        msgspec.structs.replace(each, is_automated=False)
        for each in found
        if (wanted.official is None or each.is_official == wanted.official)
        and each.star_count >= wanted.stars
    ]


async def inspect_distribution(
    client: RegistryClient, reference: Reference, credentials: Credentials
) -> DistributionInspect:
    """Ask the registry. Raises as a pull does."""
    repository = client.repository(reference, credentials)
    try:
        target = await repository.resolve(reference.digest or reference.tag)
        data = await repository.manifest(target)
    except ConnectionFailed:
        await client.ping(reference.domain)  # fails in the words that dockerd has for it
        raise
    except SampanError as error:
        raise unresolved(error, reference, repository.mirrors_report()) from error
    if target.media_type in INDEX_TYPES:
        children = parse_index(data, target.digest).manifests
        found = [
            each.platform
            for each in children
            if each.platform is not None and ANNOTATION_REFERENCE_TYPE not in each.annotations
        ]
        return DistributionInspect(target, found)
    manifest = parse_manifest(data, target.digest)
    if manifest.config.media_type not in CONFIG_TYPES:
        return DistributionInspect(target, [])
    config = parse_config(await repository.document(manifest.config), manifest.config.digest)
    platform = Platform(
        architecture=config.architecture, os=config.os, os_version=config.os_version, variant=config.variant
    )
    return DistributionInspect(target, [platform])


def _flag(filters: Filters, name: str) -> bool | None:
    values = filters.get(name)
    if not values:
        return None
    known = {"1": True, "true": True, "0": False, "false": False}
    found = {known.get(value) for value in values}
    if len(found) != 1 or None in found:
        raise InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")
    return found.pop()


def _stars(filters: Filters) -> int:
    most = 0
    for value in filters.get("stars"):
        if not _NUMBER.fullmatch(value):
            raise InvalidParameter(
                f"invalid filter 'stars={value}': strconv.Atoi: parsing \"{value}\": invalid syntax"
            )
        most = max(most, int(value))
    return most
