"""Dockerfiles that BuildKit's own frontend was asked about (`recorders/dockerfile`): what its checks say, and its answers to
subrequests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "recorders" / "dockerfile"
ANSWERS = DIRECTORY / "answers.json"

REQUESTS = ("", "frontend.lint")
"""What is asked about each; "" is a build, whose warnings count."""
MORE_REQUESTS = ("frontend.outline", "frontend.targets")
"""What is asked about some, too."""
_TELLING = ("outline", "targets", "descriptions", "unknown", "bad ", "a target", "scratch", "comments")


def _image(architecture: str = "amd64", **config: Any) -> dict[str, Any]:
    return {
        "os": "linux",
        "architecture": architecture,
        "config": {"Env": ["PATH=/usr/bin:/bin"], **config},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]},
    }


IMAGES: dict[str, dict[str, Any]] = {
    "busybox": _image(),
    "foreign": _image("arm64"),
    "shelled": _image(Shell=["/bin/bash", "-c"]),
    "placed": _image(WorkingDir="/app", Env=["PATH=/bin", "FROM_IMAGE=1"]),
    "triggers": _image(OnBuild=["CMD echo $NOTHING", "ENV secret_key a", "EXPOSE 80/TCP"]),
}
"""What the Dockerfiles' images are."""


@dataclass(frozen=True)
class Case:
    """One Dockerfile, with the frontend's options and an ignore file."""

    text: str
    options: Mapping[str, str]
    ignore: str

    @property
    def files(self) -> dict[str, str]:
        """Of its context."""
        return {"Dockerfile": self.text, **({".dockerignore": self.ignore} if self.ignore else {})}


def cases() -> dict[str, Case]:
    """By name, as `corpus.txt` has them."""
    found = {}
    for part in (DIRECTORY / "corpus.txt").read_text().split("\n=== ")[1:]:
        head, _, body = (part if part.endswith("\n") else part + "\n").partition("\n")
        name, *options = head.split(" | ")
        text, _, ignore = body.partition("--- .dockerignore\n")
        found[name] = Case(text, dict(each.partition("=")[::2] for each in options), ignore)
    return found


def questions() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each case with each request, as the recorder takes them."""
    for name, case in cases().items():
        for request in REQUESTS + (MORE_REQUESTS if name.startswith(_TELLING) else ()):
            options = {**case.options, **({"requestid": request} if request else {})}
            yield f"{name} {request}".strip(), {"files": case.files, "options": options, "images": IMAGES}
    for name, request in (("describe", "frontend.subrequests.describe"), ("nonsense", "frontend.nothing")):
        files = {"Dockerfile": "FROM busybox\n"}
        yield name, {"files": files, "options": {"requestid": request}, "images": IMAGES}


def answers() -> dict[str, Any]:
    """What BuildKit said: `warnings`, `error`, `metadata`."""
    recorded: dict[str, Any] = json.loads(ANSWERS.read_text())
    return recorded
