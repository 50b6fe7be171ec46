"""The engine's id: made once per data root, shown by `docker info`, kept for ever."""

from __future__ import annotations

import uuid
from pathlib import Path


def engine_id(data_root: Path) -> str:
    """The stored id, or a new one that is stored now."""
    path = data_root / "engine-id"
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        text = ""
    if not text:
        text = str(uuid.uuid4())
        path.write_text(text + "\n")
    return text
