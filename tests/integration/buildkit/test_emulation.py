"""Steps for another platform than this machine's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_client import building, run
from running_engine import RunningEngine
from sampan.errors import SampanError
from sampan.linux.mount import new_filesystem

pytestmark = pytest.mark.root

HEADER = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x02\x01"
"""Of programs for loong64, which no machine here has an emulator for."""
OPTIONS = {"platform": "linux/loong64"}
DOCKERFILE = (
    "FROM --platform=$BUILDPLATFORM busybox AS tools\n"
    "FROM scratch\n"
    "COPY --from=tools / /\n"
    "COPY --chmod=755 program /program\n"
    "RUN echo mislabelled\n"
)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE + 'RUN ["/program"]\n')
    (tmp_path / "program").write_bytes(HEADER + b"\nread by the emulator\n")
    return tmp_path


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[None]:
    """An emulator that prints the program."""
    table = new_filesystem("binfmt_misc", {})
    interpreter = tmp_path / "cat"
    shutil.copy("/bin/busybox", interpreter)
    name = f"sampan-test-{os.getpid()}"
    magic = "".join(f"\\x{byte:02x}" for byte in HEADER)
    _write(table, "register", f":{name}:M::{magic}::{interpreter}:F")
    try:
        yield
    finally:
        _write(table, name, "-1")
        os.close(table)


def _write(table: int, name: str, text: str) -> None:
    file = os.open(name, os.O_WRONLY, dir_fd=table)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def test_without_an_emulator_it_is_said_what_is_missing(engine: RunningEngine, context: Path) -> None:
    async def work() -> None:
        async with building(engine, context) as builder:
            with pytest.raises(SampanError) as caught:
                await builder.solve(Frontend="dockerfile.v0", FrontendAttrs=OPTIONS)
            said = str(caught.value)
            assert "programs for linux/loong64 cannot run on this machine (linux/" in said
            assert "qemu-loongarch64" in said and "qemu-user-static" in said
            assert (
                builder.output == "mislabelled\n"
            )  # a program of this machine runs, whatever its platform is called

    run(work())


@pytest.mark.usefixtures("emulator")
def test_with_an_emulator_it_runs(engine: RunningEngine, context: Path) -> None:
    async def work() -> None:
        async with building(engine, context) as builder:
            await builder.solve(Frontend="dockerfile.v0", FrontendAttrs=OPTIONS)
            assert "read by the emulator" in builder.output

    run(work())
