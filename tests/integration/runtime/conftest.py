"""One busybox root for all tests of the process model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .containers import make_rootfs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rootfs(tmp_path_factory.mktemp("busybox"))
