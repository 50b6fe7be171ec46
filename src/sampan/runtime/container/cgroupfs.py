"""/sys/fs/cgroup as the container sees it: its own subtree, whatever the host's layout. cgroups(7)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from sampan.linux import mount as mnt

if TYPE_CHECKING:
    from sampan.runtime.container.mountoptions import MountOptions

CGROUP_ROOT = "/sys/fs/cgroup"


class Hierarchy(NamedTuple):
    """One hierarchy of the host's and the container's place in it."""

    name: str
    """Directory in the container's /sys/fs/cgroup; "" for the unified hierarchy, mounted there itself."""
    controllers: list[str]
    tree: int
    """Detached mount of the container's directory; -1 when a cgroup namespace makes it unnecessary."""


def open_hierarchies(cgroup_paths: dict[str, str], *, own_cgroupns: bool) -> list[Hierarchy]:
    """The parent's part: open the container's cgroup directories (`Cgroup.paths`) as detached mounts."""
    by_directory: dict[str, list[str]] = {}
    for controller, directory in cgroup_paths.items():
        by_directory.setdefault(directory, []).append(controller)
    hierarchies = []
    for directory, controllers in by_directory.items():
        tree = -1 if own_cgroupns else mnt.clone_mount(directory)
        hierarchies.append(Hierarchy(_name(directory, controllers), controllers, tree))
    return hierarchies


def _name(directory: str, controllers: list[str]) -> str:
    if controllers == [""]:
        return ""
    if directory.startswith(CGROUP_ROOT + "/"):
        return directory[len(CGROUP_ROOT) + 1 :].partition("/")[0]
    return ",".join(controllers).removeprefix("name=")


def mount_cgroups(target: int, options: MountOptions, hierarchies: list[Hierarchy]) -> None:
    """The stub's part: mount them on the descriptor `target`. Closes their trees.

    CVE-2022-0492: a writable release_agent is root on the host. The binds (or the cgroup namespace) show the
    container's own subtree, whose top has no such file, and everything carries the mount's own `ro`.
    """
    if len(hierarchies) == 1 and not hierarchies[0].name:
        top = hierarchies[0].tree
        if top < 0:
            top = mnt.new_filesystem("cgroup2", {"source": "cgroup"}, options.attributes.set)
        else:
            mnt.mount_setattr(top, set_attributes=options.attributes.set, propagation=mnt.MS_PRIVATE)
        mnt.move_mount(top, target)
        os.close(top)
        return
    top = mnt.new_filesystem("tmpfs", {"source": "tmpfs", "mode": "755"})
    mnt.move_mount(top, target)
    for hierarchy in hierarchies:
        tree = hierarchy.tree if hierarchy.tree >= 0 else _new_v1(hierarchy.controllers)
        os.mkdir(hierarchy.name, 0o755, dir_fd=top)
        mnt.move_mount(tree, top, hierarchy.name)
        os.close(tree)
        for controller in hierarchy.controllers:
            link = controller.removeprefix("name=")
            if link != hierarchy.name:
                os.symlink(hierarchy.name, link, dir_fd=top)
    # One call for the tmpfs and all beneath it.
    mnt.mount_setattr(top, set_attributes=options.attributes.set, propagation=mnt.MS_PRIVATE, recursive=True)
    os.close(top)


def _new_v1(controllers: list[str]) -> int:
    """A mount of an existing v1 hierarchy, rooted where the caller's cgroup namespace is."""
    settings: dict[str, str | None] = {}
    for controller in controllers:
        if controller.startswith("name="):
            settings["none"] = None
            settings["name"] = controller.removeprefix("name=")
        else:
            settings[controller] = None
    return mnt.new_filesystem("cgroup", {"source": "cgroup", **settings})
