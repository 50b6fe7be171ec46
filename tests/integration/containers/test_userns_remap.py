"""Containers whose users are others on the host: `--userns-remap`, through the unmodified docker CLI."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

UID, GID = 231072, 331072
RUN = ("run", "--rm", "--network", "none")


def private_etc(directory: Path) -> Path:
    """A copy of /etc with user `remapped` and its ranges: the machine's own is not the tests' to change."""
    etc = directory / "etc"
    subprocess.run(["cp", "-a", "/etc", str(etc)], check=True)
    for name in ("passwd", "group", "shadow", "gshadow"):  # the machine may have been remapped by others
        lines = (etc / name).read_text().splitlines(keepends=True)
        (etc / name).write_text("".join(line for line in lines if not line.startswith("dockremap:")))
    for name, line in (
        ("passwd", "remapped:x:4242:4343::/:/bin/false\nbare:x:4243:4343::/:/bin/false\n"),
        ("group", "remapped:x:4343:\nbare:x:4344:\n"),
    ):
        with (etc / name).open("a") as file:
            file.write(line)
    (etc / "subuid").write_text(
        f"remapped:{UID}:1000\nsomebody:500000:65536\nremapped:{UID + 100000}:64536\n"
    )
    (etc / "subgid").write_text(f"remapped:{GID}:65536\n")
    return etc


def within(etc: Path) -> tuple[str, ...]:
    """A command that executes what follows with another /etc."""
    return ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(etc))


@pytest.fixture(scope="module")
def module_engine(tmp_path_factory: pytest.TempPathFactory, busybox: bytes) -> Iterator[RunningEngine]:
    root = tmp_path_factory.mktemp("remapped")
    flags = (
        "--userns-remap",
        "remapped",
        "--add-runtime",
        "crun=/usr/bin/crun",
        "--add-runtime",
        "debian-runc=/usr/sbin/runc",
    )
    running = RunningEngine(root, flags, within(private_etc(root)))
    # Other runtimes reach the root file system by its path, as the containers' root: not beneath a directory of the tests' own.
    running.exec_root = Path("/run", f"sampan-test-{running.bridge}")
    try:
        with running.holding(busybox):
            yield running
    finally:
        shutil.rmtree(running.exec_root, ignore_errors=True)


@pytest.fixture
def engine(module_engine: RunningEngine) -> Iterator[RunningEngine]:
    yield module_engine
    module_engine.remove_everything()


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def members(archive: bytes) -> dict[str, tuple[int, int]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: (member.uid, member.gid) for member in opened}


def docker_bytes(engine: RunningEngine, *arguments: str) -> bytes:
    return subprocess.run(
        ["docker", "-H", engine.host, *arguments], capture_output=True, check=True, timeout=60
    ).stdout


def test_who_the_users_are(engine: RunningEngine) -> None:
    done = engine.docker(
        *RUN,
        "busybox",
        "sh",
        "-c",
        "cat /proc/self/uid_map /proc/self/gid_map; id -u; stat -c %u:%g / /etc/passwd",
    )
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["0", str(UID), "1000"], ["1000", str(UID + 100000), "64536"], ["0", str(GID), "65536"], ["0"], ["0:0"], ["0:0"],
    ]  # fmt: skip
    engine.docker("run", "-d", "--name", "seen", "busybox", "sleep", "1000")
    pid = json.loads(engine.docker("inspect", "seen").stdout)[0]["State"]["Pid"]
    assert owner(Path(f"/proc/{pid}")) == (UID, GID)
    engine.docker("exec", "-d", "-u", "1001:7", "seen", "sleep", "1001")
    assert str(UID + 100001) in engine.docker("top", "seen", "-eo", "pid,uid,args").stdout


def test_where_the_state_is(engine: RunningEngine) -> None:
    place = engine.data_root / f"{UID}.{GID}"
    assert owner(place) == (0, GID) and place.stat().st_mode & 0o777 == 0o710
    information = json.loads(engine.docker("info", "--format", "{{json .}}").stdout)
    assert information["DockerRootDir"] == str(place)
    assert "name=userns" in information["SecurityOptions"]


def test_standard_streams_can_be_opened_anew(engine: RunningEngine) -> None:
    done = engine.docker(*RUN, "busybox", "sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    engine.docker("run", "-d", "--name", "home", "busybox", "sleep", "1000")
    assert engine.docker("exec", "home", "sh", "-c", "echo in > /dev/stdout").stdout == "in\n"


def test_what_a_container_writes_is_on_disk_as_without(engine: RunningEngine) -> None:
    """So that copies, commits and exports need no translation."""
    engine.docker(
        "run",
        "--name",
        "writer",
        "busybox",
        "sh",
        "-c",
        "echo x > /mine; echo y > /theirs; chown 5:6 /theirs; rm /etc/group",
    )
    assert engine.docker("diff", "writer").stdout.split("\n")[:-1] == [
        "C /etc",
        "D /etc/group",
        "A /mine",
        "A /theirs",
    ]
    exported = members(docker_bytes(engine, "export", "writer"))
    assert (exported["mine"], exported["theirs"]) == ((0, 0), (5, 6))
    engine.docker("commit", "writer", "written")
    listed = engine.docker(*RUN, "written", "stat", "-c", "%u:%g", "/mine", "/theirs").stdout.split()
    assert listed == ["0:0", "5:6"]
    engine.docker("rm", "writer")
    engine.docker("rmi", "written")


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_cp(engine: RunningEngine, tmp_path: Path, running: bool) -> None:
    (tmp_path / "file").write_text("copied\n")
    engine.docker("run", "-d", "--name", "box", "-v", "kept:/kept", "busybox", "sleep", "1000")
    engine.docker("exec", "box", "sh", "-c", "echo x > /tmp/five; chown 5:6 /tmp/five; echo y > /kept/own")
    if not running:
        engine.docker("stop", "-t", "0", "box")
    for place in ("/in", "/kept/in"):
        engine.docker("cp", str(tmp_path / "file"), f"box:{place}")
    assert members(docker_bytes(engine, "cp", "box:/tmp/five", "-")) == {"five": (5, 6)}
    assert members(docker_bytes(engine, "cp", "box:/kept/own", "-")) == {"own": (0, 0)}
    if not running:
        engine.docker("start", "box")
    listed = engine.docker("exec", "box", "stat", "-c", "%u:%g", "/in", "/kept/in", "/kept/own").stdout
    assert listed.split() == ["0:0"] * 3
    assert engine.docker("exec", "box", "cat", "/in", "/kept/in").stdout == "copied\n" * 2


def test_volumes_belong_to_the_containers_root(engine: RunningEngine, tmp_path: Path) -> None:
    engine.docker(*RUN, "-v", "plain:/plain", "busybox", "touch", "/plain/made")
    data = Path(json.loads(engine.docker("volume", "inspect", "plain").stdout)[0]["Mountpoint"])
    assert owner(data) == owner(data / "made") == (UID, GID)
    engine.docker(*RUN, "-v", "filled:/etc", "busybox", "true")
    data = Path(json.loads(engine.docker("volume", "inspect", "filled").stdout)[0]["Mountpoint"])
    assert owner(data / "passwd") == (UID, GID)
    engine.docker(*RUN, "-v", f"{tmp_path}/new/deep:/bound", "busybox", "touch", "/bound/made")
    assert owner(tmp_path / "new") == owner(tmp_path / "new/deep/made") == (UID, GID)
    done = engine.docker(
        *RUN,
        "-v",
        "/etc/hostname:/seen:ro",
        "--tmpfs",
        "/fast",
        "busybox",
        "sh",
        "-c",
        "stat -c %u /seen; touch /fast/x",
    )
    assert done.stdout == "65534\n"  # the host's root is nobody in there
    shutil.rmtree(tmp_path / "new")


def test_network_and_ports(engine: RunningEngine) -> None:
    script = "mkdir /www; echo welcome > /www/i; exec httpd -f -p 80 -h /www"
    engine.docker("network", "create", "net")
    engine.docker("run", "-d", "--name", "web", "--network", "net", "busybox", "sh", "-c", script)
    fetch = "until wget -q -O - http://web/i; do sleep 0.1; done; ping -c 1 web | grep -c ' 0% packet loss'"
    done = engine.docker("run", "--rm", "--network", "net", "busybox", "sh", "-c", fetch)
    assert done.stdout.split() == ["welcome", "1"]


def test_namespaces_of_another_container(engine: RunningEngine) -> None:
    """Who shares them is in the user namespace that owns them: its root may do there what root may."""
    shareable = ("--ipc", "shareable", "--cap-add", "NET_ADMIN")
    engine.docker("run", "-d", "--name", "donor", *shareable, "busybox", "sleep", "1000")
    theirs = engine.docker("exec", "donor", "readlink", "/proc/self/ns/user").stdout
    look = "readlink /proc/self/ns/user; id -u; ls /sys >/dev/null; touch /x"
    for flag in ("--network", "--ipc", "--pid"):
        done = engine.docker("run", "--rm", flag, "container:donor", "busybox", "sh", "-c", look)
        assert done.stdout == theirs + "0\n", (flag, done.stderr)
    script = "ip link set lo mtu 9000 && ip link show lo | grep -o 'mtu 9000'; ping -c 1 127.0.0.1 | grep -c ' 0% packet loss'"
    flags = ("--network", "container:donor", "--cap-add", "NET_ADMIN")
    assert engine.docker("run", "--rm", *flags, "busybox", "sh", "-c", script).stdout == "mtu 9000\n1\n"
    both = ("--network", "container:donor", "--pid", "container:donor")
    engine.docker("run", "-d", "--name", "guest", *both, "busybox", "sleep", "1001")
    assert engine.docker("exec", "guest", "readlink", "/proc/self/ns/user").stdout == theirs
    pid = int(json.loads(engine.docker("inspect", "guest").stdout)[0]["State"]["Pid"])
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
    assert not [
        child for child in children if Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0] == "Z"
    ]
    engine.docker("rm", "-f", "guest")
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("runtime", ["debian-runc", "crun"])
def test_another_runtime(engine: RunningEngine, runtime: str) -> None:
    script = "mkdir /www; echo welcome > /www/i; echo x > /kept/x; echo up > /dev/stderr; exec httpd -f -p 80 -h /www"
    flags = ("--runtime", runtime, "--name", "box", "-v", "kept:/kept", "-p", "127.0.0.1::80")
    engine.docker("run", "-d", *flags, "busybox", "sh", "-c", script)
    fetch = "until wget -q -O - http://127.0.0.1/i; do sleep 0.1; done; stat -c %u:%g / /kept/x; head -n 1 /proc/self/uid_map"
    done = engine.docker("exec", "box", "sh", "-c", fetch)
    assert done.stdout.split() == ["welcome", "0:0", "0:0", "0", str(UID), "1000"]
    assert engine.docker("logs", "box").stderr == "up\n"
    assert (
        engine.docker("exec", "-u", "5:6", "box", "sh", "-c", "id -u; echo > /dev/stdout").stdout == "5\n\n"
    )
    assert members(docker_bytes(engine, "cp", "box:/www/i", "-")) == {"i": (0, 0)}
    pid = json.loads(engine.docker("inspect", "box").stdout)[0]["State"]["Pid"]
    assert owner(Path(f"/proc/{pid}")) == (UID, GID)
    engine.docker("restart", "-t", "0", "box")
    theirs = engine.docker("exec", "box", "readlink", "/proc/self/ns/user").stdout
    shared = ("--runtime", runtime, "--network", "container:box", "busybox", "sh", "-c")
    done = engine.docker("run", "--rm", *shared, "readlink /proc/self/ns/user; ls /sys > /dev/null; id -u")
    assert done.stdout == theirs + "0\n"


def test_restart_after_a_crash(engine: RunningEngine) -> None:
    engine.docker("run", "-d", "--name", "steady", "busybox", "sleep", "1000")
    engine.kill()
    engine.start()
    assert engine.docker("exec", "steady", "cat", "/proc/self/uid_map").stdout.split()[1] == str(UID)
    engine.docker("restart", "-t", "0", "steady")
    assert engine.docker("exec", "steady", "id", "-u").stdout == "0\n"


def test_the_hosts_user_namespace(engine: RunningEngine) -> None:
    done = engine.docker(*RUN, "--userns", "host", "busybox", "cat", "/proc/self/uid_map")
    assert done.stdout.split() == ["0", "0", "4294967295"]
    done = engine.docker(
        *RUN, "--userns", "host", "--privileged", "busybox", "sh", "-c", "mknod /n c 1 3 && stat -c %u /n"
    )
    assert done.stdout == "0\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--privileged",), "privileged mode is incompatible with user namespaces.  You must run the container"),
        (("--network", "host"), "cannot share the host's network namespace when user namespaces are enabled"),
        (("--pid", "host"), "cannot share the host PID namespace when user namespaces are enabled"),
    ],
    ids=["privileged", "network", "pid"],
)  # fmt: skip
def test_what_cannot_be(engine: RunningEngine, flags: tuple[str, ...], message: str) -> None:
    done = engine.docker("run", "--rm", *flags, "busybox", "true", check=False)
    assert done.returncode == 125 and message in done.stderr


def test_root_in_there_is_nobody_out_here(engine: RunningEngine, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    done = engine.docker(
        *RUN, "-v", f"{tmp_path}:/host", "busybox", "sh", "-c", "cat /host/secret; touch /host/x", check=False
    )
    assert done.returncode != 0 and done.stdout == ""
    assert sorted(os.listdir(tmp_path)) == ["secret"]


# --- choosing a user


def resolved(etc: Path, setting: str) -> subprocess.CompletedProcess[str]:
    script = "import sys, json; from sampan.engine.userns import remapping; print(json.dumps(remapping(sys.argv[1])))"
    return subprocess.run(
        [*within(etc), sys.executable, "-c", script, setting],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("setting", ["remapped", "4242:remapped", "4242:4343", "remapped:4343"])
def test_the_ways_to_say_it(tmp_path: Path, setting: str) -> None:
    uids, gids = json.loads(resolved(private_etc(tmp_path), setting).stdout)
    assert [entry["hostID"] for entry in uids] == [UID, UID + 100000]
    assert [entry["containerID"] for entry in uids] == [0, 1000]
    assert gids == [{"containerID": 0, "hostID": GID, "size": 65536}]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("a:b:c", 'Invalid user/group specification in --userns-remap: "a:b:c"'),
        ("nobody-here", 'Error during uid lookup for "nobody-here"'),
        ("987654", "Uid 987654 has no entry in /etc/passwd"),
        ("remapped:nobody-here", 'Error during groupname lookup for "nobody-here"'),
        ("4242", "Gid 4242 has no entry in /etc/group"),
        ("bare", 'Can\'t create ID mappings: no subuid ranges found for user "bare" in /etc/subuid'),
    ],
)
def test_mistakes_in_saying_it(tmp_path: Path, setting: str, message: str) -> None:
    done = resolved(private_etc(tmp_path), setting)
    assert done.returncode != 0 and message in done.stderr


def test_default_makes_the_user_and_its_ranges(tmp_path: Path) -> None:
    etc = private_etc(tmp_path)
    uids, gids = json.loads(resolved(etc, "default").stdout)
    assert "dockremap:x:" in (etc / "passwd").read_text() and "dockremap:x:" in (etc / "group").read_text()
    first = UID + 100000 + 64536  # after everybody's
    assert max(first, 565536) == uids[0]["hostID"] and uids[0]["size"] == gids[0]["size"] == 65536
    assert json.loads(resolved(etc, "default").stdout) == [uids, gids]
    assert "dockremap" not in Path("/etc/passwd").read_text()


def test_root_stays_root(tmp_path: Path, make_engine: Callable[..., RunningEngine]) -> None:
    own = make_engine("--userns-remap", "root:root")
    assert own.docker(*RUN, "busybox", "cat", "/proc/self/uid_map").stdout.split() == ["0", "0", "4294967295"]
