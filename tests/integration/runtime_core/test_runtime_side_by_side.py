"""The same command lines in runc and in Sampan's runtime: exit codes, output and the entries of the JSON log agree."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from oci_bundle import RUNC, SAMPAN, Bundle
from sampan.runtime.command.main import COMMANDS, GLOBAL_OPTIONS

pytestmark = pytest.mark.root

Answer = tuple[int, str, list[tuple[str, str]]]

MISUSE = """
create | create --bogus x | create --bundle | create --preserve-fds x c1 | create c1 c2 | state | state c1 c2 | start | kill
kill c1 a b | delete | delete -f | exec | list extra | ps | pause | resume | update | events | features x | spec x | --bogus list
--log-format | events --interval x c1 | events --interval 0s c1 | events --interval -1s c1 | update --pids-limit x c1
update --blkio-weight x c1 | update --l3-cache-schema | exec -g x c1 true | exec --additional-gids 7 -g 8 c1 true
"""
NOBODY = """
create --bundle /nonexistent c1 | create --bundle /tmp c1 | create a/b | create .. | create . | state nobody | start nobody
kill nobody | delete nobody | delete --force nobody | exec nobody | exec nobody true | ps nobody | pause nobody | resume nobody
update nobody | events nobody | events --stats nobody | list | list -q | list -f json | list -f yaml | spec --bundle /nonexistent
update --l3-cache-schema x nobody | --systemd-cgroup create --bundle BUNDLE c1 | --systemd-cgroup run --bundle BUNDLE c1
--rootless bogus list | --criu x list | --debug=false list
"""
CREATED = """
create --bundle BUNDLE c1 | list -q | create --bundle BUNDLE c1 | exec c1 | exec c1 true | pause c1 | state c1
start c1 | exec c1 true | resume c1 | state c1 | start c1 | start c1 | delete c1 | state c1
"""
RUNNING = """
exec c1 nope | exec c1 /nope | exec --cwd /nope c1 true | exec --cwd rel c1 true | exec --user bogus c1 true
exec --user 1:x c1 true | exec --user 1:2 c1 id | exec --env A=b c1 env
exec -e bad c1 true | exec --cap CAP_BOGUS c1 true | exec -g 7 -g 8 c1 id -G
exec --cap CAP_SYS_ADMIN c1 grep CapEff /proc/self/status | exec --no-new-privs c1 grep NoNewPrivs /proc/self/status
exec --process /nonexistent c1 | exec --process BUNDLE/empty.json c1 | exec --process BUNDLE/no-cwd.json c1
exec --process BUNDLE/no-args.json c1 | exec --process BUNDLE/nine.json c1 | exec -t -d c1 true | exec --console-socket /x c1 true
exec --console-socket /nonexistent -t -d c1 true | exec -d --pid-file /nonexistent/x c1 true | exec c1 false
kill c1 BOGUS | kill c1 99 | kill c1 -5 | kill c1 0 | kill c1 sigwinch | kill c1 WINCH | kill --all c1 0 | kill c1 65
update c1 | update --memory bogus c1 | update --memory 64m c1 | update --memory-swap -1 c1 | update --cpu-quota x c1
update --cpu-share x c1 | update --cpu-period x c1 | update --resources /nonexistent c1 | update -r BUNDLE/limits.json c1
update --l3-cache-schema x c1 | update --mem-bw-schema x c1 | exec --cgroup a:b:c c1 true | exec --cgroup a --cgroup b c1 true
exec --cgroup ../x c1 true | exec --cgroup bogus:/ c1 true | exec --cgroup / c1 true | exec --cgroup memory,pids:/ c1 true
exec --cgroup memory:.. c1 true | exec --cgroup /nope c1 true
ps -f xml c1 | ps c1 -o bogus | ps c1 -o args | pause c1 | pause c1 | exec c1 true | start c1 | delete c1 | kill c1 0
update --memory 64m c1 | state c1 | resume c1 | resume c1 | state c1 | delete --force c1 | state c1 | list -q
"""
_PROCESSES = {
    "empty": {},
    "no-cwd": {"args": ["true"]},
    "no-args": {"args": [], "cwd": "/"},
    "nine": {"args": ["sh", "-c", "exit 9"], "cwd": "/", "env": ["PATH=/bin"]},
    "limits": {"memory": {"limit": 67108864}},
}


def command_lines(text: str) -> list[list[str]]:
    return [line.split() for part in text.splitlines() if part for line in part.split(" | ")]


def plain(text: str, directory: Path) -> str:
    """Without what differs from run to run, and without the help that follows a usage error: those words are ours."""
    text = text.replace(str(directory), "DIRECTORY")
    text = re.sub(r"^(\S*/runc|-c|sampan-runtime)(?=: )", "PROGRAM", text)
    if text.startswith("Incorrect Usage"):
        text = text.split("\n")[0]
    text = re.sub(r"error adding pid \d+ to cgroups: .*(?=: no such)", "error adding the pid", text)
    text = re.sub(r'"(pid|created|ociVersion)": ("[^"]*"|\d+)', r'"\1": X', text)
    return text.strip()


def play(directory: Path, runtime: Sequence[str], lines: Sequence[Sequence[str]]) -> list[Answer]:
    directory.mkdir()
    bundle = Bundle(directory)
    bundle.script("sleep 1000").write()
    for name, document in _PROCESSES.items():
        (bundle.path / f"{name}.json").write_text(json.dumps(document))
    answers: list[Answer] = []
    log, output = directory / "log.json", directory / "output"
    try:
        for line in lines:
            log.unlink(missing_ok=True)
            arguments = [word.replace("BUNDLE", str(bundle.path)) for word in line]
            with output.open("w+b") as stdout:  # not a pipe: a container that was created would hold it open
                done = bundle.command(
                    "--log",
                    str(log),
                    "--log-format",
                    "json",
                    *arguments,
                    runtime=list(runtime),
                    stdout=stdout,
                )
            answers.append((done.code, plain(output.read_text(), directory), entries(log, directory)))
    finally:
        bundle.command("delete", "--force", "c1", runtime=list(runtime), stdout=subprocess.DEVNULL)
    return answers


def entries(log: Path, directory: Path) -> list[tuple[str, str]]:
    if not log.exists():
        return []
    found: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(set(entry) == {"level", "msg", "time"} for entry in found)
    return [(entry["level"], plain(entry["msg"], directory)) for entry in found]


@pytest.mark.timeout(240)  # two programs, some hundred starts each
@pytest.mark.parametrize(
    "text", [MISUSE, NOBODY, CREATED, CREATED + RUNNING], ids=["misuse", "nobody", "created", "running"]
)
def test_answers(tmp_path: Path, text: str) -> None:
    lines = command_lines(text)
    theirs, ours = play(tmp_path / "runc", RUNC, lines), play(tmp_path / "sampan", SAMPAN, lines)
    different = [
        f"{' '.join(line)}\n  runc   {their}\n  sampan {our}"
        for line, their, our in zip(lines, theirs, ours, strict=True)
        if their != our
    ]
    assert not different, "\n".join(different)


NOT_OURS = {"checkpoint", "restore", "help, h"}


def test_every_command_has_every_flag() -> None:
    """`runc --help` and `runc COMMAND --help`, flag by flag."""

    def shown(*words: str) -> str:
        return subprocess.run([*RUNC, *words], capture_output=True, text=True, check=True).stdout

    top = shown("--help")
    commands = re.findall(
        r"^   (\S+(?:, \S+)?)  ", top.partition("COMMANDS:")[2].partition("GLOBAL")[0], re.M
    )
    assert len(commands) > 15
    missing = set(commands) - NOT_OURS - set(COMMANDS)
    texts = {name: shown(name, "--help") for name in set(commands) - NOT_OURS}
    for name, options in [("", GLOBAL_OPTIONS), *((name, COMMANDS[name].options) for name in texts)]:
        text = texts[name] if name else top
        theirs = re.findall(r"^   --(\S+?)(?: value)?(?:, -(\S)(?: value)?)?  ", text, re.M)
        ours = {word for option in options for word in option.names}
        missing |= {f"{name} {word}" for words in theirs for word in words if word and word not in ours}
    assert missing == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
            "unable to set hostname without a private UTS namespace",
        ),
        ({"sysctl": {"kernel.bogus": "1"}}, 'sysctl "kernel.bogus" is not in a separate kernel namespace'),
        ({"sysctl": {"vm.swappiness": "1"}}, 'sysctl "vm.swappiness" is not in a separate kernel namespace'),
    ],
    ids=["hostname", "unknown-sysctl", "the-hosts-sysctl"],
)
def test_specs_that_would_change_the_host(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    before = Path("/proc/sys/kernel/hostname").read_text()
    for name, runtime in (("runc", RUNC), ("sampan", SAMPAN)):
        directory = tmp_path / name
        directory.mkdir()
        bundle = Bundle(directory)
        bundle.spec["linux"].update(change)
        done = bundle.run(runtime=runtime)
        bundle.close()
        assert done.code == 1 and f"runc run failed: {message}" in done.err.replace("\\", "")
    assert Path("/proc/sys/kernel/hostname").read_text() == before
