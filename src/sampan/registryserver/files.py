"""Files that appear whole, and stay after a power failure. All of it blocks: call it in a thread."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_link(path: Path, digest: str) -> None:
    """A link: a file that holds a digest. What was there is replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, digest.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(partial, path)
    sync_directory(path.parent)


def read_link(path: Path) -> str | None:
    """The digest in a link; None when there is none."""
    try:
        with path.open("rb") as file:
            return file.read(256).decode(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def remove_link(path: Path, upto: Path) -> bool:
    """Remove a link, and the directories that it leaves empty below `upto`. False: there was none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    for parent in path.parents:
        if parent == upto or upto not in parent.parents:
            break
        try:
            parent.rmdir()
        except OSError:
            break
    return True


def names_in(directory: Path) -> list[str]:
    """The names in a directory, sorted; none when it is not there. Hidden ones are files on their way."""
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
