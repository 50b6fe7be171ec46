"""The Debian image: `mmdebstrap --variant=minbase` from the machine's own apt sources, with what differs per
run taken out.
"""

from __future__ import annotations

import calendar
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sampan.errors import InvalidParameter, SystemFailure
from sampan.images.bootstrap.archive import BaseImage, Recipe, release_epoch, write_archive
from sampan.names.reference import parse_normalized

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LISTS = Path("/var/lib/apt/lists")
_SUITE = re.compile(r"[a-z][a-z0-9.-]*\Z")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")
_BRANCHES = ("", "-updates", "-security")

_CLEAN = """\
rm -f "$1"/etc/machine-id "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/var/lib/dbus/machine-id
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old
rm -f "$1"/var/cache/ldconfig/aux-cache "$1"/var/log/*.log "$1"/var/log/apt/*
: >"$1"/etc/machine-id
"""
"""Run with the tree as $1 after the packages are in: takes out what is this machine's or this run's."""


class Source(NamedTuple):
    """One line of the machine's apt sources."""

    uri: str
    suite: str
    component: str

    def line(self) -> str:
        """As sources.list has it."""
        options = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
        return f"deb {options}{self.uri} {self.suite} {self.component}"


def build(directory: Path, suite: str, packages: Sequence[str] = (), name: str = "") -> BaseImage:
    """Write `directory/debian-SUITE.tar`; an empty suite is the machine's own, or stable. Takes a minute or
    so. `packages` are in it besides the essential ones; `name` takes the place of its own names.
    """
    own = _own_codename()
    wanted = suite or own or "stable"
    if not _SUITE.match(wanted):
        raise InvalidParameter(f"'{wanted}' is no name of a Debian suite")
    for package in packages:
        if not _PACKAGE.match(package):
            raise InvalidParameter(f"'{package}' is no name of a Debian package")
    if shutil.which("mmdebstrap") is None:
        raise SystemFailure("bootstrapping debian needs mmdebstrap: apt-get install mmdebstrap")
    sources = suite_sources(_machine_sources(), own, wanted)
    epoch = release_epoch(_release_date(wanted))
    layer = directory / "debian-layer.tar"
    names = (f"debian:{wanted}",) if suite else (f"debian:{wanted}", "debian:latest")
    if name:
        names = (_own_name(name),)
    _debootstrap(wanted, sources, epoch, layer, packages)
    included = f" --include={','.join(packages)}" if packages else ""
    recipe = Recipe(
        references=names,
        created=epoch,
        created_by=f"sampan image bootstrap debian:{wanted} # mmdebstrap --variant=minbase{included}",
        config={
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["bash"],
        },
    )
    image = write_archive(directory / f"debian-{wanted}.tar", layer, recipe)
    layer.unlink()
    return image


def _own_name(text: str) -> str:
    """The name that the image is asked to have. Raises `InvalidParameter` for one with a digest."""
    reference = parse_normalized(text)
    if reference.digest:
        raise InvalidParameter(f"{text}: a name with a digest is no name for a new image")
    return reference.with_default_tag().familiar()


def suite_sources(machine: list[Source], own: str, wanted: str) -> list[Source]:
    """The machine's sources for `wanted`: those of its own release, with the release's name replaced; foreign
    archives drop out.

    Empty when the machine has none, so that mmdebstrap takes its own default.
    """
    if not own:
        return []
    names = {own + branch: wanted + branch for branch in _BRANCHES}
    if wanted in ("sid", "unstable"):
        names = {own: wanted}  # neither updates nor security there
    chosen = [source._replace(suite=names[source.suite]) for source in machine if source.suite in names]
    return list(dict.fromkeys(source for source in chosen if source.component == "main"))


def parse_release_date(release: str) -> int:
    """`Date:` of a Release file, in seconds since the epoch; 0 when there is none."""
    found = re.search(r"^Date: (.+)$", release, re.MULTILINE)
    if found is None:
        return 0
    try:
        return calendar.timegm(time.strptime(found[1].strip(), "%a, %d %b %Y %H:%M:%S %Z"))
    except ValueError:
        return 0


def _own_codename() -> str:
    """This machine's Debian release; empty on other distributions."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else ""


def _machine_sources() -> list[Source]:
    """What apt itself makes of its sources files, in either of their formats."""
    form = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [Source(*line.split("|")) for line in output.splitlines() if line.count("|") == 2]


def _release_date(suite: str) -> int:
    """When the newest of the suite's archives was published, as far as apt's lists on this machine know.

    The day's start when they know nothing (another suite than the machine's own): then a later day gives
    another digest.
    """
    dates = [
        parse_release_date(path.read_text(errors="replace"))
        for branch in _BRANCHES
        for path in _LISTS.glob(f"*_dists_{suite}{branch}_*Release")
    ]
    return max(dates, default=0) or int(time.time()) // 86400 * 86400


def _debootstrap(suite: str, sources: list[Source], epoch: int, layer: Path, packages: Sequence[str]) -> None:
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--format=tar",
        f"--customize-hook={_CLEAN}",
        *([f"--include={','.join(packages)}"] if packages else []),
        suite,
        str(layer),
    ]
    text = None
    if sources:
        command.append("-")
        text = "".join(source.line() + "\n" for source in sources)
    result = subprocess.run(
        command,
        input=text,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if result.returncode != 0:
        reason = "\n".join(result.stderr.strip().splitlines()[-3:]) or f"exit status {result.returncode}"
        raise SystemFailure(f"mmdebstrap failed for {suite}: {reason}")
