"""runc's command line: states, formats and messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from oci_bundle import RUNC, SAMPAN, Bundle, is_gone

pytestmark = pytest.mark.root


def test_life_cycle_states_and_messages_are_runcs(bundle: Bundle) -> None:
    """The same commands in both runtimes, right and wrong ones: exit codes and messages agree."""
    bundle.script("sleep 100")
    transcripts = []
    for runtime in (RUNC, SAMPAN):
        name, _ = bundle.create(runtime=runtime)
        transcript = []
        for command in (
            ("state", name), ("exec", name, "true"), ("start", name), ("start", name), ("delete", name),
            ("create", "--bundle", str(bundle.path), name), ("pause", name), ("state", name),
            ("exec", name, "true"), ("pause", name), ("resume", name), ("resume", name),
            ("exec", name, "sh", "-c", "exit 7"), ("exec", name, "nope"), ("kill", name, "NOSUCH"),
            ("kill", name, "0"), ("list", "-q"), ("delete", "--force", name), ("state", name),
            ("delete", name), ("delete", "--force", name), ("kill", name), ("start", name), ("create", "a/b"),
            ("update", name), ("list", "-q"), ("list", "-f", "json"), ("list", "-f", "xml"), ("nonsense",),
        ):  # fmt: skip
            result = bundle.command(*command, runtime=runtime)
            status = json.loads(result.out)["status"] if command[0] == "state" and result.code == 0 else ""
            output = result.out if command[0] == "list" else ""
            words = [line.split("msg=", 1)[1] for line in result.err.splitlines() if "msg=" in line]
            transcript.append((command[0], result.code, status, output.replace(name, "ID"), words))
        transcripts.append(
            [tuple(str(part).replace(name, "ID").replace("\\\\n", "") for part in e) for e in transcript]
        )
    for reference, ours in zip(*transcripts, strict=True):
        assert ours == reference


def test_state_document(bundle: Bundle) -> None:
    bundle.spec["annotations"] = {"a": "b"}
    # a relative one is the caller's, not the bundle's
    name, created = bundle.create("--pid-file", os.path.relpath(bundle.path / "pid"))
    assert created.code == 0, created.err
    document = json.loads(bundle.command("state", name).out)
    reference, _ = bundle.create(runtime=RUNC)
    theirs = json.loads(bundle.command("state", reference, runtime=RUNC).out)
    assert list(document) == list(theirs)
    assert document["pid"] == int((bundle.path / "pid").read_text())
    assert {**document, "id": 0, "pid": 0, "created": 0, "ociVersion": 0} == {
        **theirs, "id": 0, "pid": 0, "created": 0, "ociVersion": 0
    }  # fmt: skip


def test_tables_of_list_and_ps(bundle: Bundle) -> None:
    bundle.script("sleep 100")
    name = bundle.start()
    pid = bundle.pid(name)
    lines = bundle.command("list").out.splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert lines[1].split()[:4] == [name, str(pid), "running", str(bundle.path)]
    assert lines[0].index("PID") == lines[1].index(str(pid))
    assert json.loads(bundle.command("ps", "-f", "json", name).out) == [pid]
    table = bundle.command("ps", name).out.splitlines()
    assert len(table) == 2
    assert table[1].endswith("sleep 100")


def test_signals_reach_the_program_and_its_code_comes_back(bundle: Bundle) -> None:
    bundle.script("trap 'exit 42' TERM; echo ready; while true; do sleep 0.1; done")
    bundle.write()
    name = bundle.adopt(f"signalled-{os.getpid()}")
    process = subprocess.Popen(
        [*SAMPAN, "--root", str(bundle.state), "run", "--bundle", str(bundle.path), name],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 42
    process.stdout.close()
    assert bundle.command("state", name).code == 1


def test_kill_all_and_delete_leave_nothing(bundle: Bundle) -> None:
    bundle.spec["linux"]["namespaces"] = [
        entry for entry in bundle.spec["linux"]["namespaces"] if entry["type"] != "pid"
    ]
    bundle.script("sleep 100 & sleep 100 & wait")
    name = bundle.start()
    pids = json.loads(bundle.command("ps", "-f", "json", name).out)
    assert bundle.command("kill", "--all", name, "KILL").code == 0
    assert bundle.command("delete", "--force", name).code == 0
    assert len(pids) == 3
    assert all(is_gone(pid) for pid in pids)
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{name}"))


def test_update_changes_limits(bundle: Bundle) -> None:
    bundle.script("sleep 100")
    name = bundle.start()
    assert bundle.command("update", "--memory", "64m", "--pids-limit", "33", name).code == 0
    result = bundle.command(
        "exec", name, "sh", "-c", "cat /sys/fs/cgroup/*/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max"
    )
    assert result.out.split() == [str(64 << 20), "33"]
    (bundle.path / "r.json").write_text('{"memory": {"limit": "much"}}')
    refused = bundle.command("update", "-r", str(bundle.path / "r.json"), name)
    assert refused.code == 1
    assert "resources.memory.limit: expected an integer" in refused.err


def test_events_and_features_are_json(bundle: Bundle) -> None:
    bundle.script("sleep 100")
    name = bundle.start()
    event = json.loads(bundle.command("events", "--stats", name).out)
    assert event["type"] == "stats"
    assert event["id"] == name
    assert event["data"]["memory"]["usage"]["usage"] > 0
    assert event["data"]["pids"]["current"] == 1
    ours = json.loads(bundle.command("features").out)
    theirs = json.loads(bundle.command("features", runtime=RUNC).out)
    assert set(theirs["mountOptions"]) <= set(ours["mountOptions"])
    assert set(theirs["hooks"]) == set(ours["hooks"])
    mine, others = ours["linux"], theirs["linux"]
    assert set(others["namespaces"]) <= set(mine["namespaces"])
    assert set(others["seccomp"]["actions"]) == set(mine["seccomp"]["actions"])
    assert set(others["seccomp"]["operators"]) == set(mine["seccomp"]["operators"])
    assert [name for name, true in mine["cgroup"].items() if not true] == ["systemdUser"]


def test_spec_writes_a_bundle_that_runs(bundle: Bundle) -> None:
    assert bundle.command("spec", "--bundle", str(bundle.path)).code == 0
    again = bundle.command("spec", "--bundle", str(bundle.path))
    assert again.code == 1
    assert "config.json exists" in again.err
    bundle.spec = json.loads((bundle.path / "config.json").read_text())
    bundle.spec["process"]["terminal"] = False
    assert bundle.script("echo it runs").run().out == "it runs\n"


def test_errors_go_to_the_log_as_json(bundle: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    result = bundle.command("--log", str(log), "--log-format", "json", "state", "nobody")
    assert result.code == 1
    entry = json.loads(log.read_text())
    assert entry["level"] == "error"
    assert entry["msg"] == "container does not exist"
    assert result.err == "container does not exist\n"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("process", "args"), "true", "process.args: expected a list"),
        (("process", "cwd"), "tmp", "Cwd must be an absolute path"),
        (("process", "user"), {"uid": 1 << 31}, "process.user.uid: 2147483648 is not between"),
        (("linux", "namespaces"), [{"type": "net"}], "linux.namespaces[0].type: expected one of"),
        (("mounts",), [{"type": "proc"}], "mounts[0].destination: missing"),
    ],
)
def test_wrong_specs_are_refused_by_field(
    bundle: Bundle, path: tuple[str, ...], value: object, message: str
) -> None:
    target = bundle.spec
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    result = bundle.run()
    assert result.code == 1
    assert message in result.err
    assert not list(bundle.state.glob("t*"))


def test_a_cgroup_in_which_another_container_lives(bundle: Bundle) -> None:
    """The second is refused, and what was made for it is taken back: nothing of the first is."""
    bundle.spec["linux"]["cgroupsPath"] = f"/{bundle.path.parent.name}-shared"
    first = bundle.script("sleep 1000").start()
    pid = bundle.pid(first)
    second, created = bundle.create()
    assert created.code == 1 and "container's cgroup is not empty" in created.err
    assert not is_gone(pid)
    assert bundle.command("list", "-q").out.split() == [first]
    assert bundle.command("delete", "--force", second).code == 0 and not is_gone(pid)
