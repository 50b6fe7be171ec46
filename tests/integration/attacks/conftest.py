from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from busybox_image import busybox_archive
from image_archives import Member
from oci_bundle import Bundle
from running_engine import RunningEngine


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    """A bundle over busybox; its containers are removed afterwards."""
    made = Bundle(tmp_path)
    yield made
    made.close()


@pytest.fixture
def hostile_image(engine: RunningEngine) -> Iterator[Callable[..., str]]:
    """Load an image of busybox and what an attacker adds to it: its name. It is gone after the test."""
    names: list[str] = []

    def load(members: Iterable[Member] = (), settings: Mapping[str, Any] | None = None) -> str:
        names.append(f"hostile{len(names)}:latest")
        with engine.client() as client:
            client.images.load(busybox_archive(names[-1], members=members, settings=settings))
        return names[-1]

    yield load
    engine.remove_everything()
    for name in names:
        engine.docker("image", "rm", "--force", name)


@pytest.fixture
def host_directory(tmp_path: Path) -> Path:
    """A directory of the host with a secret in it: attacks want to read that, or to write beside it."""
    directory = tmp_path / "host"
    directory.mkdir()
    (directory / "secret").write_text("the host's secret")
    return directory
