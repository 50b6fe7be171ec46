"""What the runtime specification asks for and runc 1.1 does not have, or what only our own interface shows."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from oci_bundle import Bundle, add_namespace
from sampan.linux import sockets
from sampan.runtime.container.stub import prefork, prefork_for, prefork_join
from sampan.runtime.interface import LaunchError

pytestmark = pytest.mark.root


def test_user_namespace_maps_root_away(bundle: Bundle) -> None:
    bundle.path.parent.chmod(0o755)
    for directory in (bundle.rootfs, *bundle.rootfs.iterdir()):
        os.chown(directory, 100000, 100000)
    add_namespace(bundle.spec, "user")
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    bundle.spec["linux"]["uidMappings"] = mapping
    bundle.spec["linux"]["gidMappings"] = mapping
    result = bundle.script(
        "id -u; cut -c1-40 /proc/self/uid_map; echo x > /dev/null; stat -c %u /bin/busybox; ls /dev"
    ).run()
    assert result.code == 0, result.err
    lines = result.out.split()
    assert lines[:4] == ["0", "0", "100000", "65536"]
    assert lines[4] == "65534", "a file of the host's root belongs to nobody inside"
    assert "null" in lines


def test_a_user_namespace_by_path(bundle: Bundle) -> None:
    """What is made beside it belongs to it: the container can mount there, and shares the network with all rights."""
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.chown(path, 100000, 100000, follow_symlinks=False)
    bundle.path.parent.chmod(0o755)
    add_namespace(bundle.spec, "user")
    bundle.spec["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    donor = bundle.pid(bundle.script("sleep 1000").start())
    for namespace in bundle.spec["linux"]["namespaces"]:
        if namespace["type"] in ("user", "network"):
            namespace["path"] = f"/proc/{donor}/ns/{namespace['type'].replace('network', 'net')}"
    look = "readlink /proc/self/ns/user; id -u; grep -c sysfs /proc/mounts; ls /proc | grep -c '^1$'"
    done = bundle.script(look).run()
    assert done.out.split() == [os.readlink(f"/proc/{donor}/ns/user"), "0", "1", "1"], done.err


def test_time_namespace_shifts_the_clock_since_boot(bundle: Bundle) -> None:
    add_namespace(bundle.spec, "time")
    bundle.spec["linux"]["timeOffsets"] = {"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 5}}
    result = bundle.script("cut -d. -f1 /proc/uptime").run()
    assert result.code == 0, result.err
    host = float(Path("/proc/uptime").read_text().split()[0])
    assert 1_000_000 <= int(result.out) <= 1_000_000 + host + 5


def test_domainname(bundle: Bundle) -> None:
    bundle.spec["domainname"] = "example.org"
    assert bundle.script("cat /proc/sys/kernel/domainname").run().out == "example.org\n"


def test_joining_namespaces_by_path(bundle: Bundle, tmp_path: Path) -> None:
    bundle.script("sleep 100")
    pid = bundle.pid(bundle.start())
    other = Bundle(tmp_path / "other")
    try:
        for kind, name in (("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")):
            add_namespace(other.spec, kind, path=f"/proc/{pid}/ns/{name}")
        other.spec["hostname"] = ""
        links = " ".join(f"/proc/self/ns/{name}" for name in ("net", "ipc", "uts", "pid"))
        result = other.script(
            f"for f in {links}; do readlink $f; done; hostname; ls /proc | grep -c '^1$'"
        ).run()
    finally:
        other.close()
    assert result.code == 0, result.err
    wanted = [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("net", "ipc", "uts", "pid")]
    assert result.out.split() == [*wanted, "boxed", "1"]


def test_tmpcopyup_begins_with_the_images_files(bundle: Bundle) -> None:
    data = bundle.rootfs / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub/file").write_text("from the image")
    os.chown(data / "sub/file", 12, 34)
    (data / "link").symlink_to("sub/file")
    bundle.mount("/data", type="tmpfs", source="tmpfs", options=["nosuid", "tmpcopyup"])
    result = bundle.script("cat /data/link; stat -c ' %u %g' /data/sub/file; echo new > /data/sub/file").run()
    assert result.out == "from the image 12 34\n", result.err
    assert (data / "sub/file").read_text() == "from the image"


def test_recursive_read_only_bind(bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    bundle.mount("/outer", type="tmpfs", source="tmpfs", options=["size=1m"])
    bundle.mount("/ro", type="bind", source="/dev", options=["rbind", "rro"])
    result = bundle.script("touch /outer/x; touch /ro/shm/x; touch /ro/x").run()
    assert result.err.count("Read-only file system") == 2


def test_missing_working_directory_is_made(bundle: Bundle) -> None:
    bundle.spec["process"]["cwd"] = "/srv/deep/down"
    assert bundle.script("pwd").run().out == "/srv/deep/down\n"


def test_hooks_run_in_order_with_the_state_on_stdin(bundle: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "log"
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\necho "$1 $(cat)" >> {log}\n')
    hook.chmod(0o755)
    inside = bundle.rootfs / "hook"
    inside.write_text("#!/bin/sh\necho $1 >> /started\n")
    inside.chmod(0o755)
    moments = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    bundle.spec["hooks"] = {name: [{"path": str(hook), "args": ["hook", name]}] for name in moments}
    bundle.spec["hooks"]["startContainer"] = [{"path": "/hook", "args": ["hook", "startContainer"]}]
    result = bundle.script("cat /started").run()
    assert result.out == "startContainer\n", result.err
    entries = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [name for name, _ in entries] == list(moments)
    states = {name: json.loads(text) for name, text in entries}
    assert states["prestart"]["status"] == "creating"
    assert states["poststop"]["status"] == "stopped"
    assert states["prestart"]["pid"] > 0


def test_a_failing_hook_stops_the_container(bundle: Bundle) -> None:
    bundle.spec["hooks"] = {
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo broken >&2; exit 3"]}]
    }
    result = bundle.run()
    assert result.code == 1
    assert "createRuntime hook #0: exit status 3, output: broken" in result.err


def test_a_hook_beyond_its_timeout_is_killed(bundle: Bundle) -> None:
    bundle.spec["hooks"] = {"prestart": [{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}]}
    result = bundle.run()
    assert "timeout of 1s" in result.err


def test_terminal_through_a_console_socket(bundle: Bundle, tmp_path: Path) -> None:
    bundle.spec["process"]["terminal"] = True
    bundle.spec["process"]["consoleSize"] = {"height": 33, "width": 77}
    bundle.script("tty; stty size; stat -c %F /dev/console; read line; echo got $line")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = tmp_path / "c"
    listener.bind(str(path))
    listener.listen()
    name, created = bundle.create("--console-socket", str(path))
    assert created.code == 0, created.err
    connection = listener.accept()[0]
    _, (master,), _, _ = socket.recv_fds(connection, 100, 1)
    bundle.command("start", name)
    os.write(master, b"hello\n")
    text = b""
    try:
        while part := os.read(master, 4096):
            text += part
    except OSError:  # EIO: the last slave was closed
        pass
    os.close(master)
    connection.close()
    listener.close()
    lines = text.decode().splitlines()
    assert lines[0] == "/dev/pts/0"
    assert "33 77" in lines
    assert "character special file" in lines
    assert lines[-1] == "got hello"


def test_preserved_descriptors(bundle: Bundle, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    bundle.script("echo through >&3; ls /proc/self/fd | sort -n | tr '\\n' ' '")
    target = 3 if writing != 3 else writing
    result = bundle.run("--preserve-fds", "1", pass_fds=(target,), preexec_fn=lambda: os.dup2(writing, 3))
    os.close(writing)
    assert os.read(reading, 100) == b"through\n", result.err
    os.close(reading)


def test_no_pivot(bundle: Bundle) -> None:
    result = bundle.script("ls / | sort | head -1; ls /..; test ! -e /proc/self/root/../work").run(
        "--no-pivot"
    )
    assert result.code == 0, result.err
    assert result.out.splitlines()[0] == "bin"


def test_seccomp_profile_is_in_force(bundle: Bundle) -> None:
    bundle.spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    for no_new_privileges in (False, True):
        bundle.spec["process"]["noNewPrivileges"] = no_new_privileges
        result = bundle.script(
            "grep Seccomp: /proc/self/status; grep CapEff /proc/self/status; mkdir /x"
        ).run()
        assert result.out.split() == ["Seccomp:", "2", "CapEff:", "00000000a80425fb"]
        assert "not supported" in result.err


@pytest.mark.parametrize(
    ("section", "value", "word"),
    [
        ("intelRdt", {"closID": "x"}, "intelRdt"),
        ("memoryPolicy", {"mode": "MPOL_BIND"}, "memoryPolicy"),
        ("netDevices", {"eth0": {}}, "netDevices"),
        ("mountLabel", "system_u:object_r:x", "SELinux"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    bundle: Bundle, section: str, value: object, word: str
) -> None:
    bundle.spec["linux"][section] = value
    result = bundle.run()
    assert result.code == 1
    assert word in result.err


def test_a_stub_cloned_ahead_becomes_any_container(bundle: Bundle) -> None:
    """The shim's way: clone first, learn the spec later; streams are descriptors, errors are typed."""
    reading, writing = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    stub = prefork({"pid", "mount", "uts", "ipc", "network"})
    try:
        bundle.script("id -u; id -G; echo $HOME; hostname")
        (bundle.rootfs / "etc/passwd").write_text("web:x:33:34::/srv:/bin/sh\n")
        (bundle.rootfs / "etc/group").write_text("web:x:34:\nlogs:x:40:web\nextra:x:41:\n")
        del bundle.spec["mounts"][4]  # the cgroup mount needs a cgroup
        stub.configure(
            {
                "id": "ahead", "spec": bundle.spec, "bundle": str(bundle.path), "user": "web", "groups": ["extra"],
                "rootfs": [{"destination": "/", "type": "bind", "source": str(bundle.rootfs), "options": ["rbind"]}],
            },
            stdio=(null, writing, writing),
        )  # fmt: skip
        os.close(writing)
        stub.start()
        assert os.waitpid(stub.pid, 0)[1] == 0
        assert os.read(reading, 1000) == b"33\n34 40 41\n/srv\nboxed\n"
    finally:
        stub.close()
        os.close(reading)
        os.close(null)


def test_overlay_with_many_layers_is_mounted_in_the_container_only(bundle: Bundle, tmp_path: Path) -> None:
    layers = []
    for number in range(60):
        layer = tmp_path / f"a-long-name-so-that-no-string-of-fsconfig-holds-them-all-{number}"
        layer.mkdir()
        (layer / f"from-{number}").touch()
        layers.append(str(layer))
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    lower = ":".join([*layers, str(bundle.rootfs)])
    overlay = {
        "destination": "/", "type": "overlay", "source": "overlay",
        "options": [f"lowerdir={lower}", f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work"],
    }  # fmt: skip
    bundle.script("ls / | grep -c from-; touch /made")
    del bundle.spec["mounts"][4]
    reading, writing = os.pipe()
    stub = prefork_for(bundle.spec)
    before = Path("/proc/self/mountinfo").read_text()
    stub.configure(
        {"id": "o", "spec": bundle.spec, "bundle": str(bundle.path), "rootfs": [overlay]},
        stdio=(writing, writing, writing),
    )
    assert Path("/proc/self/mountinfo").read_text() == before
    stub.start()
    os.waitpid(stub.pid, 0)
    stub.close()
    os.close(writing)
    assert os.read(reading, 100) == b"60\n"
    os.close(reading)
    assert (tmp_path / "upper/made").exists()


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["nope"], "not-found"),
        (["/etc"], "permission"),
        (["/bin/text"], "format"),
        (["/bin/lost"], "not-found"),
    ],
)
def test_kinds_of_failure(bundle: Bundle, arguments: list[str], kind: str) -> None:
    for name, text in (("text", "no program\n"), ("lost", "#!/bin/missing\n")):
        (bundle.rootfs / "bin" / name).write_text(text)
        (bundle.rootfs / "bin" / name).chmod(0o755)
    bundle.spec["process"]["args"] = arguments
    del bundle.spec["mounts"][4]
    null = os.open("/dev/null", os.O_RDWR)
    stub = prefork_for(bundle.spec)
    try:
        with pytest.raises(LaunchError) as caught:
            stub.configure(
                {"id": "f", "spec": bundle.spec, "bundle": str(bundle.path)}, stdio=(null, null, null)
            )
            stub.start()
    finally:
        os.waitpid(stub.pid, 0)
        stub.close()
        os.close(null)
    assert caught.value.kind == kind
    if arguments == ["/bin/lost"]:
        assert "/bin/missing" in str(caught.value)


def test_a_stub_whose_parent_goes_away_ends() -> None:
    stub = prefork({"pid", "mount"})
    stub.close()
    assert os.waitpid(stub.pid, 0)[0] == stub.pid


def test_join_of_a_process_that_is_gone() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    with pytest.raises(LaunchError):
        prefork_join(pid)


def test_the_message_socket_carries_specs_of_any_size(bundle: Bundle) -> None:
    bundle.spec["process"]["env"] += [f"LONG{number}={'x' * 1000}" for number in range(300)]
    result = bundle.script("env | grep -c LONG").run()
    assert result.out == "300\n", result.err
    assert sockets.MAX_DESCRIPTORS >= 200
