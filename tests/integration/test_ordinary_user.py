"""Nothing of Sampan needs to be root merely to be imported: an ordinary user's engine stands on the same code."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.root

_SCRIPT = """
import importlib, os, pkgutil, sampan
assert os.geteuid() == 1000
names = [m.name for m in pkgutil.walk_packages(sampan.__path__, "sampan.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
assert len(names) > 400
"""


def test_every_module_can_be_imported_by_an_ordinary_user() -> None:
    within = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]  # without any capability
    done = subprocess.run(
        [*within, sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
