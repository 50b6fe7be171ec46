"""The frontend here, asked without an engine about a case of the corpus; its answers have the form of the recorded ones."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from dockerfile_corpus import IMAGES, Case
from sampan.dockerfile.checks import Checks, checks_of, read_with
from sampan.dockerfile.ignore import patterns_of
from sampan.dockerfile.source import DockerfileError
from sampan.errors import NotFound, SampanError
from sampan.frontend.interface import Base, Options
from sampan.frontend.lower import lower
from sampan.frontend.subrequests import Question, answer
from sampan.names.platform import Platform
from sampan.oci.image import parse_config

AMD64 = Platform("linux", "amd64")


class Images:
    """Those of the corpus."""

    async def image(self, name: str, platform: Platform) -> Base:
        if name.partition(":")[0] not in IMAGES:
            raise NotFound(f"no such image: {name}")
        config = parse_config(json.dumps(IMAGES[name.partition(":")[0]]).encode())
        return Base(f"docker.io/library/{name}@sha256:{'2' * 64}", config, platform)


def options(case: Case) -> Options:
    arguments = {
        name.removeprefix("build-arg:"): value
        for name, value in case.options.items()
        if name.startswith("build-arg:")
    }
    return Options(
        platform=AMD64,
        build_platform=AMD64,
        target=case.options.get("target", ""),
        arguments=arguments,
        ignored=tuple(patterns_of(case.ignore)),
    )


def build(case: Case) -> tuple[Checks | None, str]:
    """What was found, and what failed."""
    checks = None
    try:
        checks = checks_of(case.text, case.options.get("build-arg:BUILDKIT_DOCKERFILE_CHECK"))
        asyncio.run(lower(read_with(checks, case.text), options(case), Images(), checks))
    except (DockerfileError, NotFound) as error:
        return checks, error.message if isinstance(error, DockerfileError) else str(error)
    return checks, ""


def told(finding: Any) -> dict[str, Any]:
    return {
        "short": finding.short,
        "detail": [finding.rule.description],
        "url": finding.rule.url,
        "level": 1,
        "lines": list(range(finding.place.first, finding.place.last + 1)),
    }


def asked(case: Case, request: str) -> tuple[dict[str, str], str]:
    """The answer's parts, and what failed."""
    question = Question("Dockerfile", case.text.encode(errors="replace"), options(case), Images())
    try:
        found = asyncio.run(answer(request, question))
    except SampanError as error:
        return {}, str(error)
    return {key: value.decode() for key, value in found.items()}, ""
