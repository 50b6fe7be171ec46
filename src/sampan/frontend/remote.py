"""Which words of a Dockerfile, or of a command line, are URLs and git repositories."""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_SCP = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:(?!//).+")
_GIT_PATH = re.compile(r"\.git(?:#.*)?$")
_HOSTS = ("github.com/", "gitlab.com/", "bitbucket.org/")


class GitReference(NamedTuple):
    """`https://host/repository.git#ref:directory`."""

    remote: str
    ref: str
    directory: str


def is_url(text: str) -> bool:
    """Whether it is fetched over HTTP as a file."""
    return text.startswith(("http://", "https://")) and git_reference(text) is None


def git_reference(text: str) -> GitReference | None:
    """The repository that a word means; None when it means none."""
    remote, _, fragment = text.partition("#")
    if text.startswith(("http://", "https://")):
        if not urlsplit(remote).path.endswith(".git"):
            return None
    elif not (text.startswith(("git://", "ssh://", "git@")) or _SCP.fullmatch(remote)):
        if not text.startswith(_HOSTS):
            return None
        remote = f"https://{remote}"
    ref, _, directory = fragment.partition(":")
    return GitReference(remote, ref, posixpath.normpath("/" + directory).lstrip("/") if directory else "")


def file_name(url: str) -> str:
    """What a fetched file is called."""
    name = posixpath.basename(unquote(urlsplit(url).path))
    return name if name not in ("", ".", "..") and "\0" not in name else "__unnamed__"
