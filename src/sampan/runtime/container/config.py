"""What the parent tells a stub, as TypedDicts: they cross the socket by `marshal`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Required, TypedDict

if TYPE_CHECKING:
    from sampan.oci.runtime import Mount, Process, Spec


class InitConfig(TypedDict, total=False):
    """A container to be made. The spec must be valid (`sampan.oci.validation`)."""

    id: Required[str]
    spec: Required[Spec]
    bundle: Required[str]
    """Directory of the container's run-time files; relative `root.path` and the state document refer to it."""
    rootfs: list[Mount]
    """Mounts that make the root, in the container's own mount namespace only. Absent: `spec.root.path`, which
    is made a mount there. `destination` is where beneath the root; the first must be "/"."""
    cgroup_paths: dict[str, str]
    """`Cgroup.paths` of the container's cgroup, needed when the spec mounts one."""
    die_with_parent: bool
    """SIGKILL for the container when the parent ends: a killed shim must not leave an orphan that nobody logs."""
    no_pivot: bool
    """chroot instead of pivot_root (for roots on an initramfs)."""
    no_new_keyring: bool
    """Keep the parent's session keyring."""
    skip_namespaces: list[str]
    """Namespaces of the spec that the stub must leave as they are (the caller has made them already)."""


class JoinConfig(TypedDict, total=False):
    """A further process for a running container."""

    id: Required[str]
    process: Required[Process]
    rootless: bool
    no_new_keyring: bool
    die_with_parent: bool
    bundle: str
    personality: dict[str, object]
