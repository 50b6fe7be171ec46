"""prune: containers, images, networks, volumes, everything."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sampan.cli.command import flag, listing, option, verb
from sampan.cli.values import BYTES, FILTER, filters
from sampan.names.units import human_size

if TYPE_CHECKING:
    from sampan.cli.session import Session

_QUESTION = "Are you sure you want to continue? [y/N] "


def _confirmed(warning: str, *, force: bool) -> bool:
    if force:
        return True
    print(f"{warning}\n{_QUESTION}", end="", flush=True)
    return sys.stdin.readline().strip().lower() == "y"


def _print(title: str, names: list[str] | None) -> None:
    if names:
        print(f"{title}:\n" + "\n".join(names) + "\n")


def _reclaimed(size: int) -> None:
    print(f"Total reclaimed space: {human_size(size)}")


def _post(session: Session, kind: str, given: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = session.call("POST", f"/{kind}/prune", {"filters": given or None})
    return answer


@verb("[OPTIONS]", "Remove all stopped containers", aliases=("container prune",))
@listing("--filter", kind=FILTER, help='Provide filter values (e.g. "until=<timestamp>")')
@flag("-f", "--force", help="Do not prompt for confirmation")
def container_prune(
    session: Session, args: tuple[str, ...], filter: tuple[tuple[str, str], ...], force: bool
) -> None:
    if _confirmed("WARNING! This will remove all stopped containers.", force=force):
        answer = _post(session, "containers", filters(filter))
        _print("Deleted Containers", answer.get("ContainersDeleted"))
        _reclaimed(answer.get("SpaceReclaimed", 0))


@verb("[OPTIONS]", "Remove unused images", aliases=("image prune",))
@flag("-a", "--all", help="Remove all unused images, not just dangling ones")
@listing("--filter", kind=FILTER, help='Provide filter values (e.g. "until=<timestamp>")')
@flag("-f", "--force", help="Do not prompt for confirmation")
def image_prune(
    session: Session, args: tuple[str, ...], all: bool, filter: tuple[tuple[str, str], ...], force: bool
) -> None:
    what = "images without at least one container associated to them" if all else "dangling images"
    if _confirmed(f"WARNING! This will remove all {what}.", force=force):
        answer = _post(session, "images", filters([*filter, ("dangling", "false" if all else "true")]))
        _print("Deleted Images", _image_lines(answer))
        _reclaimed(answer.get("SpaceReclaimed", 0))


def _image_lines(answer: dict[str, Any]) -> list[str]:
    return [
        f"untagged: {entry['Untagged']}" if entry.get("Untagged") else f"deleted: {entry['Deleted']}"
        for entry in answer.get("ImagesDeleted") or []
    ]


@verb("[OPTIONS]", "Remove all unused networks", aliases=("network prune",))
@listing("--filter", kind=FILTER, help='Provide filter values (e.g. "until=<timestamp>")')
@flag("-f", "--force", help="Do not prompt for confirmation")
def network_prune(
    session: Session, args: tuple[str, ...], filter: tuple[tuple[str, str], ...], force: bool
) -> None:
    warning = "WARNING! This will remove all custom networks not used by at least one container."
    if _confirmed(warning, force=force):
        _print("Deleted Networks", _post(session, "networks", filters(filter)).get("NetworksDeleted"))


@verb("[OPTIONS]", "Remove unused local volumes", aliases=("volume prune",))
@flag("-a", "--all", help="Remove all unused volumes, not just anonymous ones")
@listing("--filter", kind=FILTER, help='Provide filter values (e.g. "label=<label>")')
@flag("-f", "--force", help="Do not prompt for confirmation")
def volume_prune(
    session: Session, args: tuple[str, ...], all: bool, filter: tuple[tuple[str, str], ...], force: bool
) -> None:
    which = "local volumes" if all else "anonymous local volumes"
    if _confirmed(f"WARNING! This will remove {which} not used by at least one container.", force=force):
        answer = _post(session, "volumes", filters([*filter, *([("all", "1")] if all else [])]))
        _print("Deleted Volumes", answer.get("VolumesDeleted"))
        _reclaimed(answer.get("SpaceReclaimed", 0))


@verb("[OPTIONS]", "Remove build cache", aliases=("builder prune",))
@flag("-a", "--all", help="Remove all unused build cache, not just dangling ones")
@listing("--filter", kind=FILTER, help='Provide filter values (e.g. "until=24h")')
@flag("-f", "--force", help="Do not prompt for confirmation")
@option("--keep-storage", kind=BYTES, default=0, help="Amount of disk space to keep for cache")
@option(
    "--max-used-space", kind=BYTES, default=0, help="Maximum amount of disk space allowed to keep for cache"
)
@option("--min-free-space", kind=BYTES, default=0, help="Target amount of free disk space after pruning")
@option(
    "--reserved-space", kind=BYTES, default=0, help="Amount of disk space always allowed to keep for cache"
)
def builder_prune(
    session: Session,
    args: tuple[str, ...],
    all: bool,
    filter: tuple[tuple[str, str], ...],
    force: bool,
    keep_storage: int,
    max_used_space: int,
    min_free_space: int,
    reserved_space: int,
) -> None:
    what = "all build cache" if all else "all dangling build cache"
    if not _confirmed(f"WARNING! This will remove {what}.", force=force):
        return
    limits = {
        "all": all,
        "max-used-space": max_used_space or None,
        "min-free-space": min_free_space or None,
        "reserved-space": reserved_space or keep_storage or None,
    }
    answer = session.call("POST", "/build/prune", {"filters": filters(filter) or None, **limits})
    _print("Deleted build cache objects", answer.get("CachesDeleted"))
    _reclaimed(answer.get("SpaceReclaimed", 0))


@verb("[OPTIONS]", "Remove unused data", aliases=("system prune",))
@flag("-a", "--all", help="Remove all unused images not just dangling ones")
@listing("--filter", kind=FILTER, help='Provide filter values (e.g. "label=<key>=<value>")')
@flag("-f", "--force", help="Do not prompt for confirmation")
@flag("--volumes", help="Prune anonymous volumes")
def system_prune(
    session: Session,
    args: tuple[str, ...],
    all: bool,
    filter: tuple[tuple[str, str], ...],
    force: bool,
    volumes: bool,
) -> None:
    lines = ["all stopped containers", "all networks not used by at least one container"]
    lines += ["all anonymous volumes not used by at least one container"] if volumes else []
    lines.append(
        "all images without at least one container associated to them" if all else "all dangling images"
    )
    lines.append("all build cache" if all else "unused build cache")
    warning = "WARNING! This will remove:\n" + "\n".join(f"  - {line}" for line in lines) + "\n"
    if not _confirmed(warning, force=force):
        return
    containers = _post(session, "containers", filters(filter))
    _print("Deleted Containers", containers.get("ContainersDeleted"))
    _print("Deleted Networks", _post(session, "networks", filters(filter)).get("NetworksDeleted"))
    freed = containers.get("SpaceReclaimed", 0)
    if volumes:
        removed = _post(session, "volumes", filters(pair for pair in filter if pair[0] != "until"))
        _print("Deleted Volumes", removed.get("VolumesDeleted"))
        freed += removed.get("SpaceReclaimed", 0)
    images = _post(session, "images", filters([*filter, ("dangling", "false" if all else "true")]))
    _print("Deleted Images", _image_lines(images))
    freed += images.get("SpaceReclaimed", 0)
    kept = filters(pair for pair in filter if pair[0] != "label")
    cache = session.call("POST", "/build/prune", {"filters": kept or None, "all": all})
    _print("Deleted build cache objects", cache.get("CachesDeleted"))
    _reclaimed(freed + cache.get("SpaceReclaimed", 0))
