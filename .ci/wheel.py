"""Builds the wheel and checks that it is pure Python and complete."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def main() -> int:
    """0 when the wheel is as it should be."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory], check=True
        )
        (wheel,) = Path(directory).glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
    problems = []
    if not wheel.name.endswith("-py3-none-any.whl"):
        problems.append(f"{wheel.name} is not for every platform")
    if binaries := [name for name in names if name.endswith((".so", ".pyd", ".dll", ".dylib"))]:
        problems.append(f"compiled files in it: {', '.join(binaries)}")
    sources = Path("src")
    wanted = {str(path.relative_to(sources)) for path in sources.rglob("*.py")} | {"sampan/py.typed"}
    if missing := sorted(wanted - set(names)):
        problems.append(f"not in it: {', '.join(missing)}")
    sys.stderr.writelines(f"wheel: {problem}\n" for problem in problems)
    return 1 if problems else 0


sys.exit(main())
