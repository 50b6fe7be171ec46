"""A container's files from outside: `docker cp` both ways, `export`, `diff`.

The work is done by a worker process (see `root_jobs`); bytes go through a pipe straight to the client.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.containers.container import Container
from sampan.containers.mounts import own_files
from sampan.containers.root_view import view_arguments
from sampan.engineapi import gomode
from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.names.times import format_rfc3339_nano

if TYPE_CHECKING:
    from sampan.containers.services import Services
    from sampan.oci.runtime import Mount

_EXIT_PATIENCE = 5.0
"""Seconds for the engine to take note of an exit."""
_CHUNK = 256 * 1024


class CopyIn(NamedTuple):
    """How an archive is to be unpacked."""

    path: str
    no_overwrite: bool
    """Refuse to replace a directory by something else, or the other way round."""
    copy_ids: bool
    """Everything is to belong to the container's user, where it has one; else the archive's owners are kept."""


class OutgoingArchive(NamedTuple):
    """A tar on its way out: the stat of its top, and its bytes."""

    stat: dict[str, Any]
    chunks: AsyncIterator[bytes]


class Copying:
    """See the module."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def stat(self, container: Container, path: str) -> dict[str, Any]:
        """What HEAD /archive puts into X-Docker-Container-Path-Stat. Raises `NotFound` in dockerd's words."""
        found = await self._run(container, "stat_job", _place(path), ())
        return go_stat(found)

    async def copy_out(self, container: Container, path: str) -> OutgoingArchive:
        """`path` as a tar whose entries begin with its last name. Raises `NotFound`."""
        archive = await self._pack(container, _place(path), None)
        self._services.publish(container, "archive-path")
        return archive

    async def export(self, container: Container) -> OutgoingArchive:
        """The whole root as a tar, without what is mounted in it: volumes are not exported."""
        archive = await self._pack(container, _place("/"), "", bare=True)
        self._services.publish(container, "export")
        return archive

    async def copy_in(self, container: Container, request: CopyIn, body: AsyncIterator[bytes]) -> None:
        """Unpack a tar into a directory. Raises `NotFound`, `InvalidParameter`, `Forbidden` for a read-only root."""
        record = container.record
        args = {
            **_place(request.path),
            "no_overwrite": request.no_overwrite,
            "read_only": record.host_config.readonly_rootfs,
        }
        if request.copy_ids and record.config.user:
            args["user"] = record.config.user
        reader, writer = os.pipe2(os.O_CLOEXEC)
        feeding = asyncio.create_task(feed(writer, body))
        try:
            await self._run(container, "unpack_job", args, (reader,))
        finally:
            os.close(reader)
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        self._services.publish(container, "extract-to-dir")

    async def changes(self, container: Container) -> list[dict[str, Any]]:
        """What differs from the image: `Path` and `Kind` (0 changed, 1 added, 2 deleted)."""
        target = await self._services.snapshots.apply_target(container.id)
        found: list[dict[str, Any]] = await self._services.workers.run(
            "sampan.archive.changes:changes_job", target.job_args()
        )
        return found

    async def _pack(
        self, container: Container, place: dict[str, str], name: str | None, *, bare: bool = False
    ) -> OutgoingArchive:
        """Start the worker and wait for the stat that precedes its first byte."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[dict[str, Any]] = loop.create_future()

        def progress(report: dict[str, Any]) -> None:
            if not ready.done() and "name" in report:
                ready.set_result(report)

        reader, writer = os.pipe2(os.O_CLOEXEC)
        args = {**place, "name": name}
        job = asyncio.create_task(self._run(container, "pack_job", args, (writer,), progress, bare=bare))
        await asyncio.sleep(0)
        done, _ = await asyncio.wait((job, ready), return_when=asyncio.FIRST_COMPLETED)
        os.close(writer)
        if job in done and not ready.done():
            os.close(reader)
            job.result()  # raises what went wrong
            raise NotFound(f"Could not find the file {place['given']} in container {container.name}")
        return OutgoingArchive(go_stat(ready.result()), _drain(reader, job))

    async def _run(
        self,
        container: Container,
        job: str,
        args: dict[str, Any],
        fds: tuple[int, ...],
        progress: Any = None,
        *,
        bare: bool = False,
    ) -> Any:
        view = await self._view(container, bare=bare)
        target = f"sampan.containers.root_jobs:{job}"
        try:
            try:
                return await self._services.workers.run(target, {"view": view, **args}, fds, progress)
            except (FileNotFoundError, ProcessLookupError):
                if not view["pid"] or container.monitor is None:
                    raise
            # The program ended between our look at its state and the worker's look at its process.
            await asyncio.wait({container.monitor}, timeout=_EXIT_PATIENCE)
            view = await self._view(container, bare=bare)
            return await self._services.workers.run(target, {"view": view, **args}, fds, progress)
        except NotFound:
            raise NotFound(f"Could not find the file {args['given']} in container {container.name}") from None

    async def _view(self, container: Container, *, bare: bool = False) -> dict[str, Any]:
        services = self._services
        if container.state.removing:
            raise NotFound(f"No such container: {container.name}")
        shim = container.shim
        remapping = services.settings.remapping_of(container.record.host_config)
        if shim is not None and container.state.alive:
            return view_arguments(
                pid=shim.init_pid, rootfs=(), mounts=(), anchor="", bare=bare, remapping=remapping
            )
        return view_arguments(
            pid=0,
            rootfs=await services.images.rootfs_mounts(container.id),
            remapping=remapping,
            mounts=[] if bare else self._mounts_at_rest(container),
            anchor=str(services.directory(container.id)),
        )

    def _mounts_at_rest(self, container: Container) -> list[Mount]:
        """What a stopped container would have mounted: binds, volumes, and its own files once it was started."""
        volumes: list[Mount] = [
            {
                "destination": mount.destination,
                "source": mount.source,
                "options": ["ro"] if mount.read_only else [],
            }
            for mount in container.record.mounts
            if mount.type in ("bind", "volume") and not mount.subpath
        ]
        taken = {mount["destination"] for mount in volumes}
        files = own_files(self._services, container) if container.state.begun else ()
        return volumes + [mount for mount in files if mount["destination"] not in taken]


def go_stat(found: dict[str, Any]) -> dict[str, Any]:
    """A stat with Go's file mode bits and an RFC 3339 time."""
    return {
        "name": found["name"],
        "size": found["size"],
        "mode": gomode.from_kernel(found["mode"]),
        "mtime": format_rfc3339_nano(found["mtime"]),
        "linkTarget": found["linkTarget"],
    }


def _place(path: str) -> dict[str, str]:
    """A path for a job, and as it was given. Raises `InvalidParameter` for an empty one; a relative one begins at the root.

    `..` on the way goes back by name, whatever is there, as dockerd has it; as the last word (like `.` and nothing) it says more
    than a place.
    """
    if not path:
        raise InvalidParameter("bad parameter: path cannot be empty")
    way, _, last = ("/" + path.lstrip("/")).rpartition("/")
    return {"path": posixpath.join(posixpath.normpath(way or "/"), last), "given": path}


async def _drain(reader: int, job: asyncio.Task[Any]) -> AsyncIterator[bytes]:
    """The worker's output; its failure is raised at the end, which breaks the chunked answer off."""
    try:
        while data := await asyncio.to_thread(os.read, reader, _CHUNK):
            yield data
        await job
    finally:
        os.close(reader)
        if not job.done():
            job.cancel()
        try:
            await job
        except (asyncio.CancelledError, SampanError, OSError):
            pass


async def feed(writer: int, body: AsyncIterator[bytes]) -> None:
    """The client's bytes into a worker's pipe, which is closed at the end.

    A worker that has read enough closes its end, which is not an error.
    """
    try:
        async for chunk in body:
            view = memoryview(chunk)
            while view:
                view = view[await asyncio.to_thread(os.write, writer, view) :]
    except BrokenPipeError:
        async for _ in body:
            continue
    finally:
        os.close(writer)
