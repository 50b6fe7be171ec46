"""Attacks on the runtime's own processes: descriptors, working directory, interpreter, ids, capabilities."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oci_bundle import Bundle
from sampan.runtime.container.stub import prefork_join

pytestmark = pytest.mark.root


def test_a_joining_process_cannot_be_traced_or_robbed(bundle: Bundle) -> None:
    """CVE-2016-9962: between joining the pid namespace and execve, the container's root must not get at us."""
    bundle.script("sleep 100")
    name = bundle.start()
    stub = prefork_join(bundle.pid(name))
    try:
        script = (
            "for p in /proc/[0-9]*; do if grep -q sampan-stub $p/comm; then echo found; ls $p/root/; "
            "for f in $p/fd/*; do readlink $f; cat $f < /dev/null; done; "
            "readlink $p/exe; readlink $p/cwd; cat $p/environ $p/maps; echo x > $p/mem; fi; done"
        )
        result = bundle.command("exec", name, "sh", "-c", script)
    finally:
        stub.close()
        os.waitpid(stub.pid, 0)
    assert result.out == "found\n"
    assert "Permission denied" in result.err


def test_the_interpreter_cannot_be_overwritten_through_proc_self_exe(bundle: Bundle, tmp_path: Path) -> None:
    """CVE-2019-5736, carried out on a copy of Python: hold its /proc/PID/exe, then open that for writing."""
    python = tmp_path / "python3"
    shutil.copy(os.path.realpath(sys.executable), python)
    runtime = [str(python), "-c", "from sampan.runtime.command.entry import main; main()"]
    source = str(Path(__file__).parents[3] / "src")
    os.environ["PYTHONPATH"] = source
    try:
        name, created = bundle.create(runtime=runtime)
    finally:
        del os.environ["PYTHONPATH"]
    assert created.code == 0, created.err
    pid = bundle.pid(name)
    held = os.open(f"/proc/{pid}/exe", os.O_PATH)
    try:
        assert os.fstat(held).st_ino == python.stat().st_ino, "it is the copy that runs"
        assert bundle.command("start", name).code == 0
        assert bundle.command("delete", "--force", name).code == 0
        with pytest.raises(OSError) as caught:
            os.open(f"/proc/self/fd/{held}", os.O_WRONLY)
        assert caught.value.errno == errno.EROFS
        os.close(
            os.open(python, os.O_WRONLY)
        )  # by its own path it could be: the mount protects it, nothing else
    finally:
        os.close(held)


@pytest.mark.parametrize("shape", ["program", "shebang"])
def test_proc_self_exe_as_the_program(bundle: Bundle, shape: str) -> None:
    """CVE-2019-5736: re-executing the runtime inside the container gives nothing."""
    if shape == "program":
        bundle.spec["process"]["args"] = ["/proc/self/exe", "-c", "print('host python')"]
    else:
        program = bundle.rootfs / "bin/program"
        program.write_text("#!/proc/self/exe\n")
        program.chmod(0o755)
        bundle.spec["process"]["args"] = ["/bin/program"]
    result = bundle.run()
    assert result.code != 0
    assert "host python" not in result.out


def test_nothing_of_the_image_is_loaded_into_the_runtime(bundle: Bundle) -> None:
    """CVE-2019-14271: looking up a user through the C library loaded the image's libnss, as root."""
    for directory in ("lib", "lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"):
        (bundle.rootfs / directory).mkdir(parents=True, exist_ok=True)
        (bundle.rootfs / directory / "libnss_files.so.2").write_text("not a library")
    (bundle.rootfs / "etc/nsswitch.conf").write_text("passwd: files evil\ngroup: files evil\n")
    (bundle.rootfs / "etc/passwd").write_text("web:x:33:33::/srv:/bin/sh\n")
    bundle.spec["process"]["user"] = {"uid": 33, "gid": 33}
    name, created = bundle.create()
    assert created.code == 0, created.err
    maps = Path(f"/proc/{bundle.pid(name)}/maps").read_text()
    assert "libnss" not in maps
    mapped = {
        line.split()[5] for line in maps.splitlines() if len(line.split()) > 5 and "/" in line.split()[5]
    }
    assert mapped, "the stub's own libraries"
    assert all(os.path.exists(path) for path in mapped), "each is the host's, none the image's"


def test_fifo_as_passwd_does_not_hang_the_runtime(bundle: Bundle) -> None:
    os.mkfifo(bundle.rootfs / "etc/passwd")
    assert bundle.script("echo $HOME").run(timeout=20).out == "/\n"


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 64])
def test_working_directory_through_a_leaked_descriptor(bundle: Bundle, number: int) -> None:
    """CVE-2024-21626: `WORKDIR /proc/self/fd/7` was the host's root."""
    bundle.spec["process"]["cwd"] = f"/proc/self/fd/{number}/../../../.."
    bundle.script("pwd; ls")
    result = bundle.run()
    assert result.code == 1
    assert "work" not in result.out


def test_working_directory_of_exec_through_a_leaked_descriptor(bundle: Bundle) -> None:
    """CVE-2024-21626, the other way in; also by a link that the image has."""
    for number in range(3, 15):
        (bundle.rootfs / f"way{number}").symlink_to(f"/proc/self/fd/{number}")
    bundle.script("sleep 100")
    name = bundle.start()
    for number in range(3, 15):
        for path in (f"/proc/self/fd/{number}", f"/way{number}", f"/proc/1/fd/{number}"):
            result = bundle.command("exec", "--cwd", path, name, "ls")
            assert result.code == 255, path


def test_neither_descriptors_nor_environment_nor_directory_leak(bundle: Bundle, tmp_path: Path) -> None:
    """CVE-2024-21626, CVE-2016-9962: the caller's open files and secrets stay the caller's."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    descriptors = [os.open(secret, os.O_RDONLY) for _ in range(3)]
    environment = {**os.environ, "SECRET_OF_THE_HOST": "1"}
    try:
        result = bundle.script("ls -l /proc/self/fd /proc/1/fd; env; pwd; cat /proc/1/environ").run(
            pass_fds=descriptors, env=environment
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    assert result.code == 0, result.err
    assert "secret" not in result.out.lower()
    assert str(tmp_path) not in result.out.replace("stderr-", "").replace(str(bundle.path.parent) + "/", "")


def test_a_created_container_holds_no_host_directory(bundle: Bundle) -> None:
    """While it waits for start, a stub's descriptors are its socket, the null device and nothing to walk from."""
    name, _ = bundle.create()
    pid = bundle.pid(name)
    for entry in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{entry}")
        assert not os.path.isdir(f"/proc/{pid}/fd/{entry}") or target == "/", f"{entry} is {target}"


def test_exec_with_an_added_capability_leaves_inheritable_empty(bundle: Bundle) -> None:
    """CVE-2022-29162 (and CVE-2022-24769): inheritable capabilities gave files' capabilities to ordinary users."""
    bundle.script("sleep 100")
    name = bundle.start()
    result = bundle.command(
        "exec", "--cap", "CAP_SYS_NICE", name, "grep", "-E", "Cap(Inh|Amb|Prm)", "/proc/self/status"
    )
    lines = dict(line.split() for line in result.out.splitlines())
    assert int(lines["CapInh:"], 16) == int(lines["CapAmb:"], 16) == 0
    assert int(lines["CapPrm:"], 16) >> 23 & 1


def test_the_callers_groups_do_not_come_along(bundle: Bundle) -> None:
    """CVE-2022-36109: groups that nobody gave the container defeat a file's denial for its group."""
    bundle.spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    bundle.script("grep Groups /proc/self/status")
    result = bundle.run(preexec_fn=lambda: os.setgroups([0, 4242]))
    assert result.out.split() == ["Groups:"], result.err


@pytest.mark.parametrize("uid", [1 << 31, (1 << 32) - 1, 1 << 32, 1 << 64, -1])
def test_ids_that_wrap_around_to_root(bundle: Bundle, uid: int) -> None:
    """CVE-2024-40635: 2147483648 and 4294967296 became uid 0."""
    bundle.spec["process"]["user"] = {"uid": uid, "gid": 0}
    result = bundle.script("id -u").run()
    assert result.code == 1
    assert "process.user.uid" in result.err


def test_no_abstract_socket_and_none_for_others(bundle: Bundle) -> None:
    """CVE-2020-15257: an abstract socket of the runtime is open to every container in the host's network."""
    before = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if " @" in line}
    name, _ = bundle.create()
    after = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if " @" in line}
    assert after <= before
    directory = bundle.state / name
    assert directory.stat().st_mode & 0o777 == 0o700, "CVE-2021-41091: others cannot even enter"
    assert (directory / "start.sock").stat().st_mode & 0o777 == 0o600


def test_others_cannot_read_the_state(bundle: Bundle) -> None:
    """CVE-2021-41091: an ordinary user of the host reached into containers' directories."""
    name, _ = bundle.create()
    done = subprocess.run(
        ["/bin/cat", str(bundle.state / name / "state.json")], user=65534, check=False, capture_output=True
    )
    assert b"Permission denied" in done.stderr


def test_sysctls_of_the_host_are_refused(bundle: Bundle) -> None:
    """CVE-2025-52881: and names are names, not paths into /proc."""
    for name in (
        "kernel.core_pattern",
        "vm.swappiness",
        "net/../kernel/core_pattern",
        "net.ipv4/../../x",
        "kernel.hostname",
    ):
        bundle.spec["linux"]["sysctl"] = {name: "1"}
        result = bundle.run()
        assert result.code == 1, name
        assert "sysctl" in result.err
    bundle.spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    bundle.spec["linux"]["namespaces"] = [
        entry for entry in bundle.spec["linux"]["namespaces"] if entry["type"] != "network"
    ]
    assert "host network namespace" in bundle.run().err
