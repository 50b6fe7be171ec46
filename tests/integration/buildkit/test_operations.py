"""Operations that no Dockerfile has: nested builds, devices by name."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit_client import building, run
from running_engine import RunningEngine
from sampan.buildkit.protos import control_pb2
from sampan.errors import Forbidden, SampanError
from sampan.llb import ops_pb2 as pb
from sampan.llb import state
from sampan.llb.execop import Command
from sampan.llb.graph import digest_of

pytestmark = pytest.mark.root

BUSYBOX = "docker.io/library/busybox:latest"
IMAGE = [control_pb2.Exporter(Type="image", Attrs={"name": "built"})]
FILE = "buildkit.llb.definition"


def nested(files: pb.Definition, name: str = "") -> pb.Definition:
    """What the definition in a file of those files says."""
    made = pb.Definition()
    made.CopyFrom(files)
    wanted = pb.Op.FromString(made.ops.pop()).inputs[0]
    build = pb.BuildOp(builder=-1, inputs={FILE: pb.BuildInput(input=0)})
    if name:
        build.attrs["llbbuild.filename"] = name
    made.ops.append(pb.Op(inputs=[wanted], build=build).SerializeToString(deterministic=True))
    made.ops.append(pb.Op(inputs=[pb.Input(digest=digest_of(made.ops[-1]))]).SerializeToString())
    return made


def sandboxed(script: str, **more: Any) -> pb.Definition:
    return state.definition(state.image(BUSYBOX).run(Command(args=["sh", "-c", script], **more)).root)


def client_files() -> pb.Definition:
    return state.definition(state.local("context"))


def test_a_graph_in_a_file_is_built(engine: RunningEngine, tmp_path: Path) -> None:
    (tmp_path / "inner").write_bytes(sandboxed("echo nested > /made").SerializeToString())

    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            await builder.solve(Definition=nested(client_files(), "inner"), Exporters=IMAGE)

    run(work())
    assert engine.docker("run", "--rm", "--net", "none", "built", "cat", "/made").stdout == "nested\n"


@pytest.mark.parametrize("case", ["circle", "no file", "no graph", "a link out", "not allowed"])
def test_files_that_are_no_graph_to_build(engine: RunningEngine, tmp_path: Path, case: str) -> None:
    asked = nested(client_files())
    said = '"/buildkit.llb.definition": not found'
    match case:
        case "circle":
            (tmp_path / FILE).write_bytes(asked.SerializeToString())
            said = "it needs its own result"
        case "no graph":
            (tmp_path / FILE).write_bytes(b"\xff" * 100)
            said = "failed to parse"
        case "a link out":
            (tmp_path / FILE).symlink_to("/etc/passwd")
        case "not allowed":
            inner = sandboxed("true", network="host")
            (tmp_path / FILE).write_bytes(inner.SerializeToString())
            said = "network.host is not allowed"

    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            with pytest.raises(SampanError, match=said):
                await builder.solve(Definition=asked)

    run(work())


def test_devices_by_name(make_engine: Callable[..., RunningEngine], tmp_path: Path) -> None:
    specs, files = tmp_path / "cdi", tmp_path / "files"
    specs.mkdir()
    files.mkdir()
    edits = {"env": ["TOY=yes"], "deviceNodes": [{"path": "/dev/toy", "hostPath": "/dev/zero"}]}
    kind = {
        "cdiVersion": "0.6.0",
        "kind": "acme.com/toy",
        "devices": [{"name": "one", "containerEdits": edits}],
    }
    (specs / "acme.json").write_text(json.dumps(kind))
    engine = make_engine("--cdi-spec-dir", str(specs))
    script = "echo $TOY; head -c 2 /dev/toy | od -An -tx1"

    async def work() -> None:
        async with building(engine, files) as builder:
            devices = [("acme.com/toy=one", False), ("acme.com/toy=none", True)]
            with pytest.raises(Forbidden, match=r"device=acme\.com/toy=one is not allowed"):
                await builder.solve(Definition=sandboxed(script, devices=devices))
        async with building(engine, files) as builder:
            await builder.solve(Definition=sandboxed(script, devices=devices), Entitlements=["device"])
            assert builder.output.split() == ["yes", "00", "00"]
        async with building(engine, files) as builder:
            lacking = sandboxed(script, devices=[("acme.com/toy=none", False)])
            with pytest.raises(SampanError, match=r"unresolvable CDI devices acme\.com/toy=none"):
                await builder.solve(Definition=lacking, Entitlements=["device"])

    run(work())


def test_files_of_the_web_with_a_secret_of_the_client(engine: RunningEngine, tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization", "")))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"content")

        def log_message(self, *arguments: object) -> None:
            pass

    def fetched(url: str, **attributes: str) -> pb.Definition:
        given = {f"http.{name}": value for name, value in attributes.items()}
        return state.definition(state.source(url, given))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{site.server_port}"

        async def work() -> None:
            for url, attributes in (
                ("/named", {"authheadersecret": "mine"}),
                ("/host", {}),
            ):
                keeps = {"mine": b"Basic abc", "HTTP_AUTH_TOKEN_127.0.0.1": b"token\n"}
                async with building(engine, tmp_path, keeps) as builder:
                    await builder.solve(Definition=fetched(here + url, **attributes))
            async with building(engine, tmp_path) as builder:
                with pytest.raises(SampanError, match="failed to retrieve HTTP auth secret mine"):
                    await builder.solve(Definition=fetched(here, authheadersecret="mine"))
            async with building(engine, tmp_path) as builder:
                with pytest.raises(SampanError, match="signatures"):
                    await builder.solve(Definition=fetched(here, **{"sig.pubkey": "x"}))

        run(work())
        site.shutdown()
    assert asked == [("/named", "Basic abc"), ("/host", "Bearer token")]


def test_an_image_by_its_checksum_and_lowest_layers(engine: RunningEngine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo top > /top\n")
    engine.docker("build", "-t", "two", str(tmp_path))
    digest = engine.docker("image", "inspect", "-f", "{{.Id}}", "two").stdout.strip()

    def image(**attributes: str) -> pb.Definition:
        given = {f"image.{name}": value for name, value in attributes.items()}
        base = state.source("docker-image://docker.io/library/two:latest", given)
        return state.definition(base.run(Command(args=["sh", "-c", "ls /top; true"])).root)

    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            await builder.solve(Definition=image(checksum=digest))
            assert builder.output == "/top\n"
        async with building(engine, tmp_path) as builder:
            await builder.solve(Definition=image(layerlimit="1"))
            assert "No such file" in builder.output
        async with building(engine, tmp_path) as builder:
            with pytest.raises(SampanError, match="does not match expected checksum"):
                await builder.solve(Definition=image(checksum="sha256:" + "0" * 64))

    run(work())
