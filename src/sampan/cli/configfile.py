"""The client's `config.json`, which docker's CLI reads and writes too: logins, credential helpers, detach keys."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sampan.client.endpoint import config_directory
from sampan.errors import InvalidParameter


def _path() -> Path:
    return Path(config_directory()) / "config.json"


def read_config() -> dict[str, Any]:
    """What is in it; {} when there is none. Raises `InvalidParameter` for a file that holds no JSON object."""
    path = _path()
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidParameter(f"cannot read {path}: {error}") from None
    if not isinstance(document, dict):
        raise InvalidParameter(f"cannot read {path}: it must hold a JSON object")
    return document


def write_config(config: dict[str, Any]) -> None:
    """Replace the file in one step; only its owner may read it."""
    path = _path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(descriptor, "w") as file:
            file.write(json.dumps(config, indent="\t"))
        os.replace(partial, path.resolve())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
