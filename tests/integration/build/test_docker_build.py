"""`docker build` with the classic builder, by docker's own CLI."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

Build = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def build(engine: RunningEngine, tmp_path: Path) -> Build:
    """`build(dockerfile, files, *flags)`: the finished `docker build`; `files` by path, content as text, bytes, or mode and text."""  # noqa: E501

    def run(
        dockerfile: str, files: dict[str, Any] | None = None, *flags: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        context = tmp_path / "context"
        context.mkdir(exist_ok=True)
        for name, content in {"Dockerfile": dockerfile, **(files or {})}.items():
            path = context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        done = subprocess.run(
            ["docker", "-H", engine.host, "build", "-t", "built", *flags, str(context)],
            env={**os.environ, "DOCKER_BUILDKIT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr + engine.log[-2000:]
        return done

    return run


def in_image(engine: RunningEngine, script: str, image: str = "built") -> list[str]:
    done = engine.docker("run", "--rm", "--net", "none", "-u", "0", "--entrypoint", "sh", image, "-c", script)
    return done.stdout.splitlines()


def config_of(engine: RunningEngine, image: str = "built") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(engine.docker("image", "inspect", image).stdout)[0]["Config"]
    return document


def test_what_it_prints(engine: RunningEngine, build: Build) -> None:
    printed = build("FROM busybox\nENV A=b\nRUN echo $A $B; echo error >&2\n").stdout
    assert "\x1b[91merror\n\x1b[0m" in printed
    printed = printed.replace("\x1b[91m", "").replace("\x1b[0m", "")
    lines = [line for line in printed.splitlines() if line and not line.startswith("Sending")]
    assert lines[0] == "Step 1/3 : FROM busybox" and lines[1].startswith(" ---> ")
    assert [line.partition(" : ")[0] for line in lines if line.startswith("Step")] == [
        "Step 1/3",
        "Step 2/3",
        "Step 3/3",
    ]
    at = next(index for index, line in enumerate(lines) if line.startswith(" ---> Running in "))
    assert sorted(lines[at + 1 : at + 3]) == ["b", "error"]
    assert lines[at + 3].startswith(" ---> Removed intermediate container ")
    assert lines[-2].startswith("Successfully built ") and lines[-1] == "Successfully tagged built:latest"
    assert engine.docker("ps", "-aq").stdout == ""


def test_empty_lines_in_a_continued_one_are_warned_of_and_nothing_else(build: Build) -> None:
    printed = build("FROM busybox\nRUN true \\\n\n && true\nMAINTAINER me\nCMD true\n").stdout
    assert "\x1b[91m[WARNING]: Empty continuation line found in: RUN true  && true\n\x1b[0m" in printed
    assert "[WARNING]: Empty continuation lines will become errors in a future release.\n" in printed
    assert printed.count("WARNING") == 2


def test_files_come_with_the_attributes_that_docker_gives_them(
    engine: RunningEngine, build: Build, tmp_path: Path
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        entry = tarfile.TarInfo("dir/x")
        entry.size, entry.uid, entry.mode = 1, 7, 0o640
        tar.addfile(entry, io.BytesIO(b"x"))
    context = tmp_path / "context"
    (context / "src" / "deep").mkdir(parents=True)
    (context / "src" / "link").symlink_to("s.c")
    (context / "dirlink").symlink_to("src")
    build(
        "FROM busybox\n"
        "WORKDIR /app\nWORKDIR rel\n"
        "COPY src/ .\n"
        "COPY --chown=1000:1000 a.txt /app/sub/\n"
        "COPY --chown=nobody --chmod=600 a.txt /app/sub/b.txt\n"
        "COPY src/link dirlink /app/links/\n"
        "COPY a* src/s.? /wild/\n"
        'COPY ["a.txt", "/with space/x"]\n'
        "ADD data.tar.gz /data\n"
        "ADD a.txt data.tar.gz /data2/\n"
        "COPY data.tar.gz /plain\n"
        "COPY --exclude=*.c src/ /excluded/\n",
        {"a.txt": "A\n", "src/s.c": "s\n", "src/deep/d": "d", "data.tar.gz": archive.getvalue()},
    )
    script = (
        'find /app /data /data2 /wild "/with space" /plain /excluded | sort | while read f; do'
        ' stat -c "%n %a %u:%g %F" "$f"; done'
    )
    assert in_image(engine, script) == [
        "/app 755 0:0 directory",
        "/app/links 755 0:0 directory",
        "/app/links/deep 755 0:0 directory",
        "/app/links/deep/d 644 0:0 regular file",
        "/app/links/link 777 0:0 symbolic link",
        "/app/links/s.c 644 0:0 regular file",
        "/app/rel 755 0:0 directory",
        "/app/rel/deep 755 0:0 directory",
        "/app/rel/deep/d 644 0:0 regular file",
        "/app/rel/link 777 0:0 symbolic link",
        "/app/rel/s.c 644 0:0 regular file",
        "/app/sub 755 1000:1000 directory",
        "/app/sub/a.txt 644 1000:1000 regular file",
        "/app/sub/b.txt 600 65534:65534 regular file",
        "/data 755 0:0 directory",
        "/data/dir 755 0:0 directory",
        "/data/dir/x 640 7:0 regular file",
        "/data2 755 0:0 directory",
        "/data2/a.txt 644 0:0 regular file",
        "/data2/dir 755 0:0 directory",
        "/data2/dir/x 640 7:0 regular file",
        "/excluded 755 0:0 directory",
        "/excluded/deep 755 0:0 directory",
        "/excluded/deep/d 644 0:0 regular file",
        "/excluded/link 777 0:0 symbolic link",
        "/plain 644 0:0 regular file",
        "/wild 755 0:0 directory",
        "/wild/a.txt 644 0:0 regular file",
        "/wild/s.c 644 0:0 regular file",
        "/with space 755 0:0 directory",
        "/with space/x 644 0:0 regular file",
    ]


def test_the_configuration(engine: RunningEngine, build: Build) -> None:
    build(
        "ARG BASE=busybox\nFROM $BASE\nMAINTAINER me\nARG WHO=world\n"
        'ENV GREETING="hello $WHO" X=1\nEXPOSE 80 53/udp\nVOLUME ["/v1", "/v 2"]\nVOLUME /v3\nUSER daemon:1\n'
        'STOPSIGNAL SIGQUIT\nHEALTHCHECK --interval=5s CMD true\nSHELL ["/bin/ash", "-e", "-c"]\n'
        'LABEL a=b "c d"="e f"\nENTRYPOINT echo entry\nCMD ["cat"]\nONBUILD RUN echo x\n',
        {},
        *("--build-arg", "WHO=me", "--label", "l1=v 1"),
    )
    config = {
        key: value for key, value in config_of(engine).items() if value not in (None, "", False, [], {})
    }
    assert config == {
        "Cmd": ["cat"],
        "Entrypoint": ["/bin/ash", "-e", "-c", "echo entry"],
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "GREETING=hello me",
            "X=1",
        ],
        "ExposedPorts": {"53/udp": {}, "80/tcp": {}},
        "Healthcheck": {"Interval": 5_000_000_000, "Test": ["CMD-SHELL", "true"]},
        "Labels": {"a": "b", "c d": "e f", "l1": "v 1"},
        "OnBuild": ["RUN echo x"],
        "Shell": ["/bin/ash", "-e", "-c"],
        "StopSignal": "SIGQUIT",
        "User": "daemon:1",
        "Volumes": {"/v 2": {}, "/v1": {}, "/v3": {}},
    }


def test_a_touched_file_hits_the_cache_and_a_changed_one_does_not(
    engine: RunningEngine, build: Build, tmp_path: Path
) -> None:
    dockerfile = "FROM busybox\nCOPY a.txt /\nRUN cat /proc/uptime > /when\n"
    build(dockerfile, {"a.txt": "one"})
    first = in_image(engine, "cat /when")
    os.utime(tmp_path / "context" / "a.txt", (1, 1))
    assert build(dockerfile).stdout.count(" ---> Using cache") == 2
    assert in_image(engine, "cat /when") == first
    assert build(dockerfile, {"a.txt": "two"}).stdout.count(" ---> Using cache") == 0
    assert in_image(engine, "cat /when") != first
    assert "Using cache" not in build(dockerfile, None, "--no-cache").stdout


def test_stages(engine: RunningEngine, build: Build) -> None:
    dockerfile = (
        "FROM busybox AS one\nRUN echo made > /made && chown 7:8 /made\n"
        "FROM busybox AS unneeded\nRUN exit 9\n"
        "FROM one AS two\nRUN test -f /made\n"
        "FROM scratch\nCOPY --from=two /made /copied\nCOPY --from=busybox /bin/busybox /bin/\nCOPY --from=busybox /bin/busybox /bin/sh\n"  # noqa: E501
    )
    done = build(dockerfile)
    assert "exit 9" not in done.stdout
    assert in_image(engine, "busybox stat -c '%u:%g' /copied; busybox cat /copied") == ["7:8", "made"]
    assert build(dockerfile, None, "--target", "unneeded", check=False).returncode == 9
    missing = build(dockerfile, None, "--target", "unneded", check=False)
    assert 'target stage "unneded" could not be found (did you mean unneeded?)' in missing.stderr


def test_triggers_run_in_the_build_that_uses_the_image(engine: RunningEngine, build: Build) -> None:
    build("FROM busybox\nONBUILD ARG V=1\nONBUILD RUN echo triggered $V > /t\n")
    engine.docker("tag", "built", "base")
    done = build("FROM base\nRUN cat /t\n")
    assert "# Executing 2 build triggers\n" in done.stdout and "\ntriggered 1\n" in done.stdout
    assert not config_of(engine).get("OnBuild")


def test_heredocs(engine: RunningEngine, build: Build) -> None:
    build(
        "FROM busybox\nARG WHO=me\n"
        "RUN <<EOF\necho one > /one\necho two >> /one\nEOF\n"
        "RUN cat <<-A - > /three\n\ttabs go\n\tA\n"
        "COPY <<file.txt <<'raw.txt' /dir/\nfor $WHO \"quoted\"\nfile.txt\nfor $WHO\nraw.txt\n"
    )
    assert in_image(engine, "cat /one /three /dir/file.txt /dir/raw.txt") == [
        *("one", "two", "tabs go", 'for me "quoted"', "for $WHO"),
    ]


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        (
            "FROM busybox\nRUNN x",
            "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        ),
        ("FROM busybox\nRUN exit 3", "The command '/bin/sh -c exit 3' returned a non-zero code: 3"),
        ("FROM busybox\nCOPY nope /", "stat nope: file does not exist"),
        ("FROM busybox\nCOPY ../../etc/shadow /x", "stat etc/shadow: file does not exist"),
        ("FROM busybox\nCOPY n* /", "COPY failed: no source files were specified"),
        ("FROM busybox\nCOPY --chown=nobodyhere Dockerfile /", "nobodyhere"),
        ("FROM busybox\nCOPY --chmod=999 Dockerfile /", "invalid chmod parameter: '999'"),
        (
            "FROM busybox\nCOPY Dockerfile Dockerfile /bin/busybox",
            "cannot copy to non-directory: /bin/busybox",
        ),
        ("FROM busybox\nUSER ${X:?must be set}", "X: must be set"),
        ("FROM busybox\nRUN --mount=type=cache,target=/c true", "needs BuildKit"),
    ],
)
def test_mistakes_are_said_and_leave_nothing(
    engine: RunningEngine, build: Build, dockerfile: str, message: str
) -> None:
    done = build(dockerfile, None, "--force-rm", check=False)
    assert done.returncode != 0 and message in done.stderr + done.stdout
    assert engine.docker("ps", "-aq").stdout == ""
    assert list((engine.data_root / "build").iterdir()) == []


def test_links_of_a_context_lead_inside_of_it(engine: RunningEngine, build: Build, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "passwd").symlink_to("/etc/passwd")
    (context / "up").symlink_to("../../../../..")
    (context / "Other").symlink_to("/etc/hostname")
    for source in ("passwd", "up/etc/passwd"):
        done = build(f"FROM busybox\nCOPY {source} /stolen\n", check=False)
        assert "file does not exist" in done.stderr + done.stdout, source
    # the CLI itself looks into the Dockerfile, so it is asked past it
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        link = tarfile.TarInfo("Dockerfile")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    asked = subprocess.run(
        [
            *("curl", "-s", "--unix-socket", str(engine.socket), "-XPOST", "--data-binary", "@-"),
            "http://localhost/build",
        ],
        input=archive.getvalue(),
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert b"Cannot locate specified Dockerfile: Dockerfile" in asked.stdout


@pytest.fixture
def web() -> Iterator[str]:
    """A server with one file, `/file.txt`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"fetched\n"
            self.send_response(200 if self.path == "/file.txt" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_adding_an_address(engine: RunningEngine, build: Build, web: str) -> None:
    digest = hashlib.sha256(b"fetched\n").hexdigest()
    build(f"FROM busybox\nADD --checksum=sha256:{digest} {web}/file.txt /dir/\nADD {web}/file.txt /named\n")
    assert in_image(engine, "stat -c '%n %a %u' /dir/file.txt /named; cat /named") == [
        *("/dir/file.txt 600 0", "/named 600 0", "fetched"),
    ]
    wrong = build(f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {web}/file.txt /\n", check=False)
    assert "digest mismatch" in wrong.stderr + wrong.stdout
    gone = build(f"FROM busybox\nADD {web}/nope.txt /\n", check=False)
    assert "404" in gone.stderr + gone.stdout


def test_steps_are_images_that_go_with_their_child(engine: RunningEngine, build: Build) -> None:
    before = set(engine.docker("images", "-aq", "--no-trunc").stdout.split())
    build('FROM busybox\nENV A=1\nRUN echo x > /x\nCMD ["cat", "/x"]\n')
    steps = set(engine.docker("images", "-aq", "--no-trunc").stdout.split()) - before
    assert len(steps) == 3
    assert any("x" in in_image(engine, "cat /x 2>/dev/null; true", step) for step in steps)
    engine.docker("rmi", "built")
    assert set(engine.docker("images", "-aq", "--no-trunc").stdout.split()) == before


def test_a_client_that_leaves_ends_its_build(engine: RunningEngine, tmp_path: Path) -> None:
    client = subprocess.Popen(
        ["docker", "-H", engine.host, "build", "-"],
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write("FROM busybox\nRUN echo begun; sleep 1000\n")
    client.stdin.close()
    while client.stdout.readline() != "begun\n":  # not the line that tells of the step
        pass
    container = engine.docker("ps", "-q", "--no-trunc").stdout.strip()
    watching = subprocess.Popen(
        [
            *("docker", "-H", engine.host, "events", "--since", "1m"),
            *("--filter", "event=destroy", "--filter", f"container={container}"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    client.kill()
    client.wait()
    client.stdout.close()
    assert watching.stdout is not None and "destroy" in watching.stdout.readline()
    watching.kill()
    watching.wait()
    watching.stdout.close()
    assert engine.docker("ps", "-aq").stdout == ""


def test_a_killed_engine_leaves_no_build(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    client = subprocess.Popen(
        ["docker", "-H", engine.host, "build", "-t", "built", "-"],
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert client.stdin is not None and client.stdout is not None
    dockerfile = "FROM busybox\nRUN echo finished > /finished\nRUN echo begun; sleep 1000\n"
    client.stdin.write(dockerfile)
    client.stdin.close()
    while "begun" not in (line := client.stdout.readline()):
        assert line, "the build ended"
    engine.kill()
    client.stdout.close()
    client.wait()
    engine.start()
    assert engine.docker("ps", "-aq").stdout == ""
    assert list((engine.data_root / "build").iterdir()) == []
    # what was finished need not be done again
    again = engine.docker("build", "-", input=dockerfile.replace("sleep 1000", "true"))
    assert again.stdout.count(" ---> Using cache") == 1
