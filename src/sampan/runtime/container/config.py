"""What the parent tells a stub, as TypedDicts: they cross the socket as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Required, TypedDict

if TYPE_CHECKING:
    from sampan.oci.runtime import Mount, Personality, Process, Spec


class InitConfig(TypedDict, total=False):
    """A container to be made. The spec must be valid (`sampan.oci.validation`)."""

    id: Required[str]
    spec: Required[Spec]
    bundle: Required[str]
    """Directory of the container's run-time files; relative paths of the spec and the state document refer to it."""
    rootfs: list[Mount]
    """Mounts that make the root, in the container's own mount namespace only; `destination` is the place
    beneath the root, of the first "/". Absent: the directory `spec.root.path`, made a mount there."""
    cgroup_paths: dict[str, str]
    """`Cgroup.paths` of the container's cgroup, needed when the spec mounts one."""
    user: str
    """Docker's USER syntax, resolved by the image's own files; replaces the spec's uid, gid and additionalGids."""
    groups: list[str]
    """Beside `user`: further groups, by name or number (`--group-add`)."""
    die_with_parent: bool
    """SIGKILL for the container when the parent ends: a killed shim must not leave what nobody watches."""
    no_pivot: bool
    """Move and chroot instead of pivot_root (for roots on an initramfs)."""
    no_new_keyring: bool
    """Keep the parent's session keyring."""
    init: bool
    """Stay as pid 1 and run the program beneath (`reaper`)."""


class JoinConfig(TypedDict, total=False):
    """A further process for a running container."""

    id: Required[str]
    process: Required[Process]
    user: str
    groups: list[str]
    die_with_parent: bool
    no_new_keyring: bool
    personality: Personality
    bundle: str
    """Of the container; with `annotations`, for the agent of a filter with notifications."""
    annotations: dict[str, str]
