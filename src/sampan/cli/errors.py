"""Errors into words and exit codes, as docker's CLI has them."""

from __future__ import annotations

from sampan.client.api import EngineAnswer

DETACHED = "read escape sequence"
"""What docker says, with exit code 1, when the user typed the detach keys in `attach` or `exec`."""


class ExitStatus(Exception):
    """Leave with this exit code; `message`, when there is one, goes to stderr first."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status


def describe(error: BaseException) -> str:
    """One message for the user; what an engine answered is marked as such."""
    if isinstance(error.__cause__, EngineAnswer):
        return f"Error response from daemon: {error}"
    return str(error)


def start_status(error: BaseException) -> int:
    """Exit code of `run` and `start` when a container could not be started: 127 not found, 126 not executable, else 125."""
    text = str(error).lower()
    if any(
        words in text
        for words in ("executable file not found", "no such file or directory", "system cannot find the file")
    ):
        return 127
    if any(words in text for words in ("permission denied", "is a directory", "exec format error")):
        return 126
    return 125
