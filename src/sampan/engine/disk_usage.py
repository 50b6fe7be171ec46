"""`docker system df`: what images, containers, volumes and build cache take, in the form of the API's version.

Until 1.51 the answer is a list per kind. Since 1.52 each kind has an object with totals, and the lists are there too unless the
client asks to be `verbose`, so that clients can move from one to the other. Figures of 0 are left out of the objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.build.upkeep import Kept
from sampan.images.listing import in_words_of
from sampan.names.times import format_rfc3339_nano

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

KINDS = ("container", "image", "volume", "build-cache")


async def disk_usage(
    engine: Engine, kinds: Iterable[str], version: tuple[int, int], *, verbose: bool = False
) -> dict[str, Any]:
    """Only the kinds that are asked for are measured, the others are left out."""
    wanted = set(kinds)
    objects = version >= (1, 52)
    lists = not (objects and verbose)
    answer: dict[str, Any] = {}
    for kind, measure in (
        ("image", _images),
        ("container", _containers),
        ("volume", _volumes),
        ("build-cache", _build_cache),
    ):
        if kind in wanted:
            usage, listed = await measure(engine, version)
            answer |= {name: value for name, value in usage.items() if objects}
            answer |= {name: value for name, value in listed.items() if lists}
    return answer


async def _images(engine: Engine, version: tuple[int, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    usage = await engine.images.disk_usage()
    for item in usage.items:
        in_words_of(item, version)
    totals = _object(usage.active_count, usage.items, usage.reclaimable, usage.total_size)
    return {"ImageUsage": totals}, {"LayersSize": usage.total_size, "Images": usage.items}


async def _containers(engine: Engine, version: tuple[int, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    items = await engine.containers.disk_usage()
    idle = [item for item in items if item["State"] not in ("running", "paused", "restarting")]
    totals = _object(len(items) - len(idle), items, _sum(idle), _sum(items))
    return {"ContainerUsage": totals}, {"Containers": items}


async def _volumes(engine: Engine, version: tuple[int, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    items = msgspec.to_builtins(await engine.volumes.disk_usage())
    idle = [item for item in items if not item["UsageData"]["RefCount"]]
    sizes, freed = (sum(max(0, item["UsageData"]["Size"]) for item in group) for group in (items, idle))
    return {"VolumeUsage": _object(len(items) - len(idle), items, freed, sizes)}, {"Volumes": items}


async def _build_cache(engine: Engine, version: tuple[int, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    kept = await engine.builds.graphs.upkeep.usage()
    items = [_cache_record(each, version) for each in kept]
    own = [each for each in kept if not each.shared]
    totals = _object(
        sum(each.in_use for each in kept),
        items,
        sum(each.size for each in own if not each.in_use),
        sum(each.size for each in own),
    )
    return {"BuildCacheUsage": totals}, {"BuildCache": items}


def _cache_record(kept: Kept, version: tuple[int, int]) -> dict[str, Any]:
    parents: dict[str, Any] = {"Parents": list(kept.parents)} if kept.parents and version >= (1, 42) else {}
    if version < (1, 42):
        parents = {"Parent": kept.parents[0] if kept.parents else ""}
    return {
        "ID": kept.id,
        **parents,
        "Type": kept.kind,
        "Description": kept.description,
        "InUse": kept.in_use,
        "Shared": kept.shared,
        "Size": kept.size,
        "CreatedAt": format_rfc3339_nano(kept.created_ns),
        "LastUsedAt": format_rfc3339_nano(kept.used_ns),
        "UsageCount": kept.uses,
    }


def _object(active: int, items: Sequence[Any], reclaimable: int, size: int) -> dict[str, Any]:
    fields = {
        "ActiveCount": active,
        "Items": items,
        "Reclaimable": reclaimable,
        "TotalCount": len(items),
        "TotalSize": size,
    }
    return {name: value for name, value in fields.items() if value}


def _sum(containers: Iterable[Mapping[str, Any]]) -> int:
    return sum(item.get("SizeRw", 0) for item in containers)
