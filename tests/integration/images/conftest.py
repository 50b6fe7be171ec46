"""Fixtures: an image engine, and archives to feed it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from image_engine import ImageEngine
from sampan.images import bootstrap


@pytest.fixture
def image_engine(tmp_path: Path) -> Iterator[ImageEngine]:
    engine = ImageEngine(tmp_path / "state")
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sampan image bootstrap busybox` makes."""
    return bootstrap.build("busybox", tmp_path_factory.mktemp("busybox")).path
