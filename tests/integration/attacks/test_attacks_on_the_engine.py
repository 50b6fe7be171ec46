"""Attacks on what the engine gives to a container beside its files: descriptors, environment, ids, capabilities, sockets; and
on what it keeps on the host.

Each docstring names, after "Red when", the line without which the test fails.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from busybox_image import BUSYBOX, busybox_archive
from image_archives import Member, member
from running_engine import RunningEngine

pytestmark = pytest.mark.root

RUN = ("run", "--rm", "--network", "none")
_DESCRIPTORS = (*range(3, 24), 64, 65, 66, 67)


# --- what a process inherits ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def careless_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """An engine whose starter left it a secret in the environment, an open file, and a directory of the host as its own."""
    root = tmp_path_factory.mktemp("careless")
    (root / "host").mkdir()
    (root / "host" / "secret").write_text("the host's secret")
    running = RunningEngine(root)
    before, descriptor = os.getcwd(), os.open(root / "host" / "secret", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    os.environ["SAMPAN_SECRET_OF_THE_HOST"] = "the host's secret"
    os.chdir(root / "host")
    try:
        running.start()
        with running.client() as client:
            client.images.load(busybox_archive())
        yield running
    finally:
        os.chdir(before)
        del os.environ["SAMPAN_SECRET_OF_THE_HOST"]
        os.close(descriptor)
        running.close()


@pytest.mark.parametrize("how", ["run", "exec", "init", "health"])
def test_neither_descriptors_nor_environment_nor_directory_leak(
    careless_engine: RunningEngine, how: str
) -> None:
    """CVE-2024-21626, CVE-2016-9962: what the engine has open, knows and stands in stays the engine's.

    Red when `program.execute` adds `os.environ`, and when `Departure.leave` leaves `close_range` out while
    `stubmain.main` leaves `close_all_except` out (either is enough).
    """
    engine = careless_engine
    look = (
        "pwd; env; for p in self 1; do cat /proc/$p/environ; ls -l /proc/$p/fd; readlink /proc/$p/cwd; done"
    )
    name = f"leak-{how}"
    if how == "run":
        output = engine.docker(*RUN, "busybox", "sh", "-c", look).stdout
    elif how == "init":
        output = engine.docker(*RUN, "--init", "busybox", "sh", "-c", look, check=False).stdout
    elif how == "exec":
        engine.docker("run", "-d", "--network", "none", "--name", name, "busybox", "sleep", "1000")
        output = engine.docker("exec", name, "sh", "-c", look).stdout
    else:
        health = ("--health-cmd", look + "; touch /probed", "--health-interval", "100ms")
        wait = "while ! [ -e /probed ]; do sleep 0.05; done"
        engine.docker("run", "--network", "none", "--name", name, *health, "busybox", "sh", "-c", wait)
        output = engine.docker("inspect", "-f", "{{json .State.Health.Log}}", name).stdout
    engine.docker("rm", "-f", name, check=False)
    assert "PATH=" in output
    lowered = output.lower()
    assert "secret" not in lowered and "sampan" not in lowered
    targets = [line.rpartition(" -> ")[2] for line in output.splitlines() if " -> " in line]
    assert all(target.startswith(("/dev/", "pipe:", "/proc/")) for target in targets), targets


def test_working_directory_through_a_descriptor_of_the_engines(
    engine: RunningEngine, hostile_image: Callable[..., str]
) -> None:
    """CVE-2024-21626: `WORKDIR /proc/self/fd/N`, and by links of the image's, in `run -w`, in the image, and in `exec -w`.

    Red when `Departure._enter_directory` does `os.chdir(cwd)` and `_check_directory` is left out, while a descriptor of the
    host's root is open in the stub (`os.open("/", os.O_PATH)` in `stubmain.main`, after `close_all_except`).
    """
    links = [member(f"way{number}", tarfile.SYMTYPE, f"/proc/self/fd/{number}") for number in _DESCRIPTORS]
    image = hostile_image(links)
    marks = [
        name
        for name in os.listdir("/")
        if name not in ("proc", "sys", "dev", "etc", "bin", "root", "tmp", "var")
    ]
    for number in (3, 7, 8, 9, 64, 65, 66, 67):
        for path in (f"/proc/self/fd/{number}", f"/proc/self/fd/{number}/../..", f"/way{number}"):
            done = engine.docker(*RUN, "-w", path, image, "ls", check=False)
            assert not set(done.stdout.split()) & set(marks), path
            assert done.returncode != 0 or ".." in path, path
    in_image = hostile_image(links, {"WorkingDir": "/proc/self/fd/7/../../.."})
    assert not set(engine.docker(*RUN, in_image, "ls", check=False).stdout.split()) & set(marks)
    engine.docker("run", "-d", "--network", "none", "--name", "evil", image, "sleep", "1000")
    with engine.client() as client:
        evil = client.containers.get("evil")
        for number in _DESCRIPTORS:
            for path in (
                f"/proc/self/fd/{number}",
                f"/proc/1/fd/{number}/..",
                f"/way{number}",
                f"/way{number}/../..",
            ):
                try:
                    done_inside = evil.exec(["ls"], workdir=path)
                except Exception as error:
                    assert "OCI runtime exec failed" in str(error)
                    continue
                assert done_inside.exit_code != 0 or not set(done_inside.stdout.decode().split()) & set(
                    marks
                ), path


@pytest.mark.parametrize("shape", ["program", "shebang", "link", "entrypoint"])
def test_proc_self_exe_as_the_program(
    engine: RunningEngine, hostile_image: Callable[..., str], shape: str
) -> None:
    """CVE-2019-5736: have the runtime execute itself in the container, by `run` and by `exec`.

    Red when `program.execute` runs the path unchecked while the stub is the host's interpreter: /proc/self/exe is Python then.
    """
    script = tarfile.TarInfo("bin/script")
    script.mode = 0o755
    image = hostile_image(
        [(script, b"#!/proc/self/exe\n"), member("bin/link", tarfile.SYMTYPE, "/proc/self/exe")]
    )
    program = {
        "program": "/proc/self/exe",
        "shebang": "script",
        "link": "link",
        "entrypoint": "/proc/self/exe",
    }[shape]
    arguments = ("-c", "print('host python')")
    if shape == "entrypoint":
        done = engine.docker(*RUN, "--entrypoint", program, image, *arguments, check=False)
    else:
        done = engine.docker(*RUN, image, program, *arguments, check=False)
    assert done.returncode != 0 and "host python" not in done.stdout
    engine.docker("run", "-d", "--network", "none", "--name", "evil", image, "sleep", "1000")
    done = engine.docker("exec", "evil", program, *arguments, check=False)
    assert done.returncode != 0 and "host python" not in done.stdout


@pytest.mark.parametrize("capability", ["", "SYS_PTRACE"])
def test_our_own_process_in_a_container_gives_nothing_away(engine: RunningEngine, capability: str) -> None:
    """CVE-2016-9962, CVE-2019-5736: with `--init` process 1 is Sampan's. It can be neither read nor traced nor, by who may
    trace, used to write to the host's interpreter.

    Red when `stub._clone` and `zygote.server` leave `set_dumpable(False)` out (without SYS_PTRACE; either is enough), and when
    `zygote.client.protected_interpreter` sets no MOUNT_ATTR_RDONLY (with it).
    """
    python = Path(os.path.realpath(sys.executable))
    before = hashlib.sha256(python.read_bytes()).digest()
    look = (
        "cat /proc/1/comm; for f in exe root cwd fd/0 fd/3 ns/mnt; do readlink /proc/1/$f && echo read-$f; done;"
        " ls /proc/1/fd; cat /proc/1/environ | grep -a -i -e secret -e sampan; (echo x > /proc/1/mem) && echo wrote-mem;"
        " (: > /proc/1/exe) && echo wrote-exe; ls /proc/1/root/ | grep -x -e srv -e lib64"
    )
    options = ("--cap-add", capability) if capability else ()
    done = engine.docker(*RUN, "--init", *options, "busybox", "sh", "-c", look, check=False)
    words = done.stdout.split()
    assert words[0] == "docker-init"
    assert not {"wrote-exe", "srv", "lib64"} & set(words)
    assert str(python) not in done.stdout
    if capability:
        assert "Read-only file system" in done.stderr
    else:
        assert words == ["docker-init"] and done.stderr.count("Permission denied") >= 4
    assert hashlib.sha256(python.read_bytes()).digest() == before


# --- ids and capabilities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "user", ["2147483648", "4294967295", "4294967296", "18446744073709551616", "0:4294967296", "-1"]
)
def test_ids_that_wrap_around_to_root(
    engine: RunningEngine, hostile_image: Callable[..., str], user: str
) -> None:
    """CVE-2024-40635: a user beyond 2**31-1 of an image, of `run -u` and of `exec -u` became root.

    Red when `users._check_range` returns at once.
    """
    passwd = (
        f"evil:x:{user.partition(':')[0]}:{user.rpartition(':')[2]}::/:/bin/sh\nroot:x:0:0::/root:/bin/sh\n"
    )
    for members, chosen in (([], user), ([(tarfile.TarInfo("etc/passwd"), passwd.encode())], "evil")):
        image = hostile_image(members, {"User": chosen})
        for arguments in ((), ("-u", chosen)):
            done = engine.docker(*RUN, *arguments, image, "id", "-u", check=False)
            assert done.returncode != 0 and done.stdout == "", (arguments, done.stdout)
    engine.docker("run", "-d", "--network", "none", "--name", "evil", "busybox", "sleep", "1000")
    done = engine.docker("exec", "-u", user, "evil", "id", "-u", check=False)
    assert done.returncode != 0 and done.stdout == ""


def test_the_primary_group_is_among_the_groups(
    engine: RunningEngine, hostile_image: Callable[..., str]
) -> None:
    """CVE-2022-36109: a file that denies a group let its members in, once they had left their primary group.

    Red when `users.resolve` leaves `gid` out of `additional`.
    """
    image = hostile_image([], {"User": "1000:10"})
    assert "10" in engine.docker(*RUN, image, "grep", "Groups", "/proc/self/status").stdout.split()
    engine.docker("run", "-d", "--network", "none", "--name", "evil", image, "sleep", "1000")
    for user in ("1000:10", "nobody", "nobody:10"):
        groups = engine.docker(
            "exec", "-u", user, "evil", "sh", "-c", "id -g; grep Groups /proc/self/status"
        ).stdout.split()
        assert groups[0] in groups[2:], user


def test_the_engines_own_groups_do_not_come_along(busybox: bytes, tmp_path: Path) -> None:
    """CVE-2022-36109's kin: an engine that was started by a member of a group hands that to no container.

    Red when `credentials.Credentials.become_user` leaves `os.setgroups` out.
    """
    engine = RunningEngine(tmp_path / "engine")
    own = os.getgroups()
    os.setgroups([*own, 4242])
    try:
        engine.start()
    finally:
        os.setgroups(own)
    try:
        with engine.client() as client:
            client.images.load(busybox)
        for user in ("root", "nobody", "1000:1000"):
            done = engine.docker(*RUN, "-u", user, "busybox", "grep", "Groups", "/proc/self/status")
            assert "4242" not in done.stdout.split()
    finally:
        engine.close()


@pytest.mark.parametrize("how", ["run", "exec", "exec-privileged"])
def test_no_capability_is_inheritable(
    engine: RunningEngine, hostile_image: Callable[..., str], how: str
) -> None:
    """CVE-2022-24769, CVE-2022-29162: a program with inheritable file capabilities got them from an ordinary user's process.

    Red when `spec.capability_sets` has `"inheritable": granted` (root), and `Credentials.bound_only` keeps it (others).
    """
    image = hostile_image([_capable_program()])
    look = ("/opt/grep", "-E", "Cap(Inh|Prm|Eff)", "/proc/self/status")
    if how == "run":
        done = engine.docker(*RUN, "-u", "1000", image, *look)
    else:
        engine.docker("run", "-d", "--network", "none", "--name", "evil", image, "sleep", "1000")
        options = ("--privileged",) if how == "exec-privileged" else ()
        done = engine.docker("exec", *options, "-u", "1000", "evil", *look)
    assert {int(value, 16) for value in done.stdout.split()[1::2]} == {0}
    look = ("grep", "-E", "CapInh", "/proc/self/status")
    as_root = (*RUN, image, *look) if how == "run" else ("exec", *options, "evil", *look)
    assert int(engine.docker(*as_root).stdout.split()[1], 16) == 0


def _capable_program() -> Member:
    """grep with every capability Docker gives, inheritable and effective (VFS_CAP_REVISION_2, linux/capability.h)."""
    info = tarfile.TarInfo("opt/grep")
    info.mode = 0o755
    capabilities = struct.pack("<IIIII", 0x02000001, 0, 0xA80425FB, 0, 0)
    info.pax_headers = {"SCHILY.xattr.security.capability": capabilities.decode("utf-8", "surrogateescape")}
    return info, BUSYBOX.read_bytes()


@pytest.mark.parametrize("trap", ["fifo", "link", "device", "huge"])
def test_user_files_that_are_traps(
    engine: RunningEngine, hostile_image: Callable[..., str], host_directory: Path, trap: str
) -> None:
    """CVE-2019-14271's kin: the engine reads the image's passwd. It must not wait on a fifo nor read the host's files.

    Red when `users.read_lines` opens without O_NONBLOCK (fifo), and when `open_in_root` leaves RESOLVE_IN_ROOT out (link).
    """
    (host_directory / "passwd").write_text("web:x:33:33::/:/bin/sh\n")
    device = tarfile.TarInfo("etc/passwd")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 5
    files: dict[str, Member] = {
        "fifo": member("etc/passwd", tarfile.FIFOTYPE),
        "link": member("etc/passwd", tarfile.SYMTYPE, str(host_directory / "passwd")),
        "device": (device, b""),
        "huge": (tarfile.TarInfo("etc/passwd"), b":" * (17 << 20)),
    }
    image = hostile_image([files[trap]])
    done = engine.docker(*RUN, "-u", "web", image, "id", check=False, timeout=30)
    assert done.returncode == 125 and "unable to find user web" in done.stderr
    engine.docker("run", "-d", "--network", "none", "--name", "evil", image, "sleep", "1000")
    done = engine.docker("exec", "-u", "web", "evil", "id", check=False, timeout=30)
    assert done.returncode != 0 and "unable to find user web" in done.stderr


# --- what the host keeps --------------------------------------------------------------------------------------------------


def test_no_socket_of_ours_is_in_the_abstract(engine: RunningEngine) -> None:
    """CVE-2020-15257: an abstract socket of the shim was open to every container in the host's network.

    Red when a shim binds its socket to "\\0" and its path.
    """
    engine.docker("run", "-d", "--network", "none", "--name", "other", "busybox", "sleep", "1000")
    script = "awk '{print $8}' /proc/net/unix"
    names = engine.docker("run", "--rm", "--network", "host", "busybox", "sh", "-c", script).stdout.split()
    ours = [name for name in names if str(engine.exec_root) in name or name.endswith("shim.sock")]
    assert ours, "paths are seen, which is no harm: they lead to nothing in a container"
    assert not [name for name in ours if name.startswith("@")]
    sockets = [path for path in engine.exec_root.rglob("*") if path.is_socket()]
    sockets.remove(engine.exec_root / "buildkit.sock")  # the builder's own door, as guarded as the engine's
    assert (engine.exec_root / "buildkit.sock").stat().st_mode & 0o007 == 0
    assert sockets and all(path.stat().st_mode & 0o777 == 0o600 for path in sockets)
    assert engine.socket.stat().st_mode & 0o007 == 0


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that everybody on the host may enter, as /var/lib."""
    directory = Path(tempfile.mkdtemp(prefix="sampan-attacks-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("made_before", [False, True], ids=["new", "made-before"])
def test_others_on_the_host_reach_nothing(busybox: bytes, open_place: Path, made_before: bool) -> None:
    """CVE-2021-41091: a user of the host executed set-id programs out of containers' directories, and read their files.

    Red when `engine._make_directories` leaves its `chmod` out.
    """
    engine = RunningEngine(open_place)
    if made_before:
        engine.data_root.mkdir(mode=0o755)
        engine.data_root.chmod(0o755)
    engine.start()
    try:
        with engine.client() as client:
            client.images.load(busybox)
        script = "cp /bin/busybox /evil; chmod 4755 /evil; chmod -R a+rwX /; sleep 1000"
        engine.docker(
            "run",
            "-d",
            "--name",
            "evil",
            "-e",
            "PASSWORD=secret",
            "-v",
            "data:/v",
            "busybox",
            "sh",
            "-c",
            script,
        )
        places = [
            engine.data_root / "volumes/data/_data",
            engine.data_root / "sampan.db",
            engine.exec_root / "shims",
        ]
        assert all(place.exists() for place in places)
        found = subprocess.run(
            ["find", str(engine.data_root), str(engine.exec_root), *map(str, places)],
            user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=False,
        ).stdout.split()  # fmt: skip
        assert set(found) <= {str(engine.data_root), str(engine.exec_root), str(places[-1])}, (
            "names, and nothing in them"
        )
    finally:
        engine.close()
