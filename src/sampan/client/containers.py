"""Containers: making, watching and removing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from sampan.client.configuration import ContainerOptions, container_body
from sampan.client.http import quote
from sampan.client.streams import demultiplex
from sampan.errors import InvalidParameter, NotFound, NotModified, SampanError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from sampan.client.api import Api
    from sampan.client.streams import RawStream


class ExitError(SampanError):
    """A command ended with a status other than 0; `result` says which, and what it wrote."""

    def __init__(self, result: RunResult) -> None:
        super().__init__(f"exit code {result.exit_code}: {result.stderr.decode('utf-8', 'replace').strip()}")
        self.result = result


class RunResult(NamedTuple):
    """What a command wrote and how it ended."""

    stdout: bytes
    stderr: bytes
    exit_code: int
    """0-255; 128+n after signal n."""
    container: Container | None = None
    """Where it stays (`remove=False`)."""

    @property
    def output(self) -> str:
        """stdout as text."""
        return self.stdout.decode("utf-8", "replace")

    def check(self) -> RunResult:
        """Itself, when the exit code is 0; else raises ExitError."""
        if self.exit_code:
            raise ExitError(self)
        return self


class Container:
    """A container of an engine, by id. It holds no state: every call asks the engine."""

    def __init__(self, api: Api, container_id: str) -> None:
        self._api = api
        self.id = container_id

    def __repr__(self) -> str:
        return f"<Container {self.id[:12]}>"

    @property
    def _path(self) -> str:
        return "/containers/" + quote(self.id)

    def inspect(self) -> dict[str, Any]:
        """Everything that the engine knows of it: the Engine API's ContainerInspectResponse."""
        details: dict[str, Any] = self._api.call("GET", self._path + "/json")
        return details

    @property
    def name(self) -> str:
        return str(self.inspect()["Name"]).removeprefix("/")

    @property
    def status(self) -> str:
        """created, running, paused, restarting, removing, exited or dead."""
        return str(self.inspect()["State"]["Status"])

    @property
    def ports(self) -> dict[str, list[tuple[str, int]]]:
        """Published ports: {"80/tcp": [("0.0.0.0", 32768)]}."""
        published = self.inspect()["NetworkSettings"]["Ports"] or {}
        return {
            port: [(binding["HostIp"], int(binding["HostPort"])) for binding in bindings or []]
            for port, bindings in published.items()
        }

    def port(self, container_port: int | str) -> int:
        """The host port that a container's port is published at. Raises NotFound when it is not."""
        key = str(container_port)
        bindings = self.ports.get(key if "/" in key else f"{key}/tcp")
        if not bindings:
            raise NotFound(f"port {container_port} of container {self.id[:12]} is not published")
        return bindings[0][1]

    def start(self) -> None:
        """Start it; nothing happens when it runs already."""
        self._quietly("start")

    def stop(self, timeout: int | None = None) -> None:
        """Ask it to end; kill it after `timeout` seconds (the container's own, else 10)."""
        self._quietly("stop", {"t": timeout})

    def restart(self, timeout: int | None = None) -> None:
        self._quietly("restart", {"t": timeout})

    def kill(self, signal: str | int = "SIGKILL") -> None:
        self._quietly("kill", {"signal": signal})

    def pause(self) -> None:
        self._quietly("pause")

    def unpause(self) -> None:
        self._quietly("unpause")

    def rename(self, name: str) -> None:
        self._quietly("rename", {"name": name})

    def _quietly(self, verb: str, query: Mapping[str, Any] | None = None) -> None:
        try:
            self._api.call("POST", f"{self._path}/{verb}", query)
        except NotModified:
            pass

    def wait(self, condition: str = "not-running") -> int:
        """Block until it ends (or `condition` next-exit, removed); its exit code."""
        answer = self._api.call("POST", self._path + "/wait", {"condition": condition})
        return int(answer["StatusCode"])

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it; `force` kills it first, `volumes` takes its anonymous volumes along."""
        self._api.call("DELETE", self._path, {"force": force, "v": volumes})

    def logs(self, *, stdout: bool = True, stderr: bool = True, tail: int | str = "all") -> bytes:
        """What it wrote until now."""
        return b"".join(
            payload for _, payload in self._log_frames(follow=False, stdout=stdout, stderr=stderr, tail=tail)
        )

    def follow(self, *, stdout: bool = True, stderr: bool = True, tail: int | str = "all") -> Iterator[bytes]:
        """What it wrote and writes, until it ends."""
        for _, payload in self._log_frames(follow=True, stdout=stdout, stderr=stderr, tail=tail):
            yield payload

    def _log_frames(self, **query: Any) -> Iterator[tuple[int, bytes]]:
        tty = bool(self.inspect()["Config"]["Tty"])
        response = self._api.request("GET", self._path + "/logs", query)
        return demultiplex(response.blocks(), tty=tty)

    def attach(self, *, stdin: bool = False, logs: bool = False) -> RawStream:
        """Its streams, from now on (`logs`: from the beginning)."""
        query = {"stream": True, "stdin": stdin, "stdout": True, "stderr": True, "logs": logs}
        return self._api.hijack("POST", self._path + "/attach", query)

    def exec(
        self,
        command: Sequence[str],
        *,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
        privileged: bool = False,
        tty: bool = False,
    ) -> RunResult:
        """Run a further command in it.

        >>> with sampan.connect() as engine:                                        # doctest: +SKIP
        ...     web = engine.run("busybox", ["sleep", "60"], detach=True)
        ...     web.exec(["cat", "/etc/hostname"]).check().output
        """
        body = {
            "Cmd": list(command),
            "AttachStdin": bool(input),
            "AttachStdout": True,
            "AttachStderr": True,
            "Env": [f"{name}={value}" for name, value in (env or {}).items()],
            "User": user,
            "WorkingDir": workdir,
            "Privileged": privileged,
            "Tty": tty,
        }
        exec_id = self._api.call("POST", self._path + "/exec", None, body)["Id"]
        with self._api.hijack(
            "POST", f"/exec/{exec_id}/start", None, {"Detach": False, "Tty": tty}
        ) as stream:
            stdout, stderr = stream.collect(tty=tty, input=input)
        state = self._api.call("GET", f"/exec/{exec_id}/json")
        return RunResult(stdout, stderr, int(state["ExitCode"]))

    def top(self) -> list[dict[str, str]]:
        """Its processes, a mapping of ps's columns each."""
        answer = self._api.call("GET", self._path + "/top")
        return [dict(zip(answer["Titles"], row, strict=False)) for row in answer["Processes"]]

    def stats(self) -> dict[str, Any]:
        """One sample of its resource use: the Engine API's ContainerStatsResponse."""
        sample: dict[str, Any] = self._api.call(
            "GET", self._path + "/stats", {"stream": False, "one-shot": True}
        )
        return sample

    def commit(self, repository: str, tag: str = "latest", *, message: str = "", author: str = "") -> str:
        """Make an image of its present files; the image's id."""
        query = {"container": self.id, "repo": repository, "tag": tag, "comment": message, "author": author}
        return str(self._api.call("POST", "/commit", query)["Id"])

    def copy_in(self, source: str | os.PathLike[str], target: str) -> None:
        """Copy a host's file or directory into it, below the directory `target`."""
        from sampan.client.archives import pack_tree

        self._api.request("PUT", self._path + "/archive", {"path": target}, pack_tree(source)).read()

    def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Put a file into it."""
        from sampan.client.archives import pack_file

        folder, _, name = path.rpartition("/")
        if not name:
            raise InvalidParameter(f"{path!r} names no file")
        self._api.request(
            "PUT", self._path + "/archive", {"path": folder or "/"}, pack_file(name, data, mode)
        ).read()

    def read_file(self, path: str) -> bytes:
        """The bytes of one of its regular files (a link is followed by the engine)."""
        from sampan.client.archives import read_only_file

        return read_only_file(self._api.request("GET", self._path + "/archive", {"path": path}), path)

    def copy_out(self, source: str, target: str | os.PathLike[str]) -> None:
        """Copy one of its files or directories to the host, into the directory `target`."""
        from sampan.client.archives import unpack

        unpack(self._api.request("GET", self._path + "/archive", {"path": source}), target)

    def export(self) -> Iterator[bytes]:
        """Its whole file system as a tar, in pieces."""
        return self._api.request("GET", self._path + "/export").blocks()


class Containers:
    """The containers of an engine."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(self, *, all: bool = False, filters: Mapping[str, Any] | None = None) -> list[Container]:
        """Running containers (`all`: stopped ones too); filters as in `{"label": ["app=web"]}`."""
        rows = self._api.call("GET", "/containers/json", {"all": all, "filters": filters})
        return [Container(self._api, row["Id"]) for row in rows]

    def get(self, name: str) -> Container:
        """By name or (prefix of an) id. Raises NotFound."""
        return Container(self._api, self._api.call("GET", f"/containers/{quote(name)}/json")["Id"])

    def create(
        self, image: str, command: str | Sequence[str] | None = None, **options: Unpack[ContainerOptions]
    ) -> Container:
        """Create a container without starting it; options as in `ContainerOptions`."""
        return self.create_with(image, command, options, stdin=False, remove=False)

    def create_with(
        self,
        image: str,
        command: str | Sequence[str] | None,
        options: ContainerOptions,
        *,
        stdin: bool,
        remove: bool,
    ) -> Container:
        """`create`, for one whose stdin will be attached, or that the engine removes when it ends."""
        body = container_body(image, command, options, stdin=stdin, remove=remove)
        query = {"name": options.get("name"), "platform": options.get("platform")}
        return Container(self._api, self._api.call("POST", "/containers/create", query, body)["Id"])

    def run_to_end(self, container: Container, *, tty: bool, input: bytes | None, removed: bool) -> RunResult:
        """Start a created container, feed it, collect what it writes until it ends (`removed`: until it is gone)."""
        with container.attach(stdin=input is not None) as stream:
            waiting = self._api.request(
                "POST",
                f"/containers/{container.id}/wait",
                {"condition": "removed" if removed else "next-exit"},
            )  # before the start: a container that removes itself could not be asked afterwards
            try:
                container.start()
                stdout, stderr = stream.collect(tty=tty, input=input or b"")
                status = int(waiting.json()["StatusCode"])
                return RunResult(stdout, stderr, status, None if removed else container)
            finally:
                waiting.close()

    def prune(self) -> dict[str, Any]:
        """Remove all that do not run; what was removed and how much that freed."""
        answer: dict[str, Any] = self._api.call("POST", "/containers/prune")
        return answer


__all__ = ["Container", "Containers", "ExitError", "RunResult"]
