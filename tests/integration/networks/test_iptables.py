"""Docker's kind of rules beside ours: FORWARD drops, in both kinds of iptables. In a namespace that stands for the host."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

TESTS = Path(__file__).parents[2]


@pytest.mark.parametrize("order", ["before", "meanwhile"])
@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_traffic_flows_and_foreign_rules_stay(program: str, order: str, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install iptables)")
    done = subprocess.run(
        ["unshare", "-n", sys.executable, TESTS / "foreign_filter_scenario.py", order, program, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "passed\n", done.stderr
