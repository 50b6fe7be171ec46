"""A directory as a web server, and git repositories in it that are cloned from there."""

from __future__ import annotations

import functools
import http.server
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Its URL, while the block lasts."""
    directory.mkdir(exist_ok=True)
    serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def publish(work: Path, repository: Path) -> None:
    """Commit a directory's files on `main`, and put a repository where a web server serves it."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (
        ["init", "-q", "-b", "main", work],
        ["-C", work, "add", "."],
        ["-C", work, *identity, "commit", "-q", "-m", "one"],
        ["clone", "-q", "--bare", work, repository],
        ["-C", repository, "update-server-info"],
    ):
        subprocess.run(["git", *map(str, words)], check=True)
