"""What goes to a remote log, and what takes it.

::

    sink = GelfSink(options, origin)
    sink.connect()                 # at the container's start: an unreachable peer refuses the start
    sink.send([Line(…), …])        # raises OSError: connect again and repeat
    sink.close()

Sinks block; one thread uses one sink.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class PartOf(NamedTuple):
    """Which piece of a line of more than 16 KiB."""

    id: str
    ordinal: int
    last: bool


class Line(NamedTuple):
    """One line, or one piece of a long one, without its newline."""

    stream: str
    time_ns: int
    text: bytes
    part: PartOf | None = None


class Origin(NamedTuple):
    """Whose output it is."""

    container_id: str
    container_name: str
    image_id: str
    image_name: str
    command: str
    created_ns: int
    hostname: str
    """Of the machine."""
    tag: str
    attributes: Mapping[str, str]
    """`--log-opt` labels and env."""


class Sink(Protocol):
    """A connection to where one container's lines go."""

    def connect(self) -> None:
        """Open it, or open it again. Raises OSError with a message for the user."""
        ...

    def send(self, lines: Sequence[Line]) -> None:
        """All of them, in order. Raises OSError when the peer is gone: the caller connects again and repeats."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...
