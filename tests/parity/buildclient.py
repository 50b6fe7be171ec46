"""One build through BuildKit's gRPC, as buildx asks for it, and what it prints: steps, their output, the error with its excerpt."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any

from grpclib.exceptions import GRPCError

from buildkit_client import Builder, Files, building_at
from sampan.buildkit import sending, trees
from sampan.buildkit.protos import control_pb2
from sampan.dockerfile.ignore import Ignore
from sampan.dockerfile.source import Place, Source
from sampan.errors import NotFound, SampanError

_SOURCE = "github.com/moby/buildkit/errdefs.Source+json"
_OWN = ("secret:", "buildkit")
_REF = re.compile(r"(?<=checksum of ref) \w+::\w+")


class ContextFiles(Files):
    """A context's directory, and those below it that have names of their own; without what they are asked to leave out."""

    def __init__(self, context: Path, named: dict[str, str]) -> None:
        super().__init__(context)
        self._context = context
        self._named = named

    async def diff_copy(self, stream: Any) -> None:
        name = stream.metadata.get("dir-name", "")
        if name not in ("context", "dockerfile", *self._named):
            raise NotFound(f"no access allowed to dir {name!r}")
        directory = self._context / self._named.get(name, "")
        patterns = list(stream.metadata.getall("exclude-patterns", []))
        if patterns:
            directory = _without(directory, Ignore(patterns), self._context.with_name("filtered"))
        root = os.open(directory, os.O_RDONLY)
        try:
            await sending.send(stream, [trees.Files("", root)])
        finally:
            os.close(root)


def _without(directory: Path, ignore: Ignore, copy: Path) -> Path:
    """A copy of links, as clients leave out what `.dockerignore` says."""
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(["cp", "-al", directory, copy], check=True)
    kept: set[Path] = set()
    found = sorted(copy.rglob("*"), reverse=True)
    for path in found:  # what is below a directory before it
        if not ignore.excludes(str(path.relative_to(copy))):
            kept |= {path, *path.parents}
    for path in found:
        if path not in kept:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    return copy


async def solve(socket_path: Path, context: Path, name: str, options: dict[str, str]) -> dict[str, Any]:
    """Build and load; `error` is in the outcome where there was one."""
    contexts = {
        each.removeprefix("context:"): value for each, value in options.items() if each.startswith("context:")
    }
    directories = {each: value for each, value in contexts.items() if ":" not in value}
    attributes = {each: value for each, value in options.items() if not each.startswith(_OWN)}
    attributes |= {f"context:{each}": f"local:{each}" for each in directories}
    keeps = {
        each.removeprefix("secret:"): value.encode()
        for each, value in options.items()
        if each.startswith("secret:")
    }
    outcome: dict[str, Any] = {}
    async with building_at(
        socket_path, ContextFiles(context, directories), keeps, secrets.token_hex(8)
    ) as builder:
        try:
            await builder.solve(
                Frontend="dockerfile.v0",
                FrontendAttrs={
                    "filename": "Dockerfile",
                    "image-resolve-mode": "local",
                    "no-cache": "",
                    "force-network-mode": "none",
                    **attributes,
                },
                Exporters=[control_pb2.Exporter(Type="moby", Attrs={"name": name})],
            )
        except SampanError as error:
            outcome["error"] = [*_REF.sub("", str(error)).splitlines(), *_excerpts(error)]
        return {**outcome, "steps": _steps(builder, failed="error" in outcome)}


def _excerpts(error: SampanError) -> list[str]:
    """As buildx prints it: the lines of all ranges and those around them, in one piece."""
    cause = error.__cause__
    lines: list[str] = []
    for detail in (cause.details or []) if isinstance(cause, GRPCError) else []:
        if detail.type_url == _SOURCE:
            told = json.loads(detail.value)
            text = b64decode(told["info"]["data"]).decode(errors="replace")
            source = Source(told["info"]["filename"], tuple(text.removesuffix("\n").split("\n")))
            firsts = [each["start"].get("line", 0) for each in told["ranges"]]
            lasts = [each.get("end", each["start"]).get("line", 0) for each in told["ranges"]]
            excerpt = source.excerpt(Place(min(firsts), max(lasts))).splitlines()
            if lines[-len(excerpt) :] != excerpt:  # the same place may be told twice
                lines += excerpt
    return lines


def _steps(builder: Builder, *, failed: bool) -> dict[str, list[str]]:
    """The output of each step by its name, stdout first; of a failed build of those only that had any, for which others were
    begun is a matter of chance."""
    names = {each.digest: each.name for each in builder.told.vertexes}
    said: dict[str, dict[int, bytes]] = {} if failed else {name: {} for name in names.values()}
    for log in builder.told.logs:
        streams = said.setdefault(names.get(log.vertex, "?"), {})
        streams[log.stream] = streams.get(log.stream, b"") + log.msg
    return {
        name: [
            line for _, text in sorted(streams.items()) for line in text.decode(errors="replace").splitlines()
        ]
        for name, streams in sorted(said.items())
    }
