"""The state directory: one directory per container beneath `--root`, what two commands know of each other.

`state.json` describes the container; `start.sock`, while it exists, is where its stub waits to be started.
A process is identified by pid *and* start time, so that a recycled pid is nobody's container.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Required, TypedDict, cast

from sampan.cgroups.layout import detect
from sampan.errors import InvalidParameter, NotFound
from sampan.linux.process import start_time

if TYPE_CHECKING:
    from sampan.cgroups.interface import Cgroup
    from sampan.oci.runtime import Spec

_ID = re.compile(r"[\w+.-]+", re.ASCII)
START_SOCKET = "start.sock"
_FILE = "state.json"


class Record(TypedDict, total=False):
    """What `state.json` holds."""

    id: Required[str]
    bundle: Required[str]
    rootfs: Required[str]
    created: Required[str]
    """RFC 3339 with nanoseconds."""
    owner: Required[int]
    pid: Required[int]
    pid_start: Required[int]
    """Field 22 of /proc/PID/stat."""
    cgroup: Required[str]
    unit: str
    """systemd's, with --systemd-cgroup."""
    spec: Required[Spec]


def check_id(container_id: str) -> str:
    """The id itself. Raises InvalidParameter: it becomes a directory's name."""
    if not container_id:
        raise InvalidParameter("container id cannot be empty")
    if not _ID.fullmatch(container_id) or container_id in (".", ".."):
        raise InvalidParameter("invalid container ID format")
    return container_id


class Container:
    """A container's entry in the state directory."""

    def __init__(self, root: str, record: Record) -> None:
        self.directory = os.path.join(root, record["id"])
        self.record = record

    @property
    def cgroup(self) -> Cgroup:
        return detect().cgroup(self.record["cgroup"])

    def is_alive(self) -> bool:
        """Whether its init exists and is not a zombie."""
        pid = self.record["pid"]
        try:
            if start_time(pid) != self.record["pid_start"]:
                return False
            with open(f"/proc/{pid}/stat", "rb") as file:
                return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
        except (OSError, ProcessLookupError):
            return False

    def status(self) -> str:
        """created, running, paused or stopped, as runc names them."""
        if not self.is_alive():
            return "stopped"
        if self.cgroup.frozen():
            return "paused"
        return "created" if os.path.exists(os.path.join(self.directory, START_SOCKET)) else "running"

    def save(self) -> None:
        """Write the record, atomically."""
        path = os.path.join(self.directory, _FILE)
        with open(path + ".new", "w", encoding="utf-8", errors="surrogateescape") as file:
            json.dump(self.record, file)
        os.replace(path + ".new", path)

    def remove(self) -> None:
        """Forget the container; what it still has must be gone before."""
        shutil.rmtree(self.directory, ignore_errors=True)


def reserve(root: str, container_id: str) -> str:
    """Make the container's directory. Raises InvalidParameter when the id is taken."""
    directory = os.path.join(root, check_id(container_id))
    try:
        os.makedirs(root, 0o711, exist_ok=True)
    except OSError as error:
        raise InvalidParameter(f"mkdir {root}: {(error.strerror or '').lower()}") from None
    try:
        # Nobody else may read the environment in state.json (CVE-2021-41091 was such a door).
        os.mkdir(directory, 0o700)
    except FileExistsError:
        raise InvalidParameter("container with given ID already exists") from None
    except OSError as error:
        raise InvalidParameter(f"lstat {directory}: {(error.strerror or '').lower()}") from None
    return directory


def load(root: str, container_id: str) -> Container:
    """Raises NotFound in runc's words."""
    try:
        path = os.path.join(root, check_id(container_id), _FILE)
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return Container(root, cast("Record", json.load(file)))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("container does not exist") from None


def load_all(root: str) -> list[Container]:
    """Every container with a record, by name."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    containers = []
    for name in names:
        try:
            containers.append(load(root, name))
        except (NotFound, InvalidParameter):
            continue
    return containers
