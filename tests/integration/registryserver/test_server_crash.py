"""kill -9 of the registry in the middle of pushes, again and again: what was acknowledged is there and right, the rest goes on."""

from __future__ import annotations

import hashlib
import random
import threading
import time
import urllib.error
import urllib.request

import pytest

from registry_peer import SampanRegistry

pytestmark = pytest.mark.root

ROUNDS = 8


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def ask(
    server: SampanRegistry, method: str, path: str, data: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """A request; the status is 0 when the server died."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://{server.host}{path}", data=data, method=method, headers=sent)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()
    except (OSError, ValueError):
        return 0, {}, b""


class Pusher(threading.Thread):
    """Pushes blobs until it is told to end, and remembers which were acknowledged."""

    def __init__(self, server: SampanRegistry, number: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self.ended = threading.Event()
        self._server = server
        self._random = random.Random(number)

    def run(self) -> None:
        while not self.ended.is_set():
            data = self._random.randbytes(self._random.randrange(1, 300_000))
            status, headers, _ = ask(self._server, "POST", "/v2/app/blobs/uploads/", b"")
            if status != 202:
                time.sleep(0.01)  # the server is down for now
                continue
            if ask(self._server, "PUT", f"{headers['Location']}?digest={digest(data)}", data)[0] == 201:
                self.acknowledged.append(digest(data))


@pytest.mark.timeout(180)
def test_no_acknowledged_blob_is_lost(server: SampanRegistry) -> None:
    pushers = [Pusher(server, number) for number in range(3)]
    for pusher in pushers:
        pusher.start()
    chance = random.Random(1)
    try:
        for _ in range(ROUNDS):
            before = sum(len(pusher.acknowledged) for pusher in pushers)
            deadline = time.monotonic() + 20
            while sum(len(pusher.acknowledged) for pusher in pushers) < before + 5:
                assert time.monotonic() < deadline, server.log[-3000:]
                time.sleep(0.01)  # until some more were acknowledged
            time.sleep(chance.random() * 0.05)  # a random point in whatever is under way
            server.stop()  # SIGKILL
            server.start()
    finally:
        for pusher in pushers:
            pusher.ended.set()
        for pusher in pushers:
            pusher.join(30)
    acknowledged = [each for pusher in pushers for each in pusher.acknowledged]
    assert len(acknowledged) >= ROUNDS * 5
    for each in acknowledged:
        status, _, body = ask(server, "GET", f"/v2/app/blobs/{each}")
        assert (status, digest(body)) == (200, each)
    blobs = server.storage / "docker/registry/v2/blobs/sha256"
    for path in blobs.rglob("data"):
        assert digest(path.read_bytes()) == f"sha256:{path.parent.name}"


def test_an_upload_goes_on_after_kill_9(server: SampanRegistry) -> None:
    data = random.Random(2).randbytes(5 << 20)
    _, headers, _ = ask(server, "POST", "/v2/app/blobs/uploads/", b"")
    location = headers["Location"]
    assert ask(server, "PATCH", location, data[: 3 << 20])[0] == 202
    server.stop()
    server.start()
    status, headers, _ = ask(server, "GET", location)
    assert (status, headers["Range"]) == (204, f"0-{(3 << 20) - 1}")
    rest = data[3 << 20 :]
    ask(server, "PATCH", location, rest, Content_Range=f"{3 << 20}-{len(data) - 1}")
    assert ask(server, "PUT", f"{location}?digest={digest(data)}", b"")[0] == 201
    assert digest(ask(server, "GET", f"/v2/app/blobs/{digest(data)}")[2]) == digest(data)
