"""The named points at which an engine can be made to die (`sampan.faults`)."""

from __future__ import annotations

import re
from pathlib import Path

import sampan

SOURCE = Path(sampan.__file__).parent


def points() -> list[str]:
    """Every point in the source."""
    text = "".join(path.read_text() for path in sorted(SOURCE.rglob("*.py")) if path.name != "faults.py")
    return sorted(set(re.findall(r'\bpoint\("([a-z.-]+)"\)', text)))
