"""`-e`, `--env-file`, `--label`, `--label-file`, `--add-host`, `--security-opt`: flags that carry text or name files."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterable


def environment(files: Iterable[str], variables: Iterable[str]) -> list[str]:
    """Files first, then `-e`. A name without value takes the caller's; where the caller has none, `-e NAME` asks the
    engine to unset it and a file's line is skipped.
    """
    entries = []
    for path in files:
        for line in _lines(path):
            name, separator, _ = line.partition("=")
            if separator:
                entries.append(line)
            elif name in os.environ:
                entries.append(f"{name}={os.environ[name]}")
    return entries + list(variables)


def variable(text: str) -> str:
    """`-e NAME=VALUE`; a name alone takes the caller's value, where there is one."""
    name, separator, _ = text.partition("=")
    if not name:
        raise InvalidParameter(f"invalid environment variable: {text}")
    if not separator and name in os.environ:
        return f"{name}={os.environ[name]}"
    return text


def labels(files: Iterable[str], given: Iterable[str]) -> dict[str, str]:
    """Files first, then `--label`."""
    found = {}
    for entry in [line for path in files for line in _lines(path)] + list(given):
        name, _, value = label(entry).partition("=")
        found[name] = value
    return found


def label(text: str) -> str:
    """`--label NAME[=VALUE]`."""
    if not text.partition("=")[0]:
        raise InvalidParameter(f"invalid label '{text}': empty name")
    return text


def _lines(path: str) -> list[str]:
    """A file's lines without blank ones and comments. Raises InvalidParameter for a line that names nothing."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise InvalidParameter(f"open {path}: {(error.strerror or '').lower()}") from None
    except UnicodeDecodeError:
        raise InvalidParameter(f"env file {path} contains invalid utf8 bytes") from None
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.lstrip()
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if not name:
            raise InvalidParameter(
                f"poorly formatted environment: {path}: line {number}: no variable name on line '{line}'"
            )
        if any(character.isspace() for character in name):
            raise InvalidParameter(
                f"poorly formatted environment: {path}: variable '{name}' contains whitespaces"
            )
        lines.append(line)
    return lines


def extra_host(entry: str) -> str:
    """`--add-host NAME:ADDRESS` or `NAME=ADDRESS`, as the API has it."""
    separator = "=" if "=" in entry else ":"
    name, found, address = entry.partition(separator)
    if not found or not name:
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != "host-gateway":
        import ipaddress

        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None
    return f"{name}:{address}"


def security_options(given: Iterable[str]) -> tuple[list[str], bool]:
    """(SecurityOpt with a seccomp profile's text in place of its path, whether system paths are left open)."""
    options, open_paths = [], False
    for option in given:
        name, separator, value = option.partition("=")
        if not separator and name != "no-new-privileges":
            name, separator, value = option.partition(":")
            if not separator:
                raise InvalidParameter(f'Invalid --security-opt: "{option}"')
        if name == "systempaths" and value == "unconfined":
            open_paths = True
        elif name == "seccomp" and value not in ("unconfined", "builtin"):
            options.append("seccomp=" + _profile(value))
        else:
            options.append(option)
    return options, open_paths


def _profile(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return json.dumps(json.load(file), separators=(",", ":"))
    except OSError as error:
        raise InvalidParameter(
            f"opening seccomp profile ({path}) failed: open {path}: {(error.strerror or '').lower()}"
        ) from None
    except ValueError as error:
        raise InvalidParameter(f"compacting json for seccomp profile ({path}) failed: {error}") from None


def storage_options(given: Iterable[str]) -> dict[str, str]:
    options = {}
    for entry in given:
        name, separator, value = entry.partition("=")
        if not separator:
            raise InvalidParameter("invalid storage option")
        options[name] = value
    return options


def log_config(driver: str, options: Iterable[str]) -> dict[str, Any]:
    """The API's LogConfig; `none` takes no options."""
    config = {name: value for name, _, value in (entry.partition("=") for entry in options)}
    if driver == "none" and config:
        raise InvalidParameter("invalid logging opts for driver none")
    return {"Type": driver, "Config": config}
