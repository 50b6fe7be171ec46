"""Building through the solver (`POST /build?version=2`) and what such a build told."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from running_engine import RunningEngine
from sampan.errors import SampanError

_ALWAYS = ("load build definition", "load .dockerignore", "load metadata", "exporting to image")


class Built(NamedTuple):
    """A finished build."""

    image: str
    """Id; "" when it failed."""
    error: str
    events: list[dict[str, Any]]
    """As `sampan.solver.progress.described` has them."""

    @property
    def vertices(self) -> dict[str, dict[str, Any]]:
        """The last that was told of each, by name without the number."""
        return {
            each["name"].rpartition("] ")[2] if each["name"].startswith("[") else each["name"]: each
            for each in self.events
            if each["kind"] == "vertex"
        }

    @property
    def output(self) -> str:
        """Of all programs."""
        return "".join(each["data"] for each in self.events if each["kind"] == "log")

    def ran(self) -> list[str]:
        """What was not there already of the steps, in the order of its end; not what a build always does before and after them."""
        return [
            name
            for name, each in self.vertices.items()
            if each["completed"] and not each["cached"] and not name.startswith(_ALWAYS)
        ]


def context(dockerfile: str, files: Mapping[str, Any] | None = None) -> bytes:
    """An archive. A value is text, bytes, (mode, text), or None for a directory; a name with ` -> ` is a link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in {"Dockerfile": dockerfile, **(files or {})}.items():
            member = tarfile.TarInfo(name.partition(" -> ")[0])
            mode, data = content if isinstance(content, tuple) else (0o644, content)
            member.mode = mode
            if " -> " in name:
                member.type, member.linkname = tarfile.SYMTYPE, name.partition(" -> ")[2]
            elif data is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            else:
                raw = data if isinstance(data, bytes) else data.encode()
                member.size = len(raw)
                tar.addfile(member, io.BytesIO(raw))
                continue
            tar.addfile(member)
    return out.getvalue()


def build(
    engine: RunningEngine,
    dockerfile: str,
    files: Mapping[str, Any] | None = None,
    *,
    fails: bool = False,
    **query: Any,
) -> Built:
    """Build `built:latest`. Fails unless the build ends as it should."""
    events: list[dict[str, Any]] = []
    image = error = ""
    with engine.client() as client:
        asked = {"version": "2", "trace": "json", "t": ["built"], **query}
        try:
            response = client.api.request("POST", "/build", asked, context(dockerfile, files))
            for message in response.json_stream():
                aux = message.get("aux") or {}
                if message.get("id") == "sampan.build.trace":
                    events.append(aux)
                image = aux.get("ID") or image
                error = message.get("error") or error
        except SampanError as refused:  # before anything was told
            error = str(refused)
    assert bool(error) == fails, error + engine.log[-3000:]
    return Built(image, error, events)


def in_image(engine: RunningEngine, script: str, image: str = "built") -> list[str]:
    """The lines that a script prints in an image."""
    done = engine.docker("run", "--rm", "--net", "none", "-u", "0", "--entrypoint", "sh", image, "-c", script)
    return done.stdout.splitlines()


class Building:
    """A build that goes on, followed in a thread."""

    def __init__(self, engine: RunningEngine, dockerfile: str, **query: Any) -> None:
        self._client = engine.client()
        self._told = threading.Condition()
        self.events: list[dict[str, Any]] = []
        self.over = False
        asked = {"version": "2", "trace": "json", **query}
        self._thread = threading.Thread(target=self._follow, args=(asked, context(dockerfile)), daemon=True)
        self._thread.start()

    def _follow(self, asked: dict[str, Any], archive: bytes) -> None:
        try:
            with self._client as client:
                self._response = client.api.request("POST", "/build", asked, archive)
                for message in self._response.json_stream():
                    with self._told:
                        if message.get("id") == "sampan.build.trace":
                            self.events.append(message["aux"])
                        self._told.notify_all()
        except (OSError, ValueError, AttributeError):
            pass  # it was left
        finally:
            with self._told:
                self.over = True
                self._told.notify_all()

    def wait(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Until something was told."""
        with self._told:
            met = self._told.wait_for(lambda: self.over or any(map(condition, self.events)), 30)
            assert met and any(map(condition, self.events)), self.events

    def join(self) -> None:
        self._thread.join(30)
        assert self.over
