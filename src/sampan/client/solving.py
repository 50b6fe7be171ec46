"""One build's conversation with the engine: what is to be built goes out, questions come back and are answered, events are told."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

from sampan import errors
from sampan.client.frames import Channel, Conversation
from sampan.client.sources import Choice, described
from sampan.errors import InvalidParameter, NotFound, NotSupported, SampanError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sampan.client.api import Api
    from sampan.client.layouts import Layout
    from sampan.client.sources import Entry, Source

_PIECE = struct.Struct(">II")
_FULL = 1 << 19

Event = dict[str, Any]
"""What happened, with its `kind`: `vertex`, `log`, `status`, `warning`, `failure` (`sampan.solver.progress.described`)."""


class Destination:
    """Where a result of a build that is not an image of the engine's goes: a directory, or a file."""

    def __init__(self, path: str, *, directory: bool) -> None:
        self.path = path
        """`-` is standard output."""
        self.directory = directory


class Plan:
    """What is to be built, and what the client has for it."""

    def __init__(self) -> None:
        self.options: dict[str, str] = {}
        """Of the Dockerfile's frontend, as BuildKit names them: `target`, `build-arg:NAME`, `label:NAME`, `context:NAME`…"""
        self.sources: dict[str, Source] = {}
        """Files by the name under which the build knows them: `context`, `dockerfile`, and named contexts."""
        self.upload: Iterable[bytes] | None = None
        """An archive that is the context."""
        self.exporters: list[tuple[str, dict[str, str]]] = []
        self.destinations: dict[int, Destination] = {}
        """By the exporter's number."""
        self.cache_imports: list[tuple[str, dict[str, str]]] = []
        self.cache_exports: list[tuple[str, dict[str, str]]] = []
        self.entitlements: list[str] = []
        self.stores: dict[str, Layout] = {}
        """Layouts by the name under which the build knows them: `local:PATH` of cache, `oci:NAME` of a context."""
        self.writable: set[str] = set()
        """Those of the layouts that cache is written to."""
        self.secrets: dict[str, Callable[[], bytes]] = {}
        self.agents: dict[str, str] = {}
        """Sockets of ssh agents."""
        self.provenance = ""
        """How much of it the answer is to have: `min` or `max`, as buildx's metadata file."""
        self.shared_key = ""
        """Names the sources over several builds: what the engine has of them is not sent again."""
        self.credentials: Callable[[str], Mapping[str, str]] = lambda host: {}
        """For a registry: `username`, `password`, `identity_token`."""

    def ask(self, request: str) -> None:
        """Let the frontend answer a question instead of a build: `frontend.lint`, `frontend.outline`, `frontend.targets`."""
        self.options["requestid"] = request
        self.exporters, self.cache_exports = [], []

    def shared_by(self, *parts: str) -> None:
        """Make the shared key of what these files are called here: the same directory of the same machine has the same one."""
        text = "\0".join((socket.gethostname(), *parts))
        self.shared_key = "sampan:" + hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]

    def store(self, words: Mapping[str, Any]) -> Layout:
        """That of a question. Raises NotFound: the engine reads nothing here that was not named."""
        found = self.stores.get(words["store"])
        if found is None:
            raise NotFound(f"no such store: {words['store']}")
        return found


class BuildFailed(InvalidParameter):
    """A step failed, or the Dockerfile is wrong. The message says what; `sampan.BuildError` is what users see."""

    def __init__(self, message: str, failure: Mapping[str, str]) -> None:
        super().__init__(message)
        self.step = failure.get("name", "")
        """The step that failed, as progress shows it; "" when it was none."""
        self.vertex = failure.get("vertex", "")
        self.excerpt = failure.get("excerpt", "")
        """The lines of the Dockerfile, with those around them; "" when there is no place."""


def solve(api: Api, plan: Plan, tell: Callable[[list[Event]], None]) -> dict[str, str]:
    """Build; what the exporters answered. `tell` gets events as they happen.

    Raises BuildFailed, or what the engine refused it with, by kind.
    """
    try:
        stream = api.hijack("POST", "/build/direct")
    except NotFound:
        raise NotSupported(
            f"the engine at {api.endpoint.url} is not Sampan's: build there with docker"
        ) from None
    channel = Channel(stream)
    client = _Client(plan, channel)
    try:
        channel.send(b"B", 0, json.dumps(_wish(plan)).encode())
        for kind, number, payload in channel.frames():
            if kind == b"E":
                tell(json.loads(payload))
            elif kind == b"R":
                return _result(json.loads(payload))
            elif kind == b"Q":
                client.answer(number, json.loads(payload))
            else:
                client.pass_on(number, kind, payload)
    finally:
        client.close()
        channel.close()
    raise Unavailable("the engine closed the connection in the middle of a build")


def _wish(plan: Plan) -> dict[str, Any]:
    return {
        "options": plan.options,
        "exporters": plan.exporters,
        "cache_imports": plan.cache_imports,
        "cache_exports": plan.cache_exports,
        "entitlements": plan.entitlements,
        "shared_key": plan.shared_key,
        "provenance": plan.provenance,
    }


def _result(told: dict[str, Any]) -> dict[str, str]:
    if "error" not in told:
        response: dict[str, str] = told["response"]
        return response
    if told.get("failure"):
        raise BuildFailed(told["error"], told["failure"])
    kind = getattr(errors, told.get("kind") or "", None)
    known = isinstance(kind, type) and issubclass(kind, SampanError)
    raise (kind if known else errors.SystemFailure)(told["error"])  # type: ignore[misc]


class _Client:
    """Answers the engine's questions, each in a thread."""

    def __init__(self, plan: Plan, channel: Channel) -> None:
        self._plan = plan
        self._channel = channel
        self._talks: dict[int, Conversation] = {}

    def answer(self, number: int, words: dict[str, Any]) -> None:
        """Begin to."""
        import threading

        talk = self._talks[number] = Conversation(self._channel, number)
        threading.Thread(target=self._answer, args=(number, talk, words), daemon=True).start()

    def pass_on(self, number: int, kind: bytes, payload: bytes) -> None:
        """A frame for a question that is being answered."""
        talk = self._talks.get(number)
        if talk is not None:
            talk.inbox.put((kind, payload))

    def close(self) -> None:
        """Whoever still waits for the engine need not."""
        for talk in list(self._talks.values()):
            talk.inbox.put((b"X", b""))

    def _answer(self, number: int, talk: Conversation, words: dict[str, Any]) -> None:
        try:
            how = _ANSWERS.get(str(words.get("ask")))
            if how is None:
                raise NotSupported(
                    f"the engine asks for {words.get('ask')!r}, which this client does not know"
                )
            how(self._plan, talk, words)
        except Unavailable:
            pass  # the build is over
        except (SampanError, OSError, ValueError) as error:
            try:
                talk.fail(_reason(error))
            except Unavailable:
                pass
        finally:
            self._talks.pop(number, None)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
    return str(error)


def _local(plan: Plan, talk: Conversation, words: dict[str, Any]) -> None:
    source = plan.sources.get(words["name"])
    if source is None:
        raise NotFound(f"no such context: {words['name']}")
    entries = source.entries(Choice(words["include"], words["exclude"], words["follow"]))
    batches = list(described(entries))
    digest = hashlib.sha256(b"\n".join(batches)).hexdigest() if source.compare else ""
    talk.say({"digest": digest, "compare": source.compare})
    if not talk.answer()["send"]:
        return
    for batch in batches:
        talk.send(batch)
    talk.end()
    _contents(source, entries, talk.answer()["wanted"], talk)
    talk.end()


def _contents(source: Source, entries: Sequence[Entry], wanted: Sequence[int], talk: Conversation) -> None:
    """The files that the engine wants, several in a frame."""
    pieces = bytearray()
    for number in wanted:
        for block in source.pieces(entries[number][0]):
            if block:
                pieces += _PIECE.pack(number, len(block)) + block
            if len(pieces) >= _FULL:
                talk.send(bytes(pieces))
                pieces.clear()
        pieces += _PIECE.pack(number, 0)
    if pieces:
        talk.send(bytes(pieces))


def _secret(plan: Plan, talk: Conversation, words: dict[str, Any]) -> None:
    read = plan.secrets.get(words["id"])
    talk.say({"data": base64.b64encode(read()).decode() if read is not None else None})


def _credentials(plan: Plan, talk: Conversation, words: dict[str, Any]) -> None:
    talk.say(dict(plan.credentials(words["host"])))


def _has_agent(plan: Plan, talk: Conversation, words: dict[str, Any]) -> None:
    talk.say({"has": (words["id"] or "default") in plan.agents})


def _ssh(plan: Plan, talk: Conversation, words: dict[str, Any]) -> None:
    """Copy between a program in the build and the agent."""
    import threading

    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        agent.connect(plan.agents[words["id"] or "default"])

        def back() -> None:
            try:
                while data := agent.recv(1 << 16):
                    talk.send(data)
                talk.end()
            except (OSError, Unavailable):
                return  # one of both has gone

        answering = threading.Thread(target=back, daemon=True)
        answering.start()
        while data := talk.read_block():
            agent.sendall(data)
        agent.shutdown(socket.SHUT_WR)
        answering.join()
    finally:
        agent.close()


def _file(plan: Plan, talk: Conversation, words: dict[str, Any]) -> None:
    destination = plan.destinations[words["exporter"]]
    if destination.directory:
        _directory(plan, talk, words)
        return
    if destination.path == "-":
        import sys

        while data := talk.read_block():
            sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        with open(destination.path, "wb") as file:
            while data := talk.read_block():
                file.write(data)
    talk.say({})


def _directory(plan: Plan, talk: Conversation, words: dict[str, Any]) -> None:
    from sampan.client.archives import unpack

    target = plan.destinations[words["exporter"]].path
    os.makedirs(target, exist_ok=True)
    unpack(talk, target)
    talk.say({})


def _upload(plan: Plan, talk: Conversation, words: dict[str, Any]) -> None:
    for block in plan.upload or ():
        talk.send(block)
    talk.end()


def _blob_size(plan: Plan, talk: Conversation, words: dict[str, Any]) -> None:
    talk.say({"size": plan.store(words).size(words["digest"])})


def _blob(plan: Plan, talk: Conversation, words: dict[str, Any]) -> None:
    for block in plan.store(words).read(words["digest"], words["offset"], words["length"]):
        talk.send(block)
    talk.end()


def _put(plan: Plan, talk: Conversation, words: dict[str, Any]) -> None:
    store, digest = plan.store(words), words["digest"]
    if words["store"] not in plan.writable:
        raise InvalidParameter(f"{words['store']}: nothing is written there")
    wanted = store.size(digest) is None
    talk.say({"wanted": wanted})
    if wanted:
        store.write(digest, iter(talk.read_block, b""))
        talk.say({"stored": True})


_ANSWERS: dict[str, Callable[[Plan, Conversation, dict[str, Any]], None]] = {
    "local": _local,
    "secret": _secret,
    "credentials": _credentials,
    "agent": _has_agent,
    "ssh": _ssh,
    "file": _file,
    "directory": _directory,
    "upload": _upload,
    "blob-size": _blob_size,
    "blob": _blob,
    "put": _put,
}
