"""The container's root file system, built by descriptors beneath the root's own descriptor.

A destination in the spec is a path inside an image, hence hostile: any part of it may be a symbolic link, or
become one while we look (CVE-2021-30465, CVE-2019-19921). So a target is resolved once, by openat2 with
RESOLVE_IN_ROOT, and mounts are moved onto *that descriptor*; no path of the container is ever given to mount(2).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from sampan.linux import mount as mnt
from sampan.linux import path as paths
from sampan.runtime.container.cgroupfs import mount_cgroups
from sampan.runtime.container.copyup import copy_tree
from sampan.runtime.container.failure import Step, reason
from sampan.runtime.container.mountoptions import MountOptions, parse_options
from sampan.runtime.container.procfs import is_procfs, is_procfs_root
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import Mount
    from sampan.runtime.container.cgroupfs import Hierarchy
    from sampan.runtime.container.procfs import Proc

_FSCONFIG_STRING = 255

_COVERABLE_IN_PROC = frozenset(
    {"cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo"}
    | {"net/dev", "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"}
)
"""Files of /proc that a mount may cover (lxcfs does); anything else could fake what the runtime writes to."""

_PROPAGATION = {
    "private": mnt.MS_PRIVATE, "rprivate": mnt.MS_PRIVATE | mnt.MS_REC,
    "slave": mnt.MS_SLAVE, "rslave": mnt.MS_SLAVE | mnt.MS_REC,
    "shared": mnt.MS_SHARED, "rshared": mnt.MS_SHARED | mnt.MS_REC,
    "unbindable": mnt.MS_UNBINDABLE, "runbindable": mnt.MS_UNBINDABLE | mnt.MS_REC,
}  # fmt: skip


def propagation_flags(name: str) -> int:
    """mount(2) flags of `linux.rootfsPropagation`. Raises LaunchError for an unknown word."""
    try:
        return _PROPAGATION[name or "rslave"]
    except KeyError:
        raise LaunchError(f'rootfsPropagation="{name}" is not supported', "other") from None


class Root:
    """A root file system under construction, in the stub's own mount namespace."""

    def __init__(self, proc: Proc, trees: list[tuple[str, int]]) -> None:
        """Attach the detached `trees`, the root first. It goes on top of "/", which every namespace has."""
        self._proc = proc
        self.fd = trees[0][1]
        with Step("attaching the root file system"):
            # Nothing mounted in here may appear on the host, whatever its tree was cloned from.
            mnt.mount_setattr(self.fd, propagation=mnt.MS_PRIVATE)
            anchor = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            mnt.move_mount(self.fd, anchor)
            os.close(anchor)
        for destination, descriptor in trees[1:]:
            with Step(f'mounting at "{destination}"'):
                target = self.target(destination, is_directory=paths.is_directory(descriptor))
                mnt.move_mount(descriptor, target)
                os.close(target)
        self.devpts = -1
        """The container's own devpts instance, if the spec mounts one."""
        self.has_own_dev = False
        """/dev is a file system made for this container, so the runtime puts its nodes there."""
        self._procfs = -1
        self._read_only_later: list[int] = []
        self._mask_directory = -1
        self._mask_file = -1

    # -- mounts -------------------------------------------------------------------------------------------

    def target(self, destination: str, *, is_directory: bool) -> int:
        """The open (O_PATH) mount point for a destination, made when it is missing. The caller closes it."""
        try:
            target = paths.open_in_root(self.fd, destination)
        except FileNotFoundError:
            if is_directory:
                return paths.make_directories(self.fd, destination)
            return paths.make_file(self.fd, destination)
        if paths.is_directory(target) != is_directory:
            os.close(target)
            raise OSError(errno.ENOTDIR, "not a directory")
        return target

    def mount(self, entry: Mount, bind: int | None, hierarchies: list[Hierarchy]) -> None:
        """Do one mount of the spec; `bind` is the source's detached mount. Raises LaunchError."""
        destination = entry["destination"]
        fstype = entry.get("type", "")
        options = parse_options(entry.get("options", []), fstype)
        source = entry.get("source", "") or fstype
        try:
            if bind is not None:
                self._mount_bind(destination, bind, options)
            elif fstype in ("proc", "sysfs"):
                self._mount_kernel_tree(fstype, destination, options)
            elif fstype in ("cgroup", "cgroup2"):
                target = self.target(destination, is_directory=True)
                mount_cgroups(target, options, hierarchies)
                os.close(target)
            else:
                self._mount_filesystem(fstype, source, destination, options)
        except OSError as error:
            shown = f"{error.filename}: " if error.filename and error.filename != destination else ""
            raise LaunchError(
                f'error mounting "{source}" to rootfs at "{destination}": {shown}{reason(error)}', "other"
            ) from error

    def _mount_bind(self, destination: str, tree: int, options: MountOptions) -> None:
        self._set_attributes(tree, options)
        if not options.propagation:
            # As every mount of the container's namespace: events may come in from the host, none goes out.
            mnt.mount_setattr(tree, propagation=mnt.MS_SLAVE, recursive=True)
        if os.path.normpath(destination) == "/proc" and not is_procfs_root(tree):
            raise PermissionError(errno.EPERM, "only a procfs can be mounted over /proc")
        target = self.target(destination, is_directory=paths.is_directory(tree))
        try:
            self._refuse_faking_proc(target, tree)
            mnt.move_mount(tree, target)
        finally:
            os.close(target)
        self._set_propagation(tree, options)

    def _mount_kernel_tree(self, fstype: str, destination: str, options: MountOptions) -> None:
        """proc and sysfs go onto plain directories only.

        CVE-2019-19921, CVE-2023-28642: an image with /proc or /sys as a symbolic link gets the kernel's files
        mounted somewhere else, and masking them, or an LSM, then misses.
        """
        try:
            target = paths.open_without_links(self.fd, destination.strip("/"), os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            target = paths.make_directories(self.fd, destination)
        except OSError as error:
            raise OSError(
                error.errno, f"filesystem {fstype!r} must be mounted on ordinary directory"
            ) from error
        mounted = self._attach_filesystem(fstype, fstype, target, options)
        if fstype == "proc":
            self._procfs = mounted
        else:
            os.close(mounted)

    def _mount_filesystem(self, fstype: str, source: str, destination: str, options: MountOptions) -> None:
        mode = None
        if os.path.normpath(destination) == "/proc":
            raise PermissionError(errno.EPERM, "only a procfs can be mounted over /proc")
        try:
            target = paths.open_in_root(self.fd, destination, os.O_PATH | os.O_DIRECTORY)
            # A tmpfs takes over the mode of a directory that was there, as runc and Docker do it.
            mode = stat.S_IMODE(os.fstat(target).st_mode) if fstype == "tmpfs" else None
        except FileNotFoundError:
            target = paths.make_directories(self.fd, destination)
        self._refuse_faking_proc(target, None)
        is_dev = os.path.normpath(destination) == "/dev"
        mounted = self._attach_filesystem(fstype, source, target, options, keep_writable=is_dev, mode=mode)
        if is_dev:
            self.has_own_dev = True
            if options.read_only:
                self._read_only_later.append(mounted)
                return
        if fstype == "devpts":
            self.devpts = mounted
        else:
            os.close(mounted)

    def _attach_filesystem(
        self,
        fstype: str,
        source: str,
        target: int,
        options: MountOptions,
        *,
        keep_writable: bool = False,
        mode: int | None = None,
    ) -> int:
        """Make a file system, fill it (tmpcopyup), mount it on `target` (closed); its descriptor."""
        settings = [("source", source), *_settings(options)]
        if mode is not None and not any(key == "mode" for key, _ in settings):
            settings.append(("mode", f"{mode:o}"))
        context = mnt.fsopen(fstype)
        try:
            for key, value in settings:
                if value is None:
                    mnt.fsconfig(context, mnt.FSCONFIG_SET_FLAG, key)
                elif len(value) > _FSCONFIG_STRING:
                    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), f"option {key}")
                else:
                    mnt.fsconfig(context, mnt.FSCONFIG_SET_STRING, key, value)
            if options.read_only and not keep_writable and not options.copy_up:
                mnt.fsconfig(context, mnt.FSCONFIG_SET_FLAG, "ro")
            mnt.fsconfig(context, mnt.FSCONFIG_CMD_CREATE)
            attributes = options.attributes.set
            if keep_writable or options.copy_up:
                attributes &= ~mnt.MOUNT_ATTR_RDONLY
            mounted = mnt.fsmount(context, attributes)
        finally:
            os.close(context)
        if options.copy_up and fstype == "tmpfs":
            copy_tree(target, mounted)
            if options.read_only:
                mnt.mount_setattr(mounted, set_attributes=mnt.MOUNT_ATTR_RDONLY)
        mnt.move_mount(mounted, target)
        os.close(target)
        self._set_propagation(mounted, options)
        return mounted

    def _set_attributes(self, tree: int, options: MountOptions) -> None:
        # On a mount that nobody can see yet: there is never a writable moment.
        for attributes, recursive in ((options.attributes, False), (options.recursive_attributes, True)):
            if attributes.set or attributes.clear:
                mnt.mount_setattr(
                    tree,
                    set_attributes=attributes.set,
                    clear_attributes=attributes.clear,
                    recursive=recursive,
                )

    def _set_propagation(self, mounted: int, options: MountOptions) -> None:
        for propagation, recursive in options.propagation:
            mnt.mount_setattr(mounted, propagation=propagation, recursive=recursive)

    def _refuse_faking_proc(self, target: int, source: int | None) -> None:
        """Refuse a mount inside the container's /proc, unless it is known to be harmless.

        CVE-2019-16884, CVE-2025-52881: whoever covers /proc/self/attr or /proc/sys decides where the runtime's
        own writes go. Checked on the descriptor, after every link has been followed.
        """
        if not is_procfs(target):
            return
        if is_procfs_root(target):
            if source is not None and is_procfs_root(source):
                return
            raise PermissionError(errno.EPERM, "only a procfs can be mounted over /proc")
        inside = self._proc.path_of(target)
        if self._procfs >= 0:
            prefix = self._proc.path_of(self._procfs) + "/"
            if inside.startswith(prefix) and inside[len(prefix) :] in _COVERABLE_IN_PROC:
                return
        raise PermissionError(errno.EPERM, "destination is inside proc and cannot be covered")

    def close(self) -> None:
        """Close what is open of it; the mounts stay."""
        os.close(self.fd)
        if self.devpts >= 0:
            os.close(self.devpts)

    # -- finishing ----------------------------------------------------------------------------------------

    def finish(self, masked: list[str], read_only: list[str]) -> None:
        """What must come after all mounts and devices: read-only ones, read-only and masked paths."""
        with Step("making mounts read-only"):
            for mounted in self._read_only_later:
                mnt.mount_setattr(mounted, set_attributes=mnt.MOUNT_ATTR_RDONLY)
                os.close(mounted)
        for path in read_only:
            with Step(f'making "{path}" read-only'):
                self._make_read_only(path)
        for path in masked:
            with Step(f'masking "{path}"'):
                self._mask(path)
        for descriptor in (self._mask_directory, self._mask_file, self._procfs):
            if descriptor >= 0:
                os.close(descriptor)

    def _open_existing(self, path: str) -> int | None:
        # Magic links are refused here as everywhere: CVE-2025-52565 put one where a mount target was expected.
        try:
            return paths.open_in_root(self.fd, path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _make_read_only(self, path: str) -> None:
        target = self._open_existing(path)
        if target is None:
            return
        tree = mnt.clone_mount("", directory=target, recursive=True)
        mnt.mount_setattr(tree, set_attributes=mnt.MOUNT_ATTR_RDONLY)
        mnt.move_mount(tree, target)
        os.close(tree)
        os.close(target)

    def _mask(self, path: str) -> None:
        target = self._open_existing(path)
        if target is None:
            return
        if stat.S_ISDIR(os.fstat(target).st_mode):
            if self._mask_directory < 0:
                self._mask_directory = mnt.new_filesystem(
                    "tmpfs",
                    {"source": "tmpfs", "nr_blocks": "1", "nr_inodes": "1", "ro": None},
                    mnt.MOUNT_ATTR_RDONLY,
                )
                # Attached first and cloned afterwards: before Linux 6.15 a detached mount cannot be cloned.
                mnt.move_mount(self._mask_directory, target)
                os.close(target)
                return
            cover = mnt.clone_mount("", directory=self._mask_directory)
        else:
            if self._mask_file < 0:
                self._mask_file = self._open_null()
            cover = mnt.clone_mount("", directory=self._mask_file)
        mnt.move_mount(cover, target)
        os.close(cover)
        os.close(target)

    def _open_null(self) -> int:
        """The container's /dev/null, checked.

        CVE-2025-31133: an image with a link at /dev/null makes masking mount a file of the attacker's choice
        over /proc/kcore, or make one of the host's writable.
        """
        null = paths.open_without_links(self.fd, "dev/null")
        status = os.fstat(null)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
            os.close(null)
            raise OSError(errno.EINVAL, "/dev/null in the container is not the null device")
        return null

    def make_read_only(self) -> None:
        """The root itself, not what is mounted beneath."""
        with Step("making the root file system read-only"):
            mnt.mount_setattr(self.fd, set_attributes=mnt.MOUNT_ATTR_RDONLY)

    def pivot(self, propagation: str, *, no_pivot: bool) -> None:
        """Make it the root of the mount namespace, the old one gone, and the working directory."""
        with Step("pivot_root"):
            old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            os.fchdir(self.fd)
            if no_pivot:
                # On an initramfs pivot_root is impossible. The new root lies on top of "/" already; the old one
                # stays mounted beneath, which is what the caller accepted with --no-pivot.
                os.chroot(".")
            else:
                mnt.pivot_root(".", ".")
                # The old root lies beneath the new one now. As a slave nothing of its unmounting reaches the host.
                os.fchdir(old)
                mnt.mount(None, ".", None, mnt.MS_SLAVE | mnt.MS_REC)
                mnt.umount(".", mnt.MNT_DETACH)
            os.chdir("/")
            os.close(old)
            if propagation:
                mnt.mount(None, "/", None, propagation_flags(propagation))


def _settings(options: MountOptions) -> list[tuple[str, str | None]]:
    settings: list[tuple[str, str | None]] = []
    for option in options.data:
        key, equals, value = option.partition("=")
        settings.append((key, value if equals else None))
    settings.extend((flag, None) for flag in options.superblock)
    return settings
