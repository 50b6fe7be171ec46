"""`engine.build(...)`: an image from a Dockerfile and some files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypedDict

from sampan.client.solving import BuildFailed, Plan, solve
from sampan.client.sources import Directory, Memory
from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

    from sampan.client.api import Api
    from sampan.client.solving import Event


class Image:
    """An image that was built. `engine.run` takes it where it takes a name."""

    def __init__(self, api: Api, id: str, tags: Sequence[str], log: str) -> None:
        self._api = api
        self.id = id
        """`sha256:…`"""
        self.tags = tuple(tags)
        self.log = log
        """What the build's programs printed; of steps that were cached there is nothing."""

    def inspect(self) -> dict[str, Any]:
        """The Engine API's ImageInspect."""
        details: dict[str, Any] = self._api.call("GET", f"/images/{self.id}/json")
        return details

    def remove(self, *, force: bool = False) -> None:
        """Remove it with its names. Raises Conflict while a container uses it."""
        for name in self.tags or (self.id,):
            self._api.call("DELETE", f"/images/{name}", {"force": force})

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"Image({', '.join(self.tags) or self.id!r})"


class BuildError(InvalidParameter):
    """A build failed. Printed, it shows what the failing step said and the lines of the Dockerfile that it stands in."""

    def __init__(self, message: str, step: str, log: str, excerpt: str) -> None:
        super().__init__(message)
        self.message = message
        self.step = step
        """As progress shows it: `[build 2/3] RUN make`; `the Dockerfile` when it could not be read."""
        self.log = log
        """What the step printed."""
        self.excerpt = excerpt

    def __str__(self) -> str:
        return "\n".join(part.rstrip("\n") for part in (self.message, self.log, self.excerpt) if part)


class BuildOptions(TypedDict, total=False):
    """What `Engine.build` may be given beside the context."""

    dockerfile: str
    """Its text."""
    file: str | os.PathLike[str]
    """Its path: in a context that is a directory, or an absolute one; in files that are in memory the name of one of them."""
    tag: str | Sequence[str]
    args: Mapping[str, str]
    """Values of `ARG`s."""
    labels: Mapping[str, str]
    target: str
    """The stage to build."""
    secrets: Mapping[str, str | bytes | os.PathLike[str]]
    """By id, for `RUN --mount=type=secret`: the secret itself, or (a `Path`) the file that has it."""
    contexts: Mapping[str, str | os.PathLike[str] | Mapping[str, str | bytes]]
    """Named contexts: directories, files in memory, or what the engine is to fetch (`docker-image://…`, a URL)."""
    platform: str
    network: str
    """Of `RUN`: `none`; `host` needs no permission here, the caller is who wants it."""
    cache: bool
    """False builds every step anew."""
    pull: bool
    """Ask the registry for newer base images."""
    progress: Callable[[Event], None]
    """Called with what happens, as it happens: see `sampan.client.solving.Event`."""
    log: Callable[[str], None]
    """Called with each line that a program prints."""


def build(
    api: Api,
    context: str | os.PathLike[str] | Mapping[str, str | bytes] | None = None,
    **options: Unpack[BuildOptions],
) -> Image:
    """See `Engine.build`."""
    plan = Plan()
    _set_context(plan, context, options.get("dockerfile"), options.get("file"))
    plan.options |= {f"build-arg:{name}": str(value) for name, value in options.get("args", {}).items()}
    plan.options |= {f"label:{name}": str(value) for name, value in options.get("labels", {}).items()}
    network = options.get("network", "")
    single = {
        "target": options.get("target"),
        "platform": options.get("platform"),
        "force-network-mode": network,
    }
    plan.options |= {name: value for name, value in single.items() if value}
    if network == "host":
        plan.entitlements.append("network.host")
    if not options.get("cache", True):
        plan.options["no-cache"] = ""
    if options.get("pull"):
        plan.options["image-resolve-mode"] = "pull"
    for name, given in options.get("contexts", {}).items():
        _add_context(plan, name, given)
    plan.secrets = {name: _reader(value) for name, value in options.get("secrets", {}).items()}
    tag = options.get("tag", ())
    tags = [tag] if isinstance(tag, str) else list(tag)
    plan.exporters.append(("moby", {"name": ",".join(tags)}))
    story = Story(options.get("progress"), options.get("log"))
    try:
        response = solve(api, plan, story.tell)
    except BuildFailed as error:
        raise BuildError(str(error), error.step, story.of(error.vertex), error.excerpt) from None
    story.flush()
    return Image(api, response["containerimage.digest"], tags, story.text)


def _set_context(
    plan: Plan,
    context: str | os.PathLike[str] | Mapping[str, str | bytes] | None,
    dockerfile: str | None,
    file: str | os.PathLike[str] | None,
) -> None:
    """The context, and the Dockerfile in it or beside it. Raises InvalidParameter."""
    if dockerfile is not None and file is not None:
        raise InvalidParameter("give either the Dockerfile's text or its path")
    plan.sources["context"] = plan.sources["dockerfile"] = _files({} if context is None else context)
    if isinstance(context, (str, os.PathLike)):
        plan.shared_by(os.path.realpath(context))
    if dockerfile is not None:
        plan.sources["dockerfile"] = Memory({"Dockerfile": dockerfile})
    elif file is not None:
        if isinstance(context, (str, os.PathLike)):
            path = os.path.join(context, file)  # an absolute one stays as it is
            plan.sources["dockerfile"] = Directory(os.path.dirname(path) or ".")
            plan.options["filename"] = os.path.basename(path)
        else:
            plan.options["filename"] = os.fspath(file)
    elif context is None:
        raise InvalidParameter("a build needs a context, or a Dockerfile's text")


def _add_context(plan: Plan, name: str, given: str | os.PathLike[str] | Mapping[str, str | bytes]) -> None:
    """A named context: files of the client's, or what a URL (`docker-image://…`) means to the engine."""
    if isinstance(given, str) and "://" in given:
        plan.options[f"context:{name}"] = given
        return
    plan.options[f"context:{name}"] = f"local:{name}"
    plan.sources[name] = _files(given)


def _files(given: str | os.PathLike[str] | Mapping[str, str | bytes]) -> Directory | Memory:
    if not isinstance(given, (str, os.PathLike)):
        return Memory(given)
    if not os.path.isdir(given):
        raise InvalidParameter(f"a build's context is a directory, which {os.fspath(given)!r} is not")
    return Directory(given)


def _reader(value: str | bytes | os.PathLike[str]) -> Callable[[], bytes]:
    """A secret: text or bytes are the secret itself, a path is where it is read when the build asks for it."""
    if isinstance(value, os.PathLike):
        path = os.fspath(value)

        def read() -> bytes:
            with open(path, "rb") as file:
                return file.read()

        return read
    data = value.encode() if isinstance(value, str) else value
    return lambda: data


class Story:
    """What a build tells, kept for whoever asks afterwards, and in lines for whoever listens."""

    def __init__(
        self, progress: Callable[[Event], None] | None = None, log: Callable[[str], None] | None = None
    ) -> None:
        self._progress = progress
        self._log = log
        self._said: dict[str, list[str]] = {}
        self._rest: dict[str, str] = {}
        self._order: list[str] = []

    def tell(self, events: Sequence[Event]) -> None:
        """Some events."""
        for event in events:
            if self._progress is not None:
                self._progress(event)
            if event["kind"] == "log":
                self._said.setdefault(event["vertex"], []).append(event["data"])
                self._order.append(event["data"])
                self._lines(event["vertex"], event["data"])

    def _lines(self, vertex: str, data: str) -> None:
        if self._log is None:
            return
        *lines, rest = (self._rest.get(vertex, "") + data).split("\n")
        self._rest[vertex] = rest
        for line in lines:
            self._log(line)

    def flush(self) -> None:
        """Lines that were not ended."""
        for rest in self._rest.values():
            if rest and self._log is not None:
                self._log(rest)
        self._rest.clear()

    def of(self, vertex: str) -> str:
        """What a step printed."""
        return "".join(self._said.get(vertex, ()))

    @property
    def text(self) -> str:
        """All that was printed."""
        return "".join(self._order)
