"""Values of `sampan build`'s flags, as buildx reads them: secrets, outputs, caches."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from sampan.client.solving import Destination
from sampan.errors import InvalidParameter, NotSupported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sampan.client.solving import Plan

_LARGEST_SECRET = 500 * 1024
_ANNOTATED = re.compile(r"([a-z-]+)(?:\[[A-Za-z0-9_/-]+\])?")
_ANNOTATED_KINDS = ("index", "index-descriptor", "manifest", "manifest-descriptor")


def fields(text: str) -> list[str]:
    """`a=b,"c=d,e"`: CSV."""
    import csv

    return next(csv.reader([text]), [])


def pairs(text: str, flag: str) -> dict[str, str]:
    """`name=value` separated by commas. Raises `InvalidParameter`."""
    found = {}
    for field in fields(text):
        name, equals, value = field.partition("=")
        if not equals:
            raise InvalidParameter(f"invalid value {field} for {flag}")
        found[name.strip().lower()] = value
    return found


def secret(text: str) -> tuple[str, Callable[[], bytes]]:
    """`id=NAME[,src=FILE|env=VARIABLE]`: the id and what reads it. Raises `InvalidParameter`."""
    given = pairs(text, "--secret")
    kind = given.pop("type", "")
    id = given.pop("id", "")
    file = given.pop("src", "") or given.pop("source", "")
    variable = given.pop("env", "")
    if given:
        raise InvalidParameter(f"unexpected key {next(iter(given))!r} in {text!r}")
    if kind not in ("", "file", "env"):
        raise InvalidParameter(f"unsupported secret type {kind!r}")
    if kind == "env" and file and not variable:
        variable, file = file, ""
    id = id or os.path.basename(file)
    if not id:
        raise InvalidParameter(f"secret without an id: {text!r}")
    if not file and not variable:
        if kind != "file" and id in os.environ:
            variable = id
        else:
            file = id
    if variable:
        value = os.environ.get(variable)
        if value is None:
            raise InvalidParameter(f"secret {id}: environment variable {variable} is not set")
        return id, lambda: value.encode(errors="surrogateescape")
    if not os.path.isfile(file):
        raise InvalidParameter(f"failed to stat {file}: no such file or directory")
    if os.path.getsize(file) > _LARGEST_SECRET:
        raise InvalidParameter(
            f"invalid secret size {os.path.getsize(file)}: at most {_LARGEST_SECRET} bytes"
        )

    def read() -> bytes:
        with open(file, "rb") as opened:
            return opened.read()

    return id, read


def entry(text: str, flag: str) -> tuple[str, dict[str, str]]:
    """A cache: `type=local,src=…`, or the name of an image, which is `type=registry`. Raises `InvalidParameter`."""
    if "=" not in text:
        return "registry", {"ref": text}
    given = pairs(text, flag)
    kind = given.pop("type", "")
    if not kind:
        raise InvalidParameter(f"type is required in {flag} {text!r}")
    return kind, given


def annotated(given: Sequence[str]) -> dict[str, str]:
    """`[KIND[[PLATFORM]][,KIND…]:]KEY=VALUE` as attributes of an exporter. Raises `InvalidParameter`."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidParameter(f'invalid annotation "{text}", expected key=value')
        kinds, colon, key = name.partition(":")
        if not colon:
            found[f"annotation.{name}"] = value
            continue
        for kind in kinds.split(","):
            match = _ANNOTATED.fullmatch(kind)
            if match is None:
                raise InvalidParameter(
                    f'invalid annotation type "{kind}", expected type and optional platform in square brackets'
                )
            if match[1] not in _ANNOTATED_KINDS:
                raise InvalidParameter(f'unknown annotation type "{match[1]}"')
            found[f"annotation-{kind}.{key}"] = value
    return found


def add_outputs(
    plan: Plan,
    outputs: Sequence[str],
    tags: Sequence[str],
    annotations: Mapping[str, str],
    *,
    push: bool,
    load: bool,
) -> None:
    """Exporters as `--output`, `--push` and `--load` ask for them; without any it is an image in the engine. Images get the
    annotations."""
    names = {**({"name": ",".join(tags)} if tags else {}), **annotations}
    described = [_output(text) for text in outputs]
    if load:
        described.append(("docker", {}))
    if push and not described:
        described.append(("image", {}))
    for number, (kind, attributes) in enumerate(described or [("moby", {})]):
        target = attributes.pop("dest", attributes.pop("destination", ""))
        if kind == "registry":
            kind, attributes = "image", {**attributes, "push": "true"}
        elif push and kind == "image":
            attributes["push"] = "true"
        if kind == "docker" and not target:
            kind = "moby"
        elif kind in ("local", "tar", "oci", "docker"):
            plan.destinations[number] = _destination(kind, target, attributes)
        if kind not in ("local", "tar"):
            attributes = {**names, **attributes}
        plan.exporters.append((kind, attributes))


def _output(text: str) -> tuple[str, dict[str, str]]:
    """A directory, `-` for an archive on standard output, or `type=…`."""
    if "=" not in text:
        return ("tar", {"dest": "-"}) if text == "-" else ("local", {"dest": text})
    given = pairs(text, "--output")
    kind = given.pop("type", "")
    if not kind:
        raise InvalidParameter(f"type is required for output {text!r}")
    return kind, given


def _destination(kind: str, target: str, attributes: dict[str, str]) -> Destination:
    if kind == "local" or (kind in ("oci", "docker") and attributes.pop("tar", "true") in ("false", "0")):
        # A layout comes as its archive and is unpacked here.
        if attributes.get("mode", "copy") != "copy":
            raise NotSupported(
                f"--output mode={attributes['mode']} is not in this version of sampan build: empty the directory before"
            )
        if not target or target == "-":
            raise InvalidParameter(f"dest is required for {kind} output")
        return Destination(target, directory=True)
    if not target:
        target = "-"
    if target == "-" and sys.stdout.isatty():
        raise InvalidParameter(
            f"dest file is required for {kind} output: refusing to write an archive to a terminal"
        )
    if os.path.isdir(target):
        raise InvalidParameter(f"destination file {target} is a directory")
    return Destination(target, directory=False)


def hosts(given: Sequence[str]) -> str:
    """`name:address` or `name=address`, as the frontend takes them. Raises `InvalidParameter`."""
    found = []
    for text in given:
        name, separator, address = text.partition("=") if "=" in text else text.partition(":")
        if not name or not separator or not address:
            raise InvalidParameter(f"bad format for add-host: {text!r}")
        found.append(f"{name}={address.strip('[]') if address.startswith('[') else address}")
    return ",".join(found)


def attestations(attest: Sequence[str], provenance: str | None, sbom: str | None) -> dict[str, str]:
    """Options of the frontend for what is to be attested: `--provenance` and `--sbom` are shorter for `--attest`."""
    options: dict[str, str] = {}
    for text in attest:
        given = pairs(text if "=" in text else f"type={text}", "--attest")
        kind = given.pop("type", "")
        if not kind:
            raise InvalidParameter(f"attestation type not specified in {text!r}")
        options |= _attestation(kind, ",".join(f"{name}={value}" for name, value in given.items()))
    for kind, value in (("provenance", provenance), ("sbom", sbom)):
        if value is not None:
            options |= _attestation(kind, value)
    return options


def provenance_told() -> str:
    """How much of a result's provenance the metadata file has: what `BUILDX_METADATA_PROVENANCE` says, else little."""
    asked = os.environ.get("BUILDX_METADATA_PROVENANCE", "").lower()
    if asked in ("disabled", "0", "f", "false"):
        return ""
    return "max" if asked == "max" else "min"


def _attestation(kind: str, value: str) -> dict[str, str]:
    if value in ("false", "0", "disabled=true"):
        return {}
    if value in ("true", "1"):
        value = ""
    return {f"attest:{kind}": value.removeprefix("disabled=false").strip(",")}
