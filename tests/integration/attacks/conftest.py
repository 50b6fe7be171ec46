from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oci_bundle import Bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    """A bundle over busybox; its containers are removed afterwards."""
    made = Bundle(tmp_path)
    yield made
    made.close()
