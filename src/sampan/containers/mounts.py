"""A container's mounts through its life: planned from the request, created with it, mounted at each start, released at the end."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from sampan.containers import modes
from sampan.containers.container import Container
from sampan.containers.mount_spec import (
    check_target,
    parse_bind,
    parse_mount,
    parse_tmpfs,
    parse_volumes_from,
)
from sampan.containers.propagation import check_propagation
from sampan.containers.record import MountRecord
from sampan.containers.views import pin_view
from sampan.errors import InvalidParameter, NotFound, SampanError, SystemFailure, reason_of
from sampan.linux import mount as mnt
from sampan.linux import path as paths

if TYPE_CHECKING:
    from sampan.containers.services import Services
    from sampan.engineapi.container import ContainerConfig, HostConfig
    from sampan.engineapi.container import Mount as MountSpec
    from sampan.oci.runtime import Mount

log = logging.getLogger(__name__)

_FILES = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts")


class Mounting:
    """Plans, makes, mounts and releases."""

    def __init__(self, services: Services) -> None:
        self._services = services

    # --- create ------------------------------------------------------------------------------------------------------

    def plan(self, config: ContainerConfig, host: HostConfig) -> list[MountRecord]:
        """All mounts that the request and the image ask for, checked; nothing is made.

        Precedence per destination is dockerd's: other containers' volumes, then `-v`, `--mount` and `--tmpfs`, then the image's.
        Raises `InvalidParameter`, also for one destination named twice.
        """
        inherited: dict[str, MountRecord] = {}
        for text in host.volumes_from or ():
            inherited.update(self._volumes_from(text))
        own: dict[str, MountRecord] = {}
        for text in host.binds or ():
            record = parse_bind(text, host.volume_driver)
            self._spare_own_data(
                record, explicit=bool(record.propagation and record.propagation in record.mode)
            )
            _claim(own, record)
        for mount in host.mounts or ():
            record = parse_mount(mount)
            if record.type == "bind" and not record.create_source and not os.path.exists(record.source):
                raise InvalidParameter(
                    f'invalid mount config for type "bind": bind source path does not exist: {record.source}'
                )
            given = mount.bind_options.propagation if mount.bind_options else ""
            self._spare_own_data(record, explicit=bool(given))
            _claim(own, record, mount.target)
        for destination, options in (host.tmpfs or {}).items():
            _claim(own, parse_tmpfs(destination, options))
        result = {**inherited, **own}
        for destination in config.volumes or ():
            record = MountRecord(
                type="volume",
                destination=_image_volume(destination),
                driver=host.volume_driver,
                anonymous=True,
            )
            result.setdefault(record.destination, record)
        return list(result.values())

    def _spare_own_data(self, record: MountRecord, *, explicit: bool) -> None:
        """A bind that shows the engine's own data must get the host's unmounts, or it would keep every root file system busy.

        So it is a slave unless the user says otherwise, and private never. Raises `InvalidParameter`.
        """
        root = str(self._services.settings.root.parent)
        if record.type != "bind" or os.path.commonpath((root, record.source)) not in (root, record.source):
            return
        if explicit and record.propagation not in ("rslave", "rshared"):
            raise InvalidParameter(
                'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the'
                f' daemon root, daemon root: "{root}", bind mount source: "{record.source}",'
                f' propagation: "{record.propagation}"'
            )
        if not explicit and os.path.exists(record.source):
            try:
                check_propagation(record.source, "rslave")
            except InvalidParameter:
                return  # on a private mount there is nothing to get
            record.propagation = "rslave"

    def _volumes_from(self, text: str) -> dict[str, MountRecord]:
        reference, read_only = parse_volumes_from(text)
        try:
            donor = self._services.registry.get(reference)
        except NotFound as error:
            # Not as NotFound: the client would take the image for missing, and pull it.
            raise InvalidParameter(str(error)) from None
        taken: dict[str, MountRecord] = {}
        for record in donor.record.mounts:
            if record.type not in ("bind", "volume"):
                continue
            copy = msgspec.structs.replace(record, anonymous=False, mode="")
            if read_only is not None:
                copy.read_only = read_only
            taken[copy.destination] = copy
        return taken

    async def create(self, container: Container, plan: Sequence[MountRecord]) -> list[MountRecord]:
        """Make the volumes of a new container and fill new ones from the image; the records to keep."""
        made: list[MountRecord] = []
        specs = {mount.target: mount for mount in container.record.host_config.mounts or ()}
        for record in plan:
            if record.type == "volume":
                await self._create_volume(container, record, specs)
            elif record.type == "image":
                await self._create_view(container, record, len(made))
            made.append(record)
        return made

    async def _create_view(self, container: Container, record: MountRecord, number: int) -> None:
        images = self._services.images
        image = await images.resolve(record.source)
        record.name, record.image_id = record.source, image.id
        record.source = self._pin(container, number)
        await images.prepare_view(container.id, number, image)

    async def _create_volume(
        self, container: Container, record: MountRecord, specs: Mapping[str, MountSpec]
    ) -> None:
        services = self._services
        spec = specs.get(record.destination) if record.from_spec else None
        options = spec.volume_options if spec else None
        driver_config = options.driver_config if options else None
        record.anonymous = record.anonymous or not record.name
        volume = await services.volumes.create(
            record.name,
            driver=record.driver,
            options=driver_config.options if driver_config else None,
            labels=options.labels if options else None,
            anonymous=record.anonymous,
            container=container.id,
        )
        record.name, record.driver, record.source = volume.name, volume.driver, volume.mountpoint
        if (record.from_spec or not record.anonymous) and record.driver == "local" and not record.mode:
            record.mode = "z"
        if not record.no_copy and not record.subpath:
            await self._fill(container, record)

    async def _fill(self, container: Container, record: MountRecord) -> None:
        """An empty volume starts as a copy of what the image has at its place."""
        services = self._services
        remapping = services.settings.remapping_of(container.record.host_config)
        rootfs = await services.images.rootfs_mounts(container.id)
        path = await services.volumes.mount(record.name, container.id)
        try:
            if await asyncio.to_thread(_is_empty, path):
                await services.workers.run(
                    "sampan.containers.root_jobs:copy_up_job",
                    {
                        "rootfs": list(rootfs if remapping is None else remapping.mapped(rootfs)),
                        "path": record.destination,
                        "volume": path,
                        "remapping": remapping and remapping._asdict(),
                    },
                )
        finally:
            await services.volumes.unmount(record.name, container.id)

    # --- start and stop ----------------------------------------------------------------------------------------------

    async def mount(self, container: Container) -> list[Mount]:
        """Everything that the spec has to mount: the user's mounts and the container's files, parents first."""
        mounts: list[Mount] = []
        try:
            for record in container.record.mounts:
                mounts.append(await self._mount_one(container, record))
        except BaseException:
            await self.unmount(container)
            raise
        taken = {mount["destination"] for mount in mounts}
        mounts.extend(
            mount for mount in own_files(self._services, container) if mount["destination"] not in taken
        )
        mounts.sort(key=lambda mount: mount["destination"].count("/"))
        return mounts

    async def _mount_one(self, container: Container, record: MountRecord) -> Mount:
        if record.type == "tmpfs":
            return {
                "destination": record.destination,
                "type": "tmpfs",
                "source": "tmpfs",
                "options": [
                    "noexec",
                    "nosuid",
                    "nodev",
                    "rprivate",
                    *record.options,
                    *(["ro"] if record.read_only else []),
                ],
            }
        if record.type == "image":
            source = await self._mount_view(container, record)
        elif record.type == "bind":
            source = record.source
            remapping = self._services.settings.remapping_of(container.record.host_config)
            await asyncio.to_thread(_check_source, record, remapping.root if remapping else (0, 0))
        else:
            source = await self._services.volumes.mount(record.name, container.id)
            self._publish(
                container,
                record,
                "mount",
                {
                    "destination": record.destination,
                    "propagation": record.propagation,
                    "read/write": "false" if record.read_only else "true",
                },
            )
            if record.subpath:
                source = await asyncio.to_thread(self._pin_subpath, container, record, source)
        return {
            "destination": record.destination,
            "type": "bind",
            "source": source,
            "options": _bind_options(record),
        }

    async def _mount_view(self, container: Container, record: MountRecord) -> str:
        """Mount a container's view of an image on a directory of our own; where it, or the part of it, is."""
        images = self._services.images
        number = container.record.mounts.index(record)
        image = await images.resolve(record.image_id)
        entries = await images.prepare_view(container.id, number, image)
        place = self._pin(container, number)
        await asyncio.to_thread(pin_view, entries, record, place)
        return place

    def _pin_subpath(self, container: Container, record: MountRecord, volume: str) -> str:
        """Bind the part of a volume onto a directory of our own.

        The volume's other users could turn a component of the path into a link to the host between a check and the mount
        (CVE-2023-2431's class). So it is resolved once, beneath the volume, and that very descriptor is mounted.
        """
        root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                part = paths.open_beneath(root, record.subpath, os.O_PATH)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    raise SystemFailure(
                        "path concatenation escapes the base directory,"
                        f" base: {volume}, subpath: {record.subpath}"
                    ) from error
                path = os.path.join(volume, record.subpath)
                raise SystemFailure(f"cannot access path {path}: lstat {path}: {reason_of(error)}") from error
        finally:
            os.close(root)
        try:
            place = self._pin(container, container.record.mounts.index(record))
            if paths.is_directory(part):
                os.makedirs(place, mode=0o700, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
                os.close(os.open(place, os.O_CREAT | os.O_CLOEXEC, 0o600))
            mnt.mount(f"/proc/self/fd/{part}", place, None, mnt.MS_BIND | mnt.MS_REC)
        finally:
            os.close(part)
        return place

    def _pin(self, container: Container, number: int) -> str:
        return os.path.join(self._pins(container), str(number))

    def _pins(self, container: Container) -> str:
        return str(self._services.settings.exec_root / "mounts" / container.id)

    def shm(self, container: Container, donor: Container | None) -> Mount | None:
        """/dev/shm where it is shared; None for the ordinary private one."""
        host = container.record.host_config
        if donor is not None:
            if donor.record.host_config.ipc_mode == "host":
                return _bind("/dev/shm", "/dev/shm")
            return _bind("/dev/shm", os.path.join(self._pins(donor), "shm"))
        if host.ipc_mode != "shareable":
            return None
        place = os.path.join(self._pins(container), "shm")
        if not os.path.ismount(place):
            os.makedirs(place, mode=0o700, exist_ok=True)
            flags = mnt.MS_NOSUID | mnt.MS_NODEV | mnt.MS_NOEXEC
            mnt.mount("shm", place, "tmpfs", flags, f"mode=1777,size={host.shm_size}")
        return _bind("/dev/shm", place)

    async def unmount(self, container: Container) -> None:
        """The container has stopped. Idempotent."""
        for record in container.record.mounts:
            if record.type == "volume":
                try:
                    await self._services.volumes.unmount(record.name, container.id)
                except SampanError:
                    log.exception("%s: unmounting volume %s", container.id, record.name)
                self._publish(container, record, "unmount", {})
        if container.record.host_config.ipc_mode == "shareable" or any(
            record.subpath or record.type == "image" for record in container.record.mounts
        ):
            await asyncio.to_thread(unpin, self._pins(container))

    def _publish(
        self, container: Container, record: MountRecord, action: str, more: Mapping[str, str]
    ) -> None:
        attributes = {"container": container.id, "driver": record.driver, **more}
        self._services.events.publish("volume", action, record.name, attributes)

    # --- removal -----------------------------------------------------------------------------------------------------

    async def release(self, container_id: str, records: Sequence[MountRecord], *, with_volumes: bool) -> None:
        """The container is gone; `with_volumes` takes its anonymous volumes along."""
        volumes = self._services.volumes
        await volumes.release(container_id)
        for number, record in enumerate(records):
            if record.type == "image":
                await self._services.images.release_view(container_id, number)
        if not with_volumes:
            return
        for record in records:
            if record.type == "volume" and record.anonymous:
                try:
                    await volumes.remove(record.name)
                except SampanError as error:
                    log.info("anonymous volume %s stays: %s", record.name, error)
                    await volumes.spare(record.name)


def own_files(services: Services, container: Container) -> list[Mount]:
    """resolv.conf, hostname and hosts; those of the other container when the network is shared."""
    owner = modes.shared_container(container.record.host_config.network_mode) or container.id
    directory = services.directory(owner)
    read_only = container.record.host_config.readonly_rootfs
    return [
        {
            "destination": path,
            "type": "bind",
            "source": str(directory / os.path.basename(path)),
            "options": ["rbind", "rprivate", *(["ro"] if read_only else [])],
        }
        for path in _FILES
    ]


def unpin(directory: str) -> None:
    """Unmount and remove what `_pins` of one container holds. Idempotent."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        place = os.path.join(directory, name)
        try:
            mnt.umount(place, mnt.MNT_DETACH)
        except OSError:
            log.debug("%s was not mounted", place)
        if os.path.isdir(place):
            os.rmdir(place)
        else:
            os.unlink(place)
    os.rmdir(directory)


def _claim(taken: dict[str, MountRecord], record: MountRecord, written: str = "") -> None:
    """`written` is the destination as the user spelled it."""
    if record.destination in taken:
        raise InvalidParameter(f"Duplicate mount point: {written or record.destination}")
    taken[record.destination] = record


def _image_volume(destination: str) -> str:
    """dockerd takes any word for an anonymous volume's place, from the root on."""
    return check_target("/" + destination.lstrip("/"), "volume")


def _check_source(record: MountRecord, owner: tuple[int, int]) -> None:
    """A missing source is made for `-v`, the containers' root its owner, and refused for `--mount`."""
    if os.path.exists(record.source):
        check_propagation(record.source, record.propagation)
        return
    if not record.create_source:
        raise InvalidParameter(
            f'invalid mount config for type "bind": bind source path does not exist: {record.source}'
        )
    try:
        _make_source(record.source, owner)
    except OSError as error:
        raise SystemFailure(
            f"error while creating mount source path '{record.source}': mkdir {record.source}:"
            f" {reason_of(error)}"
        ) from error


def _make_source(path: str, owner: tuple[int, int]) -> None:
    missing = [path]
    while not os.path.exists(parent := os.path.dirname(missing[-1])):
        missing.append(parent)
    os.makedirs(path, mode=0o755, exist_ok=True)
    if owner != (0, 0):
        for directory in missing:
            os.chown(directory, *owner)


def _bind_options(record: MountRecord) -> list[str]:
    options = ["rbind" if record.recursive else "bind"]
    if record.read_only:
        recursive = record.recursive and record.read_only_recursive != "no"
        propagates = record.propagation not in ("", "rprivate")
        options.append("rro" if recursive and not propagates else "ro")
    options.append(record.propagation or "rprivate")
    return options


def _bind(destination: str, source: str) -> Mount:
    return {
        "destination": destination,
        "type": "bind",
        "source": source,
        "options": ["rbind", "rprivate", "nosuid", "noexec", "nodev"],
    }


def _is_empty(path: str) -> bool:
    with os.scandir(path) as entries:
        return next(entries, None) is None
