"""What is to be attested, from a request's options: `attest:provenance=mode=max,version=v0.2`, `attest:sbom=generator=IMAGE`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import NamedTuple

from sampan.errors import InvalidParameter, NotSupported
from sampan.names.booleans import word_for
from sampan.names.reference import parse_normalized

PREFIX = "attest:"
_ARGUMENT = "build-arg:BUILDKIT_ATTEST_"
_SCANNER = "docker/buildkit-syft-scanner:stable-1"


class ProvenanceWish(NamedTuple):
    """How a build's provenance is told. Without a mode it is told in full, as with BuildKit."""

    version: str = "v1"
    """Of SLSA's predicate: `v1` or `v0.2`."""
    full: bool = True
    """`mode=max`: with the graph, the text that it was made from, and ids of secrets; else neither those nor arguments."""
    inline_only: bool = False
    """Only where it becomes part of an image."""
    reproducible: bool = False
    """What the client claims."""
    builder_id: str = ""
    filename: str = "provenance.json"
    """Where the result is a directory or an archive of files."""
    complete: bool = False
    """Fail where not everything that was used is known by its digest."""


class SbomWish(NamedTuple):
    """Which image scans the result, and what it is told (`BUILDKIT_SCAN_…`)."""

    generator: str
    parameters: Mapping[str, str]


class Wishes(NamedTuple):
    """Of one request."""

    provenance: ProvenanceWish | None = None
    sbom: SbomWish | None = None


def wishes(options: Mapping[str, str]) -> Wishes:
    """Raises `InvalidParameter` in BuildKit's words, `NotSupported` for usage that nobody measures here."""
    provenance = sbom = None
    for kind, text in _asked(options).items():
        attributes = _attributes(kind, text)
        if kind == "provenance":
            provenance = _provenance(attributes)
        elif kind == "sbom":
            sbom = _sbom(attributes)
        else:
            raise InvalidParameter(f'unknown attestation type "{kind}"')
    return Wishes(provenance, sbom)


def _asked(options: Mapping[str, str]) -> dict[str, str]:
    asked = {}
    for name, value in options.items():
        for prefix in (PREFIX, _ARGUMENT):
            if name.startswith(prefix):
                asked[name.removeprefix(prefix).lower()] = value
    return asked


def _attributes(kind: str, text: str) -> dict[str, str]:
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InvalidParameter(f"failed to parse {kind}: {error}") from None
    found = {}
    for field in fields:
        name, _, value = field.partition("=")
        found[name] = value
    return found


def _provenance(given: Mapping[str, str]) -> ProvenanceWish:
    version = given.get("version", "v1")
    if version not in ("v1", "v0.2"):
        raise InvalidParameter(
            f"invalid provenance SLSA version: {version}"
            if version
            else "provenance SLSA version cannot be empty"
        )
    mode = given.get("mode", "max")
    if mode not in ("min", "max", "full"):
        raise InvalidParameter(f'invalid mode "{mode}"')
    if word_for(given.get("capture-usage", "")):
        raise NotSupported("usage of resources (capture-usage) is not in this version of Sampan's provenance")
    return ProvenanceWish(
        version=version,
        full=mode != "min",
        inline_only=bool(word_for(given.get("inline-only", ""))),
        reproducible=_flag(given, "reproducible"),
        builder_id=given.get("builder-id", ""),
        filename=given.get("filename", ProvenanceWish().filename),
        complete=_flag(given, "complete-materials"),
    )


def _flag(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "false")
    value = word_for(text)
    if value is None:
        raise InvalidParameter(f'failed to parse {name} flag "{text}": invalid syntax')
    return value


def _sbom(given: Mapping[str, str]) -> SbomWish:
    generator = given.get("generator", _SCANNER)
    if not generator:
        raise InvalidParameter("sbom generator cannot be empty")
    try:
        reference = parse_normalized(generator).with_default_tag()
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to parse sbom generator {generator}: {error}") from None
    parameters = {name: value for name, value in given.items() if name not in ("generator", "")}
    return SbomWish(str(reference), parameters)
