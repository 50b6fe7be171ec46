"""How a step of the set-up fails: one error that names the step, whichever process it happened in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, cast

from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from types import TracebackType

Kind = Literal["not-found", "permission", "format", "other", "lost"]


def reason(error: OSError) -> str:
    """The error's text in the C library's words as Go prints them: lower case, no number."""
    text = error.strerror or os.strerror(error.errno or 0)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


class Step:
    """`with Step("setting the hostname"):` turns an OSError inside into a LaunchError that names the step."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise LaunchError(f"{self.name}: {reason(error)}", "other") from error


def to_message(error: BaseException) -> dict[str, object]:
    """An error as a message for the socket between stub and parent."""
    if isinstance(error, LaunchError):
        return {"error": str(error), "kind": error.kind}
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return {"error": where + reason(error), "kind": "other"}
    if isinstance(error, ValueError) and "null byte" in str(
        error
    ):  # Python's refusal of what execve(2) would cut short
        return {
            "error": "invalid argument: a NUL byte in a path, an argument or the environment",
            "kind": "other",
        }
    return {"error": f"{type(error).__name__}: {error}", "kind": "other"}


def from_message(message: dict[str, object]) -> LaunchError:
    """The error that `to_message` packed."""
    return LaunchError(str(message["error"]), cast("Kind", message["kind"]))
