"""Off Linux the package is a client: it imports, talks to an engine elsewhere, and says what containers need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("elsewhere.py")
SYSTEMS = ["darwin", "win32"]


class EngineElsewhere(BaseHTTPRequestHandler):
    """Enough of the API for `ps` and `version`."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_GET(self) -> None:
        web = {"Id": "f" * 64, "Names": ["/web"], "Image": "busybox", "Command": "httpd", "Created": 1}
        listed = [{**web, "State": "running", "Status": "Up 1 second", "Ports": [], "Labels": {}}]
        self.answer(json.dumps(listed if "/containers/json" in self.path else {"Version": "9.9"}).encode())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Api-Version", "1.51")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def engine_elsewhere() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), EngineElsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"tcp://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def sampan(platform: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), platform, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")},
    )


@pytest.mark.parametrize("platform", SYSTEMS)
def test_an_engine_elsewhere_is_used(platform: str, engine_elsewhere: str) -> None:
    done = sampan(platform, "-H", engine_elsewhere, "ps", "--format", "{{.Names}} {{.Image}}")
    assert (done.stdout, done.stderr, done.returncode) == ("web busybox\n", "", 0)
    done = sampan(platform, "-H", engine_elsewhere, "version", "--format", "{{.Server.Version}}")
    assert (done.stdout, done.stderr, done.returncode) == ("9.9\n", "", 0)


@pytest.mark.parametrize("platform", SYSTEMS)
@pytest.mark.parametrize("words", [("run", "busybox", "true"), ("ps",)])
def test_without_one_it_says_what_containers_need(platform: str, words: tuple[str, ...]) -> None:
    done = sampan(platform, *words)
    assert done.returncode == (125 if words[0] == "run" else 1)
    assert (
        done.stdout == "" and "containers need Linux" in done.stderr and "-H tcp://HOST:2376" in done.stderr
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("platform", SYSTEMS)
def test_system_check_and_serve_say_it_too(platform: str) -> None:
    done = sampan(platform, "system", "check")
    assert done.returncode == 1 and "containers need Linux" in done.stdout
    done = sampan(platform, "serve")
    assert done.returncode == 1 and "containers need Linux" in done.stderr, done
