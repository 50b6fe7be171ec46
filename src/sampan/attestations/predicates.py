"""Provenance as SLSA has it, v1 and v0.2, with what BuildKit tells beyond that.

https://slsa.dev/spec/v1.0/provenance and https://slsa.dev/spec/v0.2/provenance; the extensions are those of BuildKit's
docs/attestations/slsa-definitions.md.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sampan.attestations.asking import PREFIX, ProvenanceWish
from sampan.attestations.captures import Capture, redacted
from sampan.attestations.purl import image_purl
from sampan.errors import InvalidParameter
from sampan.frontend.remote import git_reference
from sampan.names.times import format_rfc3339_nano

V1 = "https://slsa.dev/provenance/v1"
V02 = "https://slsa.dev/provenance/v0.2"
_BUILD_TYPE_1 = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_BUILD_TYPE_02 = "https://mobyproject.org/buildkit@v1"
_OF_THE_HOST = frozenset({"cgroup-parent", "image-resolve-mode", "platform", "cache-imports"})
"""Options that say nothing about what is built."""

Json = dict[str, Any]


class Asked(NamedTuple):
    """A request to a frontend."""

    frontend: str
    options: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What else is known of a build. Times in nanoseconds since the epoch."""

    invocation: str
    started_ns: int
    finished_ns: int
    builder_platform: str
    target_platform: str = ""
    frontend_version: str = ""
    compatibility: int = 0
    asked: Asked | None = None
    """What made the result; None for a graph alone."""
    root: Asked | None = None
    """What the client asked for in the beginning, where that is something else."""


class GraphTold(NamedTuple):
    """How the result's graph stands in full provenance."""

    config: Json
    """`buildConfig`."""
    metadata: Json
    """What BuildKit's metadata has of it: `source`, `layers`."""


def predicate_type(version: str) -> str:
    """By the version's name: `v1`, `v0.2`."""
    return V02 if version == "v0.2" else V1


def predicate(capture: Capture, facts: Facts, wish: ProvenanceWish, graph: GraphTold | None = None) -> Json:
    """The predicate; `graph` is told in full mode only.

    Raises `InvalidParameter` where the wish is to know everything that was used, and that is not known.
    """
    made = _predicate(capture, facts, wish)
    metadata: Json = made["runDetails"]["metadata"]
    if wish.complete and not metadata["buildkit_completeness"]["resolvedDependencies"]:
        raise InvalidParameter(_incomplete(capture))
    if not wish.full:
        request = made["buildDefinition"]["externalParameters"]["request"]
        if _scrub(request):
            metadata["buildkit_completeness"]["request"] = False
    elif graph is not None:
        metadata["buildkit_metadata"] |= graph.metadata
        made["buildDefinition"]["internalParameters"]["buildConfig"] = graph.config
    return as_v02(made) if wish.version == "v0.2" else made


def _predicate(capture: Capture, facts: Facts, wish: ProvenanceWish) -> Json:
    request, source = _request(facts.asked or Asked("", {}), capture)
    described = {name: value for name, value in request.get("args", {}).items() if name.startswith("vcs:")}
    for name in described:
        del request["args"][name]
    _add_used(request, capture)
    if facts.root is not None:
        root, root_source = _request(facts.root, capture)
        if (root, root_source) != _request(facts.asked or Asked("", {}), capture) and root:
            request["root"] = {"configSource": root_source, "request": root}
    if facts.compatibility:
        request["compatibilityVersion"] = facts.compatibility
    internal = {"builderPlatform": facts.builder_platform}
    if facts.target_platform:
        internal["targetPlatform"] = facts.target_platform
    if facts.frontend_version:
        internal["dockerfileVersion"] = facts.frontend_version
    complete = not (capture.incomplete or capture.locals)
    metadata: Json = {
        "invocationId": facts.invocation,
        "startedOn": format_rfc3339_nano(facts.started_ns),
        "finishedOn": format_rfc3339_nano(facts.finished_ns),
        "buildkit_metadata": _buildkits(described),
        "buildkit_completeness": {
            "request": bool(facts.asked and facts.asked.frontend),
            "resolvedDependencies": complete,
        },
    }
    if complete and not capture.network:
        metadata["buildkit_hermetic"] = True
    if wish.reproducible:
        metadata["buildkit_reproducible"] = True
    definition: Json = {"buildType": _BUILD_TYPE_1}
    if materials := _materials(capture):
        definition["resolvedDependencies"] = materials
    definition["externalParameters"] = {"configSource": source, "request": request}
    definition["internalParameters"] = internal
    return {
        "buildDefinition": definition,
        "runDetails": {"builder": {"id": wish.builder_id}, "metadata": metadata},
    }


def _buildkits(described: Mapping[str, str]) -> Json:
    control = {name.removeprefix("vcs:"): value for name, value in described.items() if value}
    return {"vcs": control} if control else {}


def _add_used(request: Json, capture: Capture) -> None:
    for name, used in (("secrets", capture.secrets), ("ssh", capture.agents)):
        if used:
            request[name] = [
                {"id": id, "optional": True} if optional else {"id": id}
                for id, optional in sorted(used.items())
            ]
    if capture.locals:
        request["locals"] = [{"name": name} for name in sorted(capture.locals)]


def _materials(capture: Capture) -> list[Json]:
    images = [
        _material(
            image_purl(each.reference, each.platform, "oci" if each.is_clients else "docker"), each.digest
        )
        for each in capture.told_images
    ]
    repositories = [
        {"uri": url, "digest": _of_commit(commit)} for url, commit in sorted(capture.repositories.items())
    ]
    files = [_material(url, digest) for url, digest in sorted(capture.files.items())]
    return [*images, *repositories, *files]


def _material(uri: str, digest: str) -> Json:
    algorithm, _, value = digest.partition(":")
    return {"uri": uri, "digest": {algorithm: value}} if value else {"uri": uri}


def _of_commit(commit: str) -> Json:
    return {"sha256" if len(commit) == 64 else "sha1": commit}


def _request(asked: Asked, capture: Capture) -> tuple[Json, Json]:
    """`request` and `configSource` of one: the context and the file's name stand in the latter."""
    key = "context"
    if asked.options.get("contextkey", ""):
        key = asked.options["contextkey"]
    arguments = _told_options(asked.options, key)
    if key == "context" and arguments.get("input:context", ""):
        key = "input:context"
    source: Json = {}
    if context := arguments.pop(key, ""):
        source |= _known_source(context, capture)
    if path := arguments.pop("filename", ""):
        source["path"] = path
    request: Json = {}
    if asked.frontend:
        request["frontend"] = asked.frontend
    if arguments:
        request["args"] = dict(sorted(arguments.items()))
    return request, source


def _told_options(options: Mapping[str, str], context: str) -> dict[str, str]:
    told = {}
    for name, value in options.items():
        if name not in _OF_THE_HOST and not name.startswith(PREFIX):
            is_place = name in (context, "vcs:source") or name.startswith("context:")
            told[name] = redacted(value) if is_place else value
    return told


def _known_source(context: str, capture: Capture) -> Json:
    """With what it was resolved to, where it is a repository or a file of the web."""
    git = git_reference(context)
    if git is not None:
        ref = f"#{git.ref}" if git.ref else ""
        commit = capture.repositories.get(redacted(git.remote) + ref)
        if commit is not None:
            place = f"{ref or '#'}:{git.directory}" if git.directory else ref
            return {"uri": redacted(git.remote) + place, "digest": _of_commit(commit)}
    if context in capture.files:
        return _material(context, capture.files[context])
    return {"uri": context}


def _scrub(request: Json) -> bool:
    """What `mode=min` does not tell; whether that was something about what is built."""
    arguments = request.get("args", {})
    private = [name for name in arguments if name.startswith(("build-arg:", "label:"))]
    for name in private:
        del arguments[name]
    if not arguments:
        request.pop("args", None)
    request.pop("secrets", None)
    request.pop("ssh", None)
    inner = request["root"]["request"] if "root" in request else None
    return bool(private) | (inner is not None and _scrub(inner))


def _incomplete(capture: Capture) -> str:
    lines = [
        "provenance materials are incomplete\n",
        "The build requested complete provenance materials, but not all dependencies could be captured.",
    ]
    if capture.locals:
        lines.append("\nUncaptured local sources:")
        lines += [f"  - {name}\n    reason: local_source" for name in sorted(capture.locals)]
    return "\n".join(lines)


def as_v02(made: Json) -> Json:
    """The same in SLSA's older form."""
    made = copy.deepcopy(made)
    definition, details = made["buildDefinition"], made["runDetails"]
    external, internal = definition["externalParameters"], definition["internalParameters"]
    given = details["metadata"]
    source = dict(external["configSource"])
    if "path" in source:
        source["entryPoint"] = source.pop("path")
    environment = {"platform": internal["builderPlatform"]}
    if "dockerfileVersion" in internal:
        environment["dockerfileVersion"] = internal["dockerfileVersion"]
    metadata: Json = {
        "buildInvocationID": given["invocationId"],
        "buildStartedOn": given["startedOn"],
        "buildFinishedOn": given["finishedOn"],
        "completeness": {
            "parameters": given["buildkit_completeness"]["request"],
            "environment": True,
            "materials": given["buildkit_completeness"]["resolvedDependencies"],
        },
        "reproducible": given.get("buildkit_reproducible", False),
        "https://mobyproject.org/buildkit@v1#metadata": given["buildkit_metadata"],
    }
    if given.get("buildkit_hermetic"):
        metadata["https://mobyproject.org/buildkit@v1#hermetic"] = True
    told: Json = {"builder": details["builder"], "buildType": _BUILD_TYPE_02}
    if "resolvedDependencies" in definition:
        told["materials"] = definition["resolvedDependencies"]
    told["invocation"] = {
        "configSource": source,
        "parameters": external["request"],
        "environment": environment,
    }
    if "buildConfig" in internal:
        told["buildConfig"] = internal["buildConfig"]
    told["metadata"] = metadata
    return told
