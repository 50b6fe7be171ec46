"""Sampan's registry beside Debian's docker-registry (and distribution v3), in turn: `python -m benchmarks.registry`.

Plain requests by blocking sockets, the same for both, so that a ratio says something of the servers.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import shutil
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from certificates import Authority
from registry_peer import DockerRegistry, SampanRegistry

ROUNDS = 3
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def media_type(layer: bytes) -> str:
    return LAYER_GZIP if layer.startswith(b"\x1f\x8b") else LAYER


class Client:
    """One connection, kept."""

    def __init__(self, server: DockerRegistry, tls: bool) -> None:
        if tls:
            context = ssl._create_unverified_context()
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                server.host, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(server.host, blocksize=1 << 20)

    def __call__(
        self, method: str, path: str, data: bytes | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, data, sent)
        return self._connection.getresponse()

    def push_blob(self, data: bytes) -> None:
        answer = self("POST", "/v2/app/blobs/uploads/", b"")
        answer.read()
        location = (
            (answer.getheader("Location") or "").partition("://")[2] or answer.getheader("Location") or ""
        )
        path = location[location.index("/") :]
        answer = self("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest(data)}", data)
        assert answer.status == 201, answer.read()
        answer.read()

    def pull_blob(self, name: str) -> int:
        answer = self("GET", f"/v2/app/blobs/{name}")
        buffer = memoryview(bytearray(1 << 20))
        total = 0
        while count := answer.readinto(buffer):
            total += count
        return total


def push_image(client: Client, layers: list[bytes], config: bytes = b"{}") -> None:
    """Push blobs and a manifest `app:1`."""
    for layer in layers:
        client.push_blob(layer)
    client.push_blob(config)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(config), "size": len(config)},
        "layers": [
            {"mediaType": media_type(each), "digest": digest(each), "size": len(each)} for each in layers
        ],
    }
    answer = client("PUT", "/v2/app/manifests/1", json.dumps(document).encode(), Content_Type=MANIFEST)
    assert answer.status == 201, answer.read()
    answer.read()


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def memory(server: DockerRegistry) -> float:
    """Most memory that the server had, MiB."""
    text = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def measure(server: DockerRegistry, tls: bool, big: bytes, small: list[bytes]) -> dict[str, float]:
    """One round; seconds, and milliseconds for the latency."""
    client = Client(server, tls)
    found: dict[str, float] = {}
    found["push 170 MB, s"] = timed(lambda: push_image(client, [big]))
    found["pull 170 MB, s"] = timed(lambda: client.pull_blob(digest(big)))
    if not tls:
        found["push 500 small layers, s"] = timed(lambda: push_image(client, small))
        found["pull 500 small layers, s"] = timed(lambda: [client.pull_blob(digest(each)) for each in small])
        name = digest(small[0])
        with ThreadPoolExecutor(64) as pool:
            clients = [Client(server, tls) for _ in range(64)]
            found["64 clients, 10 small pulls each, s"] = timed(
                lambda: list(pool.map(lambda each: [each.pull_blob(name) for _ in range(10)], clients))
            )
        latencies = [
            timed(lambda: client("HEAD", "/v2/app/manifests/1", Accept=MANIFEST).read()) for _ in range(300)
        ]
        found["HEAD manifest, ms (median)"] = statistics.median(latencies) * 1000
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.registry", description=__doc__)
    parser.add_argument(
        "--distribution", metavar="PROGRAM", help="another registry of distribution's kind, beside the two"
    )
    options = parser.parse_args()
    kinds: dict[str, Callable[[Path, dict[str, str] | None], DockerRegistry]] = {
        "sampan": SampanRegistry,
        "docker-registry": DockerRegistry,
    }
    if options.distribution:
        kinds["distribution"] = lambda root, keys: DockerRegistry(root, keys, program=options.distribution)
    big = os.urandom(170 << 20)
    small = [os.urandom(2000) for _ in range(500)]
    with tempfile.TemporaryDirectory(prefix="sampan-registry-bench-") as directory:
        certificate = Authority(Path(directory)).issue("server", server=True)
        keys = {
            "REGISTRY_HTTP_TLS_CERTIFICATE": str(certificate / "cert.pem"),
            "REGISTRY_HTTP_TLS_KEY": str(certificate / "key.pem"),
        }
        for tls in (False, True):
            rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
            for number in range(ROUNDS):
                for kind, program in kinds.items():
                    root = Path(directory, f"{kind}-{tls}-{number}")
                    root.mkdir()
                    server = program(root, keys if tls else None)
                    server.start()
                    try:
                        found = measure(server, tls, big, small)
                        rounds[kind].append({**found, **exertion(server)})
                    finally:
                        server.stop()
                        shutil.rmtree(root, ignore_errors=True)
            show("TLS" if tls else "plain HTTP", rounds)


def exertion(server: DockerRegistry) -> dict[str, float]:
    """What it has cost the server."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return {"processor time of all that, s": seconds, "memory at its highest, MiB": memory(server)}


def show(title: str, rounds: dict[str, list[dict[str, float]]]) -> None:
    """The table: the best of the rounds, and Sampan's share of docker-registry's."""
    print(f"\n{title}, best of {ROUNDS}")
    print(f"{'':40}" + "".join(f"{kind:>18}" for kind in rounds) + f"{'ratio':>8}")
    for key in rounds["sampan"][0]:
        best = [min(each[key] for each in found) for found in rounds.values()]
        print(f"{key:40}" + "".join(f"{value:18.3f}" for value in best) + f"{best[0] / best[1]:8.2f}")


if __name__ == "__main__":
    main()
