"""A Dockerfile's text, places in it, and errors that show where."""

from __future__ import annotations

from typing import NamedTuple

from sampan.errors import InvalidParameter

MAX_BYTES = 16 * 1024 * 1024
"""A Dockerfile larger than this is a mistake or an attack."""

_AROUND_ONE, _AROUND_SEVERAL = 4, 2
"""How much is shown around a place of one line, or of several."""


class Place(NamedTuple):
    """Lines of a file, the first is 1; `last` belongs to it."""

    first: int
    last: int


class Source(NamedTuple):
    """One file's name and lines (line ends removed, also those of Windows)."""

    name: str
    lines: tuple[str, ...]

    def excerpt(self, place: Place) -> str:
        """The place's lines with two or so around them, numbered, those that matter marked.

        ::

            Dockerfile:2
            --------------------
               1 |     FROM busybox
               2 | >>> RUNN true
               3 |     CMD ["sh"]
            --------------------
        """
        first, last = self._surroundings(place)
        rule = "-" * 20
        shown = [
            f" {number:3} | {'>>>' if place.first <= number <= place.last else '   '} {self.lines[number - 1]}"
            for number in range(first, last + 1)
        ]
        return "\n".join([f"{self.name}:{place.first}", rule, *shown, rule])

    def _surroundings(self, place: Place) -> tuple[int, int]:
        """The first and last line of an excerpt, as BuildKit chooses them: one on either side, and one more where there is room."""
        first, last = place.first, min(place.last, len(self.lines))
        wanted = _AROUND_ONE if first == last else _AROUND_SEVERAL
        taken = 0
        while taken < wanted:
            if first > 1:
                first -= 1
                taken += 1
            if last < len(self.lines):
                last += 1
                taken += 1
            taken += 1
        return first, last


class DockerfileError(InvalidParameter):
    """A mistake in a Dockerfile: `str()` is one line; `excerpt` shows the place."""

    def __init__(self, message: str, source: Source | None = None, place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.source = source
        self.place = place

    @property
    def excerpt(self) -> str:
        """The lines around the mistake, or `""` where there is no place to show."""
        return self.source.excerpt(self.place) if self.source and self.place else ""

    def at(self, source: Source, place: Place) -> DockerfileError:
        """The same mistake with its place, unless it has one."""
        return self if self.place else type(self)(self.message, source, place)

    def in_instruction(self, source: Source, place: Place) -> DockerfileError:
        """The same, found when instructions were told apart: BuildKit names the line then, also where it shows no excerpt."""
        if self.place:
            return self
        return DockerfileError(f"dockerfile parse error on line {place.first}: {self.message}", source, place)


class TextError(DockerfileError):
    """A mistake that is found before instructions are told apart: BuildKit does not name its line."""

    def in_instruction(self, source: Source, place: Place) -> DockerfileError:
        """As `at`."""
        return self.at(source, place)


def source_of(data: str | bytes, name: str = "Dockerfile") -> Source:
    """A file's content as lines. Raises `DockerfileError` for what is too large or isn't UTF-8."""
    if len(data) > MAX_BYTES:
        raise DockerfileError(f"{name} is larger than {MAX_BYTES >> 20} MiB")
    if isinstance(data, bytes):
        try:
            data = data.decode()
        except UnicodeDecodeError as error:
            raise DockerfileError(
                f"{name} is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}"
            ) from None
    lines = data.removeprefix("\ufeff").split("\n")
    return Source(name, tuple(line.removesuffix("\r") for line in lines))
