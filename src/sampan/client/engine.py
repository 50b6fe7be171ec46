"""The engine as an object: `sampan.connect()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from sampan.client.api import Api, open_api
from sampan.client.containers import Container, Containers, RunResult
from sampan.client.images import Images
from sampan.client.networks import Networks
from sampan.client.volumes import Volumes
from sampan.errors import NotFound

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from sampan.client.autostart import EngineCommand
    from sampan.client.building import BuildOptions, Image
    from sampan.client.configuration import ContainerOptions
    from sampan.client.endpoint import TlsFiles


def connect(
    host: str | None = None,
    *,
    context: str | None = None,
    tls: TlsFiles | None = None,
    command: EngineCommand | None = None,
) -> Engine:
    """A connection to an engine; one is started when none answers and nobody chose a host.

    `host` is `unix://PATH` or `tcp://HOST:PORT`; without it `DOCKER_HOST` and `DOCKER_CONTEXT` decide, else it is Sampan's own
    engine on this machine. `command` makes an engine at `host` (a unix socket) one that is started on demand too, with
    arguments of your choice. Nothing is sent before the first call.

    >>> import sampan
    >>> with sampan.connect() as engine:                                            # doctest: +SKIP
    ...     engine.run("busybox", ["echo", "hi"]).output
    'hi\\n'
    """
    return Engine(open_api(host, context=context, tls=tls, command=command))


def build(
    context: str | os.PathLike[str] | Mapping[str, str | bytes] | None = None,
    **options: Unpack[BuildOptions],
) -> Image:
    """`connect().build(…)`: an image in the engine that `connect()` finds. See `Engine.build`."""
    return connect().build(context, **options)


class Engine:
    """An engine and what it holds. Close it, or use it in a `with` statement; containers stay."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.containers = Containers(api)
        self.images = Images(api)
        self.networks = Networks(api)
        self.volumes = Volumes(api)

    @overload
    def run(
        self,
        image: str | Image,
        command: str | Sequence[str] | None = None,
        *,
        detach: Literal[False] = False,
        remove: bool | None = None,
        input: bytes | None = None,
        **options: Unpack[ContainerOptions],
    ) -> RunResult: ...

    @overload
    def run(
        self,
        image: str | Image,
        command: str | Sequence[str] | None = None,
        *,
        detach: Literal[True],
        remove: bool | None = None,
        input: None = None,
        **options: Unpack[ContainerOptions],
    ) -> Container: ...

    def run(
        self,
        image: str | Image,
        command: str | Sequence[str] | None = None,
        *,
        detach: bool = False,
        remove: bool | None = None,
        input: bytes | None = None,
        **options: Unpack[ContainerOptions],
    ) -> RunResult | Container:
        """Run a command in a new container: wait for its end, or (`detach`) return the running container.

        `remove` says whether the container goes when it ends; by default it does unless detached. `input` is its stdin.
        An image that is not there is pulled. Options: see `ContainerOptions`.

        >>> web = engine.run("busybox", ["httpd", "-f"], detach=True, ports={80: None})  # doctest: +SKIP
        >>> web.port(80)                                                                # doctest: +SKIP
        32768
        """
        goes = not detach if remove is None else remove
        container = self._create(str(image), command, options, stdin=input is not None, remove=goes)
        try:
            if detach:
                container.start()
                return container
            return self.containers.run_to_end(
                container, tty=options.get("tty", False), input=input, removed=goes
            )
        except BaseException:
            self._discard(container)
            raise

    def build(
        self,
        context: str | os.PathLike[str] | Mapping[str, str | bytes] | None = None,
        **options: Unpack[BuildOptions],
    ) -> Image:
        """Build an image. Options: see `BuildOptions`; what comes back is good for `run`.

        `context` is a directory, or files by their path; without it the Dockerfile's text (`dockerfile=`) must be all that there
        is. Raises BuildError for a step that fails or a Dockerfile that is wrong.

        >>> app = engine.build(dockerfile="FROM busybox\\nCMD [\\"echo\\", \\"hi\\"]")     # doctest: +SKIP
        >>> engine.run(app).output                                                      # doctest: +SKIP
        'hi\\n'
        """
        from sampan.client.building import build

        return build(self.api, context, **options)

    def _create(
        self,
        image: str,
        command: str | Sequence[str] | None,
        options: ContainerOptions,
        *,
        stdin: bool,
        remove: bool,
    ) -> Container:
        try:
            return self.containers.create_with(image, command, options, stdin=stdin, remove=remove)
        except NotFound as error:
            if "no such image" not in str(error).lower():
                raise
        self.images.pull(image, platform=options.get("platform"))
        return self.containers.create_with(image, command, options, stdin=stdin, remove=remove)

    def _discard(self, container: Container) -> None:
        """Remove a container whose run failed; one that has gone by itself is fine."""
        from sampan.errors import SampanError

        try:
            container.remove(force=True)
        except SampanError:
            pass

    def ping(self) -> bool:
        """True when the engine answers (it is started if it may be)."""
        return self.api.request("GET", "/_ping").read() == b"OK"

    def info(self) -> dict[str, Any]:
        """The Engine API's SystemInfo."""
        answer: dict[str, Any] = self.api.call("GET", "/info")
        return answer

    def version(self) -> dict[str, Any]:
        """The Engine API's SystemVersion."""
        answer: dict[str, Any] = self.api.call("GET", "/version")
        return answer

    def disk_usage(self) -> dict[str, Any]:
        """What images, containers, volumes and the build cache take up."""
        answer: dict[str, Any] = self.api.call("GET", "/system/df")
        return answer

    def events(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """What happens, as it happens; ends at `until` (seconds since the epoch), else never."""
        query = {"since": since, "until": until, "filters": filters}
        response = self.api.request("GET", "/events", query)
        try:
            yield from response.json_stream()
        finally:
            response.close()

    def close(self) -> None:
        self.api.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
