"""kill -9 of either side in the middle of a transfer, in a loop: pulls go on by themselves, pushes are done by the next attempt."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from image_archives import Layout, digest, tar
from image_engine import EngineProcess, ImageEngine
from registry_peer import SampanRegistry
from sampan.registry.settings import RegistrySettings

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

ROUNDS = 4


def archive() -> tuple[bytes, list[bytes]]:
    """An image of three layers of 6 MiB that no compression makes smaller, and the layers."""
    layers = [tar({"noise": random.Random(number).randbytes(6 << 20)}) for number in range(3)]
    layout = Layout()
    layout.name(layout.image(layers), "docker.io/library/source:1")
    return layout.archive(), layers


def check_storage(server: SampanRegistry) -> None:
    """Every blob is what its name says."""
    for path in (server.storage / "docker/registry/v2/blobs/sha256").rglob("data"):
        with path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == path.parent.name


def uploaded(server: SampanRegistry) -> int:
    """Bytes that have come in so far. The server moves and removes files while they are counted."""
    count = 0
    for directory, _, names in os.walk(server.storage):
        with contextlib.suppress(FileNotFoundError):
            count += Path(directory, "data").stat().st_size if "data" in names else 0
    return count


def test_the_pushing_engine_is_killed(
    server: SampanRegistry, make_image_engine: Callable[..., ImageEngine], tmp_path: Path
) -> None:
    data, layers = archive()
    name = f"{server.host}/app:1"
    chance = random.Random(5)
    with tempfile.TemporaryDirectory(prefix="sampan-push-") as directory:
        engine = EngineProcess(tmp_path / "state", Path(directory, "e.sock"))
        engine.start()
        try:
            (tmp_path / "image.tar").write_bytes(data)
            engine.output("load", "-i", str(tmp_path / "image.tar"))
            engine.output("tag", "source:1", name)
            for _ in range(ROUNDS):
                before = uploaded(server)
                push = engine.docker("push", name)
                wanted = before + chance.randrange(1, 5 << 20)
                while uploaded(server) < wanted and push.poll() is None:
                    time.sleep(0.002)  # nothing tells when a file grows
                engine.end(signal.SIGKILL)
                push.communicate(timeout=30)
                engine.start()
                check_storage(server)
            assert "digest: sha256:" in engine.output("push", name)
        finally:
            engine.end(signal.SIGTERM)
    check_storage(server)
    receiver = make_image_engine()
    receiver.docker("pull", name)
    found = json.loads(receiver.docker("image", "inspect", name))[0]["RootFS"]["Layers"]
    assert found == [digest(layer) for layer in layers]


def test_the_registry_is_killed_under_a_push_and_under_a_pull(
    server: SampanRegistry, make_image_engine: Callable[..., ImageEngine]
) -> None:
    """The client is one and the same command all the time: it goes on as soon as somebody answers again."""
    data, layers = archive()
    name = f"{server.host}/app:1"
    patient = RegistrySettings(retry_delay=0.2, attempts=30, downloads=1, uploads=1)
    sender, receiver = make_image_engine(patient), make_image_engine(patient)
    sender.docker("load", stdin=data)
    sender.docker("tag", "source:1", name)

    def killed_in_between(command: subprocess.Popen[bytes]) -> None:
        chance = random.Random(7)
        output: list[bytes] = []
        reader = threading.Thread(target=lambda: output.extend(command.communicate(timeout=120)))
        reader.start()
        for _ in range(ROUNDS):
            time.sleep(chance.random() * 0.15)  # a random point in whatever is under way
            server.stop()  # SIGKILL
            server.start()
        reader.join(120)
        assert command.returncode == 0, output

    killed_in_between(sender.docker_started("push", name))
    check_storage(server)
    killed_in_between(receiver.docker_started("pull", name))
    found = json.loads(receiver.docker("image", "inspect", name))[0]["RootFS"]["Layers"]
    assert found == [digest(layer) for layer in layers]
