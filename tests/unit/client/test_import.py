"""`import sampan` is light and works anywhere."""

from __future__ import annotations

import subprocess
import sys

import pytest


def imported(code: str) -> set[str]:
    """Modules that are loaded after the code ran in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys\nprint(' '.join(sys.modules))"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split())


def test_import_loads_nothing_else() -> None:
    own = {name for name in imported("import sampan") if name.startswith("sampan")}
    assert own == {"sampan", "sampan.version"}


@pytest.mark.parametrize(
    "heavy", ["asyncio", "aiohttp", "msgspec", "http.client", "subprocess", "tarfile", "ssl", "fcntl"]
)
def test_a_connection_loads_nothing_heavy(heavy: str) -> None:
    assert heavy not in imported("import sampan; sampan.connect('tcp://127.0.0.1:1')")


def test_without_linux_modules() -> None:
    imported(
        "import sys\n"
        "for name in ('fcntl', 'termios', 'tty', 'resource', 'pwd', 'grp'): sys.modules[name] = None\n"
        "sys.platform = 'darwin'\n"
        "import sampan, sampan.cli.main, sampan.cli.verbs.running, sampan.cli.streaming\n"
        "sampan.connect('tcp://127.0.0.1:1')\n"
        "try: sampan.connect(command=sampan.EngineCommand()).ping()\n"
        "except sampan.errors.NotSupported as error: assert 'need Linux' in str(error)\n"
    )
