"""SCMP_ACT_NOTIFY: the filter's descriptor reaches the agent at listenerPath with the container's state; as with runc."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_bundle import RUNC, SAMPAN, Bundle
from running_engine import RunningEngine
from seccomp_agent import SAID, Agent

pytestmark = pytest.mark.root

RUNTIMES = pytest.mark.parametrize("runtime", [RUNC, SAMPAN], ids=["runc", "sampan"])


def profile(agent: Path) -> dict[str, Any]:
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(agent),
        "listenerMetadata": "of the test",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    }


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with Agent(tmp_path / "agent.sock") as running:
        yield running


@pytest.fixture
def notifying(tmp_path: Path) -> Iterator[Bundle]:
    made = Bundle(tmp_path)
    made.spec["linux"]["seccomp"] = profile(tmp_path / "agent.sock")
    made.spec["annotations"] = {"of": "the test"}
    yield made
    made.close()


@RUNTIMES
@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_the_agent_answers(
    notifying: Bundle, agent: Agent, runtime: list[str], no_new_privileges: bool
) -> None:
    notifying.spec["process"]["noNewPrivileges"] = no_new_privileges
    done = notifying.script("mkdir /x 2>&1; sleep 0; echo $?").run(runtime=runtime)
    assert SAID in done.out, done
    (told,) = agent.states
    assert told["fds"] == ["seccompFd"] and told["metadata"] == "of the test" and told["pid"] > 1
    state = told["state"]
    assert state["bundle"] == str(notifying.path) and state["annotations"] == {"of": "the test"}
    assert state["pid"] == told["pid"] and state["status"] in ("creating", "created")


@RUNTIMES
def test_further_processes_and_a_start_by_another_command(
    notifying: Bundle, agent: Agent, runtime: list[str]
) -> None:
    name = notifying.script("sleep 1000").start(runtime=runtime)
    done = notifying.command("exec", name, "mkdir", "/x", runtime=runtime)
    assert done.code == 1 and SAID in done.err, done
    first, second = agent.states
    init = notifying.pid(name) if runtime is SAMPAN else first["pid"]
    assert first["pid"] == init == second["state"]["pid"] and second["pid"] != init
    assert second["state"]["status"] == "running" and second["state"]["bundle"] == str(notifying.path)


@RUNTIMES
def test_nobody_listens(notifying: Bundle, runtime: list[str]) -> None:
    done = notifying.script("echo started").run(runtime=runtime)
    assert done.code == 1 and done.out == "" and "agent.sock: " in done.err
    assert notifying.command("list", "-q", runtime=runtime).out == ""


def test_through_the_engine(engine: RunningEngine, agent: Agent, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(profile(agent.path)))
    flags = ("--network", "none", "--security-opt", f"seccomp={file}")
    done = engine.docker("run", "--rm", *flags, "busybox", "mkdir", "/x", check=False)
    assert done.returncode == 1 and SAID in done.stderr, done
    engine.docker("run", "-d", "--name", "box", *flags, "busybox", "sleep", "1000")
    done = engine.docker("exec", "box", "mkdir", "/x", check=False)
    assert done.returncode == 1 and SAID in done.stderr, done
    assert [told["state"]["status"] for told in agent.states] == ["created", "created", "running"]
    assert agent.states[2]["state"]["pid"] == agent.states[1]["pid"]
    file.write_text(json.dumps(profile(tmp_path / "nobody.sock")))
    done = engine.docker("run", "--rm", *flags, "busybox", "true", check=False)
    assert done.returncode in (125, 127) and "nobody.sock: no such file or directory" in done.stderr, done
