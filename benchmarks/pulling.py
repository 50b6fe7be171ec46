"""From `docker pull` to a container that could start, Sampan's engine beside docker.io's dockerd: `python -m benchmarks.pulling`.

Each engine is new, in a network namespace of its own, where a registry of the same kind on the same directory stands beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from benchmarks import contestants, processes
from benchmarks.registry import Client, push_image
from registry_peer import DockerRegistry, SampanRegistry

SOURCES = ("/usr/lib", "/usr/share", "/usr/bin")
LAYERS = 4


def layers(size: int) -> list[bytes]:
    """Gzipped layers of this machine's own files, `size` bytes altogether before compression."""
    made: list[bytes] = []
    files = (Path(folder, name) for top in SOURCES for folder, _, names in os.walk(top) for name in names)
    for _ in range(LAYERS):
        plain, left = io.BytesIO(), size // LAYERS
        with tarfile.open(fileobj=plain, mode="w") as tar:
            for path in files:
                if path.is_symlink() or not path.is_file():
                    continue
                tar.add(path, str(path).lstrip("/"))
                left -= path.stat().st_size
                if left <= 0:
                    break
        made.append(gzip.compress(plain.getvalue(), 6))
    return made


@contextlib.contextmanager
def beside(engine: contestants.Contestant, storage: Path, scratch: Path) -> Iterator[DockerRegistry]:
    """docker-registry in the engine's network namespace."""
    scratch.mkdir()
    server = DockerRegistry(scratch, prefix=("nsenter", "-t", str(engine.pid), "-n"))
    server.storage = storage
    server.start()
    try:
        yield server
    finally:
        server.stop()


def processor_time(pids: list[int]) -> float:
    """Seconds that processes and the children that they have waited for have used."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def measure(engine: contestants.Contestant, host: str) -> dict[str, float]:
    """One pull of an image that the engine has never seen, and a container of it."""
    before = processor_time([engine.pid, *processes.descendants(engine.pid)])
    begun = time.perf_counter()
    engine.docker("pull", f"{host}/app:1")
    pulled = time.perf_counter()
    engine.docker("create", "--network", "none", f"{host}/app:1", "/nothing")
    ready = time.perf_counter()
    after = processor_time([engine.pid, *processes.descendants(engine.pid)])
    return {"pull, s": pulled - begun, "until created, s": ready - begun, "processor, s": after - before}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pulling", description=__doc__)
    parser.add_argument("--size", type=int, default=400, help="MB before compression (400)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    made = layers(options.size << 20)
    with tempfile.TemporaryDirectory(prefix="sampan-pull-bench-") as directory:
        root = Path(directory)
        (root / "filler").mkdir()
        filler = SampanRegistry(root / "filler")
        filler.start()
        push_image(Client(filler, tls=False), made, config_of(made))
        filler.stop()
        print(f"{sum(map(len, made)) >> 20} MiB in {LAYERS} gzipped layers, best of {options.rounds}")
        kinds = {"sampan": contestants.sampan, "docker.io": lambda: contestants.docker("docker.io")}
        found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for number in range(options.rounds):
            for kind, start in kinds.items():
                with (
                    start() as engine,
                    beside(engine, filler.storage, root / f"{kind}-{number}") as server,
                ):
                    found[kind].append(measure(engine, server.host))
    print(f"{'':24}{'sampan':>10}{'docker.io':>12}{'ratio':>8}")
    for key in found["sampan"][0]:
        ours, theirs = (min(each[key] for each in found[kind]) for kind in kinds)
        print(f"{key:24}{ours:10.2f}{theirs:12.2f}{ours / theirs:8.2f}")


def config_of(made: list[bytes]) -> bytes:
    """The configuration of an image of gzipped layers."""
    diff_ids = [f"sha256:{hashlib.sha256(gzip.decompress(each)).hexdigest()}" for each in made]
    document = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    return json.dumps(document).encode()


if __name__ == "__main__":
    main()
