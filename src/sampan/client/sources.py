"""What a build may ask of its client's files: a directory, or files that are in memory only."""

from __future__ import annotations

import json
import os
import re
import stat
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sampan.dockerfile.ignore import Ignore

EARLIEST = 315_532_800 * 1_000_000_000
"""The time of files that have none: 1980, the earliest that a zip archive (a wheel) can say."""
_MAX_STEPS = 100_000
"""On the way to chosen files: links may lead in a circle."""


class Choice(NamedTuple):
    """Which files the engine wants."""

    include: Sequence[str]
    exclude: Sequence[str]
    follow: Sequence[str]
    """Paths (also with wildcards), and where their links lead."""


Entry = tuple[str, int, int, int, str, int, "dict[str, str]"]
"""Path, mode, size, time in nanoseconds, link, device, attributes in base64: `direct_session._Entry`."""


class Source(Protocol):
    """Some files."""

    compare: bool
    """Whether a file with the same time and size is the same file."""

    def entries(self, choice: Choice) -> list[Entry]:
        """Those that are wanted, each directory before what is in it."""
        ...

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file's content."""
        ...


class Memory:
    """Files by their path."""

    compare = False

    def __init__(self, files: Mapping[str, bytes | str]) -> None:
        self._files = {
            name.strip("/"): each.encode() if isinstance(each, str) else bytes(each)
            for name, each in files.items()
        }

    def entries(self, choice: Choice) -> list[Entry]:
        """See `Source`."""
        ignore = _ignore(choice.exclude)
        found: dict[str, Entry] = {}
        for path in sorted(self._files, key=lambda each: each.split("/")):
            if ignore is not None and ignore.excludes(path):
                continue
            parts = path.split("/")
            for depth in range(1, len(parts)):
                parent = "/".join(parts[:depth])
                found.setdefault(parent, (parent, stat.S_IFDIR | 0o755, 0, EARLIEST, "", 0, {}))
            size = len(self._files[path])
            found[path] = (path, stat.S_IFREG | 0o644, size, EARLIEST, "", 0, {})
        return list(found.values())

    def pieces(self, path: str) -> Iterator[bytes]:
        """See `Source`."""
        yield self._files[path]


class Directory:
    """A directory of this machine's. Whose the files are here says nothing elsewhere: they are root's there."""

    compare = True
    _BLOCK = 1 << 18

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(path)

    def entries(self, choice: Choice) -> list[Entry]:
        """See `Source`."""
        return _Walk(self.path, choice).run()

    def pieces(self, path: str) -> Iterator[bytes]:
        """See `Source`."""
        with open(os.path.join(self.path, path), "rb", buffering=0) as file:
            while block := file.read(self._BLOCK):
                yield block


class _Walk:
    """One walk through a directory."""

    def __init__(self, top: str, choice: Choice) -> None:
        self._top = top
        self._ignore = _ignore(choice.exclude)
        self._include = _ignore(choice.include)
        self._chosen = followed(top, choice.follow) if choice.follow else None
        self._above = {path[:at] for path in self._chosen or () for at in _slashes(path)}
        self._found: list[Entry] = []
        self._seen: dict[tuple[int, int], str] = {}
        self._pending: list[Entry] = []
        """Directories that are sent only for what is in them."""

    def run(self) -> list[Entry]:
        self._members(self._top, "", whole=self._chosen is None)
        return self._found

    def _members(self, directory: str, prefix: str, *, whole: bool) -> None:
        with os.scandir(directory) as scan:
            entries = sorted(scan, key=lambda each: each.name)
        for entry in entries:
            path = prefix + entry.name
            inside = whole or self._is_chosen(path)
            is_directory = entry.is_dir(follow_symlinks=False)
            if not inside and not (is_directory and path in self._above):
                continue
            excluded = self._ignore is not None and self._ignore.excludes(path)
            if excluded and (not is_directory or (self._ignore is not None and self._ignore.skips(path))):
                continue
            included = self._include is None or self._include.excludes(path)
            status = entry.stat(follow_symlinks=False)
            if not is_directory:
                if included and (described := self._described(entry.path, path, status)) is not None:
                    self._add(described)
                continue
            described = self._described(entry.path, path, status)
            assert described is not None
            self._pending.append(described)
            if inside and included and not excluded:
                self._add(None)
            self._members(entry.path, path + "/", whole=inside)
            if self._pending and self._pending[-1] is described:
                self._pending.pop()

    def _add(self, entry: Entry | None) -> None:
        self._found += self._pending
        self._pending.clear()
        if entry is not None:
            self._found.append(entry)

    def _is_chosen(self, path: str) -> bool:
        return self._chosen is not None and path in self._chosen

    def _described(self, file: str, path: str, status: os.stat_result) -> Entry | None:
        mode, link, device, size = status.st_mode, "", 0, 0
        if stat.S_ISREG(mode):
            size = status.st_size
            if status.st_nlink > 1:
                first = self._seen.setdefault((status.st_dev, status.st_ino), path)
                link = "" if first == path else first
        elif stat.S_ISLNK(mode):
            link = os.readlink(file)
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            device = status.st_rdev
        elif stat.S_ISSOCK(mode):
            return None
        return path, mode, size, status.st_mtime_ns, link, device, _xattrs(file, mode)


def _slashes(path: str) -> list[int]:
    return [at for at, letter in enumerate(path) if letter == "/"]


def described(entries: Sequence[Entry]) -> Iterator[bytes]:
    """Entries as JSON, some thousand at a time."""
    for start in range(0, len(entries), 4096):
        yield json.dumps(entries[start : start + 4096], separators=(",", ":")).encode()


def followed(top: str, paths: Sequence[str]) -> set[str]:
    """The files that paths mean, and those to which links among them lead, beneath the top.

    A link is one of them, and so is what it stands for: `COPY link/file` needs both.
    """
    chosen: set[str] = set()
    waiting = deque(("", _parts(path)) for path in paths)
    seen: set[tuple[str, ...]] = set()
    for _ in range(_MAX_STEPS):
        if not waiting:
            break
        path, parts = waiting.popleft()
        if (path, *parts) not in seen:
            seen.add((path, *parts))
            waiting += _go_down(top, path, parts, chosen)
    return chosen


def _go_down(top: str, path: str, parts: list[str], chosen: set[str]) -> list[tuple[str, list[str]]]:
    """One step from `path` (no link, no pattern any more) towards `parts`; what is to be looked at then."""
    if not parts:
        if path:
            chosen.add(path)
        else:
            chosen.update(os.listdir(top))
        return []
    first, *rest = parts
    if re.search(r"[*?\[\\]", first):
        return [
            found
            for name in _matching(os.path.join(top, path), first)
            for found in _step(top, path, name, rest, chosen)
        ]
    return _step(top, path, first, rest, chosen)


def _step(top: str, path: str, name: str, rest: list[str], chosen: set[str]) -> list[tuple[str, list[str]]]:
    inner = f"{path}/{name}" if path else name
    try:
        target = os.readlink(os.path.join(top, inner))
    except OSError:
        return [(inner, rest)]  # no link, or nothing at all
    chosen.add(inner)
    led: list[str] = [] if target.startswith("/") else _parts(path)
    for part in target.split("/"):
        if part == "..":
            led = led[:-1]
        elif part not in ("", "."):
            led.append(part)
    return [("", [_literal(part) for part in led] + rest)]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _literal(name: str) -> str:
    """A name as a pattern that means it alone."""
    return re.sub(r"([*?\[\\])", r"\\\1", name)


def _matching(directory: str, pattern: str) -> list[str]:
    from sampan.dockerfile.ignore import expression_of

    wanted = re.compile(expression_of(pattern), re.DOTALL)
    try:
        return [name for name in os.listdir(directory) if wanted.fullmatch(name)]
    except OSError:
        return []


def _ignore(patterns: Sequence[str]) -> Ignore | None:
    if not patterns:
        return None
    from sampan.dockerfile.ignore import Ignore

    return Ignore(list(patterns))


def _xattrs(file: str, mode: int) -> dict[str, str]:
    if stat.S_ISLNK(mode) or not hasattr(os, "listxattr"):
        return {}
    try:
        names = os.listxattr(file, follow_symlinks=False)
    except OSError:
        return {}
    if not names:
        return {}
    import base64

    found = {}
    for name in names:
        try:
            found[name] = base64.b64encode(os.getxattr(file, name, follow_symlinks=False)).decode()
        except OSError:
            continue
    return found
