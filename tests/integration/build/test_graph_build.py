"""Builds through the solver: Dockerfile → LLB → snapshots → image."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from graph_builder import build, in_image
from running_engine import RunningEngine

pytestmark = pytest.mark.root


def test_stages_copies_and_runs_give_an_image(engine: RunningEngine) -> None:
    dockerfile = """\
FROM busybox AS made
WORKDIR /src
COPY a.txt dir ./
RUN cat a.txt > /out && echo "$(id -u) $PWD $GREETING" >> /out
FROM busybox
ARG GREETING=hello
ENV NAME=world
COPY --from=made --chown=3:4 --chmod=640 /out /there/
RUN echo "$GREETING $NAME" && touch /done
USER 5
CMD ["cat", "/there/out"]
"""
    files = {"a.txt": "A\n", "dir/b.txt": "B\n"}
    first = build(engine, dockerfile, files)
    assert "hello world" in first.output
    assert in_image(engine, "cat /there/out; stat -c '%u:%g %a' /there/out; ls -d /done") == [
        "A",
        "0 /src ",
        "3:4 640",
        "/done",
    ]
    config = json.loads(engine.docker("image", "inspect", "built").stdout)[0]["Config"]
    assert config["Cmd"] == ["cat", "/there/out"] and config["User"] == "5"
    assert "NAME=world" in config["Env"] and not any(each.startswith("GREETING") for each in config["Env"])
    again = build(engine, dockerfile, files)
    assert again.ran() == ["load build context"] and again.image == first.image
    changed = build(engine, dockerfile, {**files, "dir/b.txt": "C\n"})
    # The copy and the run that stand on the changed file; /out came out the same, so nothing after it.
    assert [each.split()[0] for each in changed.ran()] == ["load", "COPY", "RUN"]
    assert changed.image == first.image


def test_places_of_mounts_do_not_become_part_of_the_image(engine: RunningEngine) -> None:
    build(
        engine,
        "FROM busybox\nRUN --mount=type=cache,target=/var/deep/cache --mount=type=tmpfs,target=/fast"
        " ls -d /fast /var/deep/cache /proc/self && touch /made\n",
    )
    history = json.loads(
        engine.docker("history", "--format", "json", "--no-trunc", "built").stdout.splitlines()[0]
    )
    assert "touch /made" in history["CreatedBy"]
    layers = engine.docker(
        "run", "--rm", "--net", "none", "built", "sh", "-c", "ls -d /fast /var/deep; ls /made"
    )
    assert layers.stdout.split() == ["/made"]


def test_a_failing_step_is_named_with_its_place(engine: RunningEngine) -> None:
    failed = build(engine, "FROM busybox\nRUN echo before && exit 7\nRUN true\n", fails=True, t=["failed"])
    assert (
        'process "/bin/sh -c echo before && exit 7" did not complete successfully: exit code: 7'
        in failed.error
    )
    assert "before" in failed.output
    assert failed.vertices["RUN echo before && exit 7"]["error"]
    assert engine.docker("images", "-q", "failed").stdout == ""
    assert engine.docker("ps", "-aq").stdout == ""
    assert os.listdir(engine.exec_root / "programs") == [] == os.listdir(engine.exec_root / "builds")


def test_independent_stages_run_at_the_same_time_and_unneeded_ones_not_at_all(engine: RunningEngine) -> None:
    # Each waits until the other has begun: one after the other they would never end.
    wait = "touch /m/{0}; i=0; until [ -e /m/{1} ]; do i=$((i+1)); [ $i -lt 200 ] || exit 1; sleep 0.05; done; echo {0} > /f"
    mount = "--mount=type=cache,target=/m"
    dockerfile = (
        f"FROM busybox AS a\nRUN {mount} {wait.format('a', 'b')}\n"
        f"FROM busybox AS b\nRUN {mount} {wait.format('b', 'a')}\n"
        "FROM busybox AS unneeded\nRUN exit 1\n"
        "FROM busybox\nCOPY --from=a /f /a\nCOPY --from=b /f /b\n"
    )
    built = build(engine, dockerfile)
    assert not any(each[-6:] == "exit 1" for each in built.vertices)
    assert in_image(engine, "cat /a /b") == ["a", "b"]


def test_finished_steps_outlive_a_killed_engine_and_nothing_else_does(make_engine) -> None:  # type: ignore[no-untyped-def]
    engine: RunningEngine = make_engine()
    dockerfile = "FROM busybox\nRUN echo first > /first\nRUN touch /begun && sleep 600\n"
    thread = threading.Thread(target=lambda: _until_it_breaks(engine, dockerfile))
    thread.start()
    deadline = time.monotonic() + 40
    while not _running(engine):
        assert time.monotonic() < deadline, engine.log
        time.sleep(0.05)
    engine.kill()
    thread.join()
    engine.start()
    assert not _running(engine)
    assert os.listdir(engine.exec_root / "programs") == []
    built = build(engine, dockerfile.replace("touch /begun && sleep 600", "true"))
    assert built.vertices["RUN echo first > /first"]["cached"]
    snapshots = [path.name for path in (engine.data_root / "snapshots").iterdir() if path.name.isdecimal()]
    assert len(snapshots) < 12


def _until_it_breaks(engine: RunningEngine, dockerfile: str) -> None:
    try:
        build(engine, dockerfile)
    except Exception:
        return  # the engine was killed


def _running(engine: RunningEngine) -> bool:
    """Whether the second step's program runs."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if file.read() == b"sleep\x00600\x00":
                        with open(f"/proc/{name}/cgroup") as cgroup:
                            return bool(cgroup.read())
            except OSError:
                continue
    return False


def test_images_of_the_same_source_are_the_same_image(engine: RunningEngine) -> None:
    dockerfile = "FROM busybox\nRUN mkdir -p /d && date +%s%N > /dev/null && echo fixed > /d/f\nCOPY a /a\nWORKDIR /w\n"
    asked = {
        "nocache": "1",
        "buildargs": json.dumps({"SOURCE_DATE_EPOCH": "1700000000"}),
        "outputs": json.dumps(
            [{"Type": "image", "Attrs": {"rewrite-timestamp": "true", "compression": "gzip"}}]
        ),
    }
    images = {build(engine, dockerfile, {"a": "a"}, **asked).image for _ in range(2)}
    assert len(images) == 1
    assert in_image(engine, "stat -c %Y /d/f; cat /d/f") == ["1700000000", "fixed"]
    created = json.loads(engine.docker("image", "inspect", "built").stdout)[0]["Created"]
    assert created == "2023-11-14T22:13:20Z"
