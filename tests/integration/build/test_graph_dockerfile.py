"""What a Dockerfile can say, built through the solver."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graph_builder import build, in_image
from running_engine import RunningEngine

pytestmark = pytest.mark.root


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory that is served, and its address."""
    root = tmp_path / "web"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(root))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield root, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_mounts_of_every_kind(engine: RunningEngine) -> None:
    dockerfile = """\
FROM busybox AS other
RUN mkdir -p /tree/sub && echo inner > /tree/sub/f && ln -s /tree/sub/f /tree/link
FROM busybox
RUN --mount=target=/ctx cat /ctx/dir/a && ! touch /ctx/x
RUN --mount=target=/ctx,rw touch /ctx/x && ls /ctx/x
RUN --mount=source=dir/a,target=/one cat /one
RUN --mount=from=other,source=tree/sub,target=/sub cat /sub/f
RUN --mount=from=busybox,target=/bb ls /bb/bin/sh
RUN --mount=type=cache,target=/c,uid=5,mode=700 stat -c '%u %a' /c && echo kept > /c/f
RUN --mount=type=cache,target=/c,uid=5,mode=700 cat /c/f
RUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -1
RUN --mount=type=secret,id=none,target=/s [ ! -e /s ]
RUN --mount=type=ssh [ -z "$SSH_AUTH_SOCK" ] || [ ! -e "$SSH_AUTH_SOCK" ]
"""
    built = build(engine, dockerfile, {"dir/a": "content\n"})
    assert built.output.count("content") == 2
    for words in ("/ctx/x", "inner", "/bb/bin/sh", "5 700", "kept", "1024"):
        assert words in built.output
    assert in_image(engine, "ls -d /ctx /one /sub /bb /c /t /s 2>/dev/null | wc -l") == ["0"]


def test_a_secret_that_is_needed_and_not_given_is_named(engine: RunningEngine) -> None:
    failed = build(engine, "FROM busybox\nRUN --mount=type=secret,id=token,required true\n", fails=True)
    assert "secret token: not found" in failed.error


def test_networks_and_privileges(engine: RunningEngine) -> None:
    """A Dockerfile's author gets no more than a container has, unless who orders the build says so."""
    built = build(
        engine,
        "FROM busybox\nRUN --network=none ip -o link | wc -l\nRUN grep CapEff /proc/self/status\n",
    )
    assert built.output.startswith("1\n") or "\n1\n" in built.output
    (confined,) = (line.split()[1] for line in built.output.splitlines() if line.startswith("CapEff"))
    assert int(confined, 16) == 0xA80425FB
    for flag, words in (("--network=host", "network.host"), ("--security=insecure", "security.insecure")):
        refused = build(engine, f"FROM busybox\nRUN {flag} true\n", fails=True)
        assert f"{words} is not allowed" in refused.error
    build(engine, "FROM busybox\nRUN --network=host true\n", networkmode="host")


def test_copies_with_every_flag(engine: RunningEngine) -> None:
    files = {
        "a/b/one.txt": "1",
        "a/b/two.md": "2",
        "a/c/three.txt": "3",
        "run.sh": (0o644, "#!/bin/sh\n"),
        "link.txt -> a/b/one.txt": None,
        "top/x": "x",
    }
    dockerfile = """\
FROM busybox
COPY --parents a/*/*.txt /parents/
COPY --parents a/./b/one.txt /pivot/
COPY --exclude=**/*.md --exclude=c a /excluded/
COPY --chmod=u=rwx,go=rx run.sh /bin/run
COPY --chown=7:8 top /owned/
COPY --link --chown=9 top/x /linked/x
COPY link.txt /followed
COPY a/b/*.txt run.sh /many/
COPY <<one <<two /inline/
first $HOME
one
second
two
WORKDIR /place
COPY run.sh .
ADD run.sh sub/
"""
    build(engine, dockerfile, files)
    assert in_image(
        engine,
        "cd /parents && find . -type f | sort; cd /pivot && find . -type f; cd /excluded && find . -type f",
    ) == [
        "./a/b/one.txt",
        "./a/c/three.txt",
        "./b/one.txt",
        "./b/one.txt",
    ]
    assert in_image(
        engine,
        "stat -c '%a' /bin/run; stat -c '%u:%g' /owned /owned/x /linked/x; cat /followed; echo; ls /many",
    ) == [
        "755",
        "7:8",
        "7:8",
        "9:9",
        "1",
        "one.txt",
        "run.sh",
    ]
    assert in_image(engine, "cat /inline/one /inline/two; ls /place /place/sub") == [
        "first ",
        "second",
        "/place:",
        "run.sh",
        "sub",
        "",
        "/place/sub:",
        "run.sh",
    ]


def test_a_linked_copy_does_not_stand_on_its_base(engine: RunningEngine) -> None:
    dockerfile = "FROM busybox\nRUN echo {} > /base\nCOPY --link f /deep/f\n"
    build(engine, dockerfile.format("one"), {"f": "f"})
    again = build(engine, dockerfile.format("two"), {"f": "f"})
    assert "COPY --link f /deep/f" not in [
        name for name in again.ran() if again.vertices[name]["inputs"] == []
    ]
    assert in_image(engine, "cat /base /deep/f") == ["two", "f"]


def test_heredocs_run_as_scripts(engine: RunningEngine) -> None:
    dockerfile = """\
FROM busybox
RUN <<EOF
set -e
echo one
echo two
EOF
RUN <<EOF
#!/bin/ash
echo "script $0"
EOF
RUN cat <<A - <<B
from a
A
from b
B
"""
    built = build(engine, dockerfile)
    assert "one\ntwo\n" in built.output and "script /dev/pipes/EOF" in built.output


def test_adds_of_archives_and_of_the_web(engine: RunningEngine, web: tuple[Path, str]) -> None:
    root, address = web
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("inner/file")
        member.size, member.uid, member.mode = 2, 42, 0o600
        tar.addfile(member, io.BytesIO(b"hi"))
    (root / "remote.tar.gz").write_bytes(archive.getvalue())
    digest = hashlib.sha256(archive.getvalue()).hexdigest()
    dockerfile = f"""\
FROM busybox
ADD local.tar.gz /unpacked/
ADD --unpack=false local.tar.gz /kept/
ADD --checksum=sha256:{digest} {address}/remote.tar.gz /remote/
ADD --unpack=true --chown=3 {address}/remote.tar.gz /unpacked-remote/
"""
    build(engine, dockerfile, {"local.tar.gz": archive.getvalue()})
    names = "/unpacked/inner/file /kept/local.tar.gz /remote/remote.tar.gz /unpacked-remote/inner/file"
    assert in_image(engine, f"stat -c '%u %a %n' {names}") == [
        "42 600 /unpacked/inner/file",
        "0 644 /kept/local.tar.gz",
        "0 600 /remote/remote.tar.gz",
        "3 600 /unpacked-remote/inner/file",
    ]
    wrong = build(
        engine, f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {address}/remote.tar.gz /x\n", fails=True
    )
    assert "digest mismatch" in wrong.error


def test_adds_of_repositories(engine: RunningEngine, web: tuple[Path, str], tmp_path: Path) -> None:
    root, address = web
    work = tmp_path / "work"
    for words in (
        ("init", "-q", "-b", "main", str(work)),
        ("-C", str(work), "config", "user.email", "a@b"),
        ("-C", str(work), "config", "user.name", "a"),
    ):
        subprocess.run(["git", *words], check=True)
    (work / "sub").mkdir()
    (work / "sub" / "file").write_text("in a repository\n")
    subprocess.run(["git", "-C", str(work), "add", "."], check=True)
    subprocess.run(["git", "-C", str(work), "commit", "-q", "-m", "one"], check=True)
    subprocess.run(["git", "-C", str(work), "tag", "v1"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(root / "repo.git")], check=True)
    subprocess.run(["git", "-C", str(root / "repo.git"), "update-server-info"], check=True)
    dockerfile = f"FROM busybox\nADD {address}/repo.git /all\nADD {address}/repo.git#v1:sub /part/\n"
    build(engine, dockerfile)
    assert in_image(engine, "cat /all/sub/file /part/file; ls -A /all") == ["in a repository"] * 2 + ["sub"]
    assert build(engine, dockerfile).ran() == []
    missing = build(engine, f"FROM busybox\nADD {address}/repo.git#none /x\n", fails=True)
    assert "does not contain ref none" in missing.error


def test_arguments_triggers_and_platform_words(engine: RunningEngine) -> None:
    build(
        engine, 'FROM busybox\nONBUILD ARG WHO=nobody\nONBUILD RUN echo "hello $WHO" > /who\n', t=["parent"]
    )
    built = build(
        engine,
        "ARG BASE=parent\nFROM $BASE AS first\nARG TARGETARCH\nRUN echo $TARGETARCH\nFROM first\nRUN cat /who\n",
        buildargs='{"WHO": "you", "UNUSED": "x"}',
    )
    assert "hello you" in built.output and "amd64" in built.output
    warnings = [each["short"] for each in built.events if each["kind"] == "warning"]
    assert warnings == ["One or more build-args [UNUSED] were not consumed"]


def test_ignored_files_are_not_there(engine: RunningEngine) -> None:
    files = {".dockerignore": "*\n!keep\n", "keep/a": "a", "secret": "s", "keep/b": "b"}
    build(engine, "FROM busybox\nCOPY . /x/\n", files)
    assert in_image(engine, "cd /x && find . -type f | sort") == ["./keep/a", "./keep/b"]


def test_what_is_missing_is_named_as_buildkit_names_it(engine: RunningEngine) -> None:
    failed = build(engine, "FROM busybox\nCOPY nothing /x\n", fails=True)
    assert '"/nothing": not found' in failed.error


def test_checks_warn_of_the_step_that_brings_the_file_and_hints_are_no_warnings(
    engine: RunningEngine,
) -> None:
    built = build(engine, "FROM busybox\nRUN cd /tmp\nCMD echo\n")
    loading = built.vertices["load build definition from Dockerfile"]["digest"]
    told = [
        (each["short"].partition(":")[0], each["level"], each["vertex"] == loading, each["places"])
        for each in built.events
        if each["kind"] == "warning"
    ]
    assert told[0] == ("JSONArgsRecommended", 1, True, [[3, 3]])
    assert [each[1:] for each in told[1:]] == [(0, True, [[2, 2]])]
    failed = build(engine, "# check=error=true\nFROM busybox\nCMD echo\n", fails=True)
    assert "lint violation found for rules: JSONArgsRecommended" in failed.error
