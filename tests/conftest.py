"""For all tests: with `--leftovers`, the machine must hold nothing more after them than before."""

from __future__ import annotations

import os
import secrets

import pytest
from hypothesis import settings

import leftovers

settings.register_profile("sampan", parent=settings.default, deadline=None)
settings.load_profile(
    "sampan"
)  # a busy machine is no bug; on CI, hypothesis's own profile also stops choosing at random

_before = pytest.StashKey[leftovers.Machine]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share",
        type=int,
        default=1,
        help="of of what takes long (faults' named points, parity's scenarios): one in so many, others with each commit",
    )
    parser.addoption(
        "--leftovers",
        action="store_true",
        help="fail when a mount, link, namespace, cgroup, firewall rule, process or file is left over (a machine of one's own)",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.getoption("--leftovers"):
        os.environ[leftovers.MARK] = secrets.token_hex(8)
        session.config.stash[_before] = leftovers.take()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After the last fixture's end: compare."""
    before = session.config.stash.get(_before, None)
    if before is None:
        return
    left = leftovers.wait_for(before)
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("")
            reporter.write_line("left over on the machine:", red=True)
            for line in left:
                reporter.write_line(f"  {line}", red=True)
