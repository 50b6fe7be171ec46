"""`sampan build`: contexts, outputs, what goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root


def wrote(top: Path, **files: str) -> Path:
    top.mkdir(exist_ok=True)
    for name, text in files.items():
        (top / name).write_text(text)
    return top


def in_image(engine: RunningEngine, image: str, script: str) -> list[str]:
    return engine.sampan("run", "--rm", "--net", "none", image, "sh", "-c", script).stdout.splitlines()


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_a_directory_and_again_without_sending_it(engine: RunningEngine, tmp_path: Path) -> None:
    context = wrote(tmp_path / "app", Dockerfile="FROM busybox\nARG V\nCOPY . /app/\nRUN echo $V > /app/v\n")
    wrote(context / "node_modules", big="x")
    wrote(context, **{".dockerignore": "node_modules\n*.log\nDockerfile\n", "a.log": "x", "kept.txt": "kept"})
    words = ("-t", "built", "--build-arg", "V=7", "--iidfile", str(tmp_path / "id"), str(context))
    printed = engine.sampan("build", *words).stderr
    assert "#1 [internal] load build definition from Dockerfile" in printed
    assert printed.splitlines()[-1].startswith("#") and "DONE" in printed.splitlines()[-1]
    assert in_image(engine, "built", "ls /app; cat /app/v") == ["kept.txt", "v", "7"]
    id = engine.sampan("image", "inspect", "-f", "{{.Id}}", "built").stdout.strip()
    assert (tmp_path / "id").read_text() == id
    again = engine.sampan("build", "--progress=rawjson", *words).stderr
    told = [status for line in again.splitlines() for status in json.loads(line).get("statuses", [])]
    assert {each["current"] for each in told if each["id"] == "transferring context:"} == {0}
    (context / "kept.txt").write_text("kept, and more")
    assert engine.sampan("build", "-q", *words).stdout.startswith("sha256:")
    assert in_image(engine, "built", "cat /app/kept.txt") == ["kept, and more"]
    (context / "kept.txt").unlink()
    (context / "link").symlink_to("nowhere")
    engine.sampan("build", "-q", *words)
    assert in_image(engine, "built", "ls /app; readlink /app/link") == ["link", "v", "nowhere"]


def test_dockerfiles_and_archives_from_standard_input(engine: RunningEngine, tmp_path: Path) -> None:
    quiet = engine.sampan("build", "-q", "-", input="FROM busybox\nENV A=b\n")
    assert quiet.stdout.startswith("sha256:") and len(quiet.stdout.splitlines()) == 1
    context = wrote(tmp_path / "app", file="content", Dockerfile="FROM busybox\nCOPY file /\n")
    engine.sampan("build", "-t", "beside", "-f", "-", str(context), input="FROM busybox\nCOPY file /beside\n")
    assert in_image(engine, "beside", "cat /beside") == ["content"]
    outside = wrote(tmp_path / "elsewhere", Other="FROM busybox\nCOPY file /other\n")
    engine.sampan("build", "-t", "outside", "-f", str(outside / "Other"), str(context))
    assert in_image(engine, "outside", "cat /other") == ["content"]
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        tar.add(context, ".")
    with (tmp_path / "a.tgz").open("rb") as archive:
        command = [sys.executable, "-m", "sampan.cli", "-H", engine.host, "build", "-q", "-t", "tarred", "-"]
        subprocess.run(command, stdin=archive, check=True, capture_output=True, timeout=60)
    assert in_image(engine, "tarred", "cat /file") == ["content"]
    assert list((engine.data_root / "build").iterdir()) == []


def test_outputs_secrets_and_named_contexts(engine: RunningEngine, tmp_path: Path) -> None:
    other = wrote(tmp_path / "other", b="from the other")
    context = wrote(
        tmp_path / "app",
        Dockerfile="FROM busybox AS made\nCOPY --from=other b /b\n"
        "RUN --mount=type=secret,id=t test $(cat /run/secrets/t) = sesame && mkdir /d && mv b /d && ln -s b /d/l\n"
        "FROM scratch\nCOPY --from=made /d /\n",
    )
    token = tmp_path / "token"
    token.write_text("sesame")
    asked = ("--secret", f"id=t,src={token}", "--build-context", f"other={other}", str(context))
    before = engine.sampan("images", "-aq").stdout
    engine.sampan("build", "-o", str(tmp_path / "out"), *asked)
    assert (tmp_path / "out" / "b").read_text() == "from the other"
    assert os.readlink(tmp_path / "out" / "l") == "b"
    engine.sampan("build", "-o", f"type=tar,dest={tmp_path}/out.tar", *asked)
    assert names(tmp_path / "out.tar") == ["b", "l"]
    engine.sampan(
        "build", "-o", f"type=oci,dest={tmp_path}/oci.tar", "--metadata-file", f"{tmp_path}/m", *asked
    )
    assert "index.json" in names(tmp_path / "oci.tar")
    described = json.loads((tmp_path / "m").read_text())
    assert described["containerimage.descriptor"]["digest"].startswith("sha256:")
    assert described["buildx.build.provenance"]["materials"][0]["uri"].startswith("pkg:docker/busybox@")
    engine.sampan("build", "-o", f"type=tar,dest={tmp_path}/told.tar", "--provenance=mode=min", *asked)
    assert names(tmp_path / "told.tar") == ["b", "l", "provenance.json"]
    assert engine.sampan("images", "-aq").stdout == before, "no image where none was asked for"


def test_an_agent_is_reached_from_a_step(engine: RunningEngine, tmp_path: Path) -> None:
    """What answers here is no ssh agent: bytes are bytes. We stand for the program in the step: busybox has none that could."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "agent"))
    server.listen()

    def answer() -> None:
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"you said " + peer.recv(100))

    threading.Thread(target=answer, daemon=True).start()
    dockerfile = "FROM busybox\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo begun; exec sleep 1000\n"
    client = begun(engine, dockerfile, "--ssh", f"default={tmp_path}/agent")
    # walked, not globbed: other directories in there come and go
    place = next(
        Path(directory, name)
        for directory, _, names in os.walk(engine.exec_root)
        for name in names
        if name.startswith("agent-")
    )
    directory = os.open(place.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as program:
        program.connect(f"/proc/self/fd/{directory}/{place.name}")
        program.sendall(b"hello")
        assert program.recv(100) == b"you said hello" and program.recv(100) == b""
    os.close(directory)
    leave(client)
    server.close()


def begun(engine: RunningEngine, dockerfile: str, *flags: str) -> subprocess.Popen[str]:
    """A build whose step has said that it begins."""
    command = [
        *("env", "--default-signal=INT"),  # who runs the tests in the background ignores it, and so would we
        sys.executable,
        "-m",
        "sampan.cli",
        "-H",
        engine.host,
        "build",
        "--progress=plain",
        *flags,
        "-",
    ]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert client.stdin is not None and client.stderr is not None
    client.stdin.write(dockerfile)
    client.stdin.close()
    while not (line := client.stderr.readline()).endswith(" begun\n"):
        assert line, "the build ended"
    return client


def leave(client: subprocess.Popen[str]) -> None:
    client.send_signal(signal.SIGINT)
    assert client.wait(20) == 130
    assert client.stderr is not None
    client.stderr.close()


def test_what_fails_is_shown_with_its_place(engine: RunningEngine, tmp_path: Path) -> None:
    failed = engine.sampan("build", "-", input="FROM busybox\nRUN echo so; exit 4\n", check=False)
    assert failed.returncode == 1
    end = failed.stderr.partition("------\n")[2]
    assert end.startswith(" > [2/2] RUN echo so; exit 4:\nso\n------\nDockerfile:2\n")
    assert "   2 | >>> RUN echo so; exit 4" in end and end.rstrip().endswith("exit code: 4")
    wrong = engine.sampan("build", "-", input="FROM busybox\nRUM x\n", check=False).stderr
    assert "did you mean RUN?" in wrong and "   2 | >>> RUM x" in wrong
    nowhere = engine.sampan("build", str(tmp_path / "nowhere"), check=False)
    assert "unable to prepare context" in nowhere.stderr
    denied = engine.sampan("build", "-", input="FROM busybox\nRUN --network=host true\n", check=False)
    assert "network.host is not allowed" in denied.stderr


def test_a_build_that_is_left_ends(engine: RunningEngine) -> None:
    leave(begun(engine, "FROM busybox\nRUN echo begun; exec sleep 1000\n"))
    with engine.client() as client:
        assert client.build(dockerfile="FROM busybox\nRUN echo over\n").log == "over\n"
    deadline = time.monotonic() + 20
    while any("sleep\0001000" in each for each in command_lines()):
        assert time.monotonic() < deadline, "the step runs on"
        time.sleep(0.05)


def command_lines() -> Iterator[str]:
    """Of all processes; those that end meanwhile have none."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            yield (process / "cmdline").read_text()


def test_checks_and_hints_are_told(engine: RunningEngine, tmp_path: Path) -> None:
    text = "FROM busybox\n# check=skip=MaintainerDeprecated\nMAINTAINER me\nRUN cd /tmp\nCMD echo\n"
    context = wrote(tmp_path / "app", Dockerfile=text)
    printed = engine.sampan("build", "--build-arg", "NOBODY=1", str(context)).stderr
    _, _, told = printed.partition("\n 1 warning found:\n")
    warning, _, hints = told.partition("\n 2 hints:\n")
    assert warning.startswith(" - JSONArgsRecommended: JSON arguments recommended for CMD"), printed
    assert warning.endswith("(line 5)\n")
    assert hints.splitlines() == [
        " - the directory is forgotten when this RUN ends: WORKDIR sets it for the instructions that follow (line 4)",
        " - One or more build-args [NOBODY] were not consumed",
    ]
    said = engine.sampan(
        "build", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true", str(context), check=False
    )
    assert said.returncode == 1
    assert "lint violation found for rules: JSONArgsRecommended" in said.stderr


def test_the_frontend_answers_questions(engine: RunningEngine, tmp_path: Path) -> None:
    text = "# V of what\nARG V=1\nFROM busybox AS one\nFROM one AS two\nRUN --mount=type=secret,id=key true\nCMD a\n"
    context = wrote(tmp_path / "app", Dockerfile=text)

    before = engine.sampan("image", "ls", "-aq").stdout

    def ask(*words: str, fails: bool = False) -> str:
        done = engine.sampan("build", *words, str(context), check=False)
        assert bool(done.returncode) == fails, done.stderr
        return done.stdout

    checked = ask("--check", fails=True)
    assert checked.startswith(
        "Check complete, 1 warning has been found!\n\nWARNING: JSONArgsRecommended - https://"
    )
    assert "   6 | >>> CMD a\n" in checked
    assert json.loads(ask("--call=check,format=json,ignorestatus=true"))["warnings"][0]["ruleName"]
    assert ask("--check", "--target", "one") == "Check complete, no warnings found.\n"
    assert ask("--call=targets").splitlines()[1:] == ["one           ", "two (default) "]
    assert ask("--call=outline", "--build-arg", "V=2").split() == [
        *("TARGET:", "two", "SECRET", "REQUIRED", "key"),
    ]
    assert engine.sampan("image", "ls", "-aq").stdout == before
    wrong = engine.sampan("build", "--call=nothing", str(context), check=False)
    assert "unsupported request frontend.nothing" in wrong.stderr
    wrote(context, Dockerfile="FROM busybox as x\nRUNN true\n")
    broken = engine.sampan("build", "--check", str(context), check=False)
    assert "Check complete, 1 warning has been found!" in broken.stdout
    assert (
        "ERROR: dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)\nDockerfile:2\n"
        in broken.stderr
    )
    assert "   2 | >>> RUNN true\n" in broken.stderr
