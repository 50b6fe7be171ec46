"""The pure parts of `sampan.runtime.container`: options, names, lists."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.linux import mount as mnt
from sampan.runtime.container import namespaces, program, sysctls, users
from sampan.runtime.container.failure import from_message, to_message
from sampan.runtime.container.host import _page_of_options
from sampan.runtime.container.idmapped import split_lower
from sampan.runtime.container.limits import parse_cpu_list
from sampan.runtime.container.mountoptions import known_options, parse_options
from sampan.runtime.interface import LaunchError


def test_later_options_win() -> None:
    options = parse_options(["ro", "nosuid", "rw", "noatime", "strictatime"])
    assert options.attributes.set == mnt.MOUNT_ATTR_NOSUID | mnt.MOUNT_ATTR_STRICTATIME
    assert options.attributes.clear == mnt.MOUNT_ATTR_RDONLY | mnt.MOUNT_ATTR__ATIME
    assert not options.read_only


def test_options_are_sorted_by_who_acts_on_them() -> None:
    options = parse_options(
        ["rbind", "rro", "rslave", "private", "size=64k", "sync", "tmpcopyup", "defaults", "rw"]
    )
    assert options.bind
    assert options.recursive_bind
    assert options.recursive_attributes.set == mnt.MOUNT_ATTR_RDONLY
    assert options.propagation == [(mnt.MS_SLAVE, True), (mnt.MS_PRIVATE, False)]
    assert options.data == ["size=64k"]
    assert options.superblock == ["sync"]
    assert options.copy_up


@pytest.mark.parametrize(("fstype", "recursive"), [("bind", False), ("rbind", True)])
def test_bind_may_be_a_type(fstype: str, recursive: bool) -> None:
    options = parse_options([], fstype)
    assert (options.bind, options.recursive_bind) == (True, recursive)


def test_every_known_option_is_understood() -> None:
    for name in known_options():
        assert parse_options([name]).data == [], name


@given(
    st.lists(
        st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1), min_size=1
    )
)
def test_lowerdir_splits_at_unescaped_colons(directories: list[str]) -> None:
    escaped = [name.replace("\\", "\\\\").replace(":", "\\:") for name in directories]
    assert split_lower(":".join(escaped)) == directories


def test_many_layers_fit_a_page_by_relative_paths() -> None:
    layers = [f"/var/lib/sampan/snapshots/{number:064d}/fs" for number in range(120)]
    text, directory = _page_of_options(["lowerdir=" + ":".join(layers), "upperdir=/u", "workdir=/w"])
    assert directory == "/var/lib/sampan/snapshots"
    first = text.removeprefix("lowerdir=").split(":")[0]
    assert os.path.join(directory, first) == layers[0]
    assert text.endswith("upperdir=/u,workdir=/w")


NAMESPACES = frozenset({"ipc", "network", "uts"})


@pytest.mark.parametrize(
    "name",
    [
        "net.ipv4.ip_forward",
        "net/ipv4/conf/eth0.100/forwarding",
        "kernel.shmmax",
        "fs.mqueue.msg_max",
        "kernel.domainname",
    ],
)
def test_namespaced_sysctls(name: str) -> None:
    sysctls.check({name: "1"}, NAMESPACES)
    with pytest.raises(LaunchError):
        sysctls.check({name: "1"}, frozenset())


@given(st.lists(st.sampled_from(["net", "kernel", "..", ".", "/", "", "ipv4", "shmmax", "core_pattern"]), min_size=1).map("/".join)
       | st.lists(st.sampled_from(["net", "kernel", "..", "/", "", "shmmax", "a/b"]), min_size=1).map(".".join)
       | st.text())  # fmt: skip
def test_an_accepted_sysctl_is_a_plain_path_of_its_namespace(name: str) -> None:
    try:
        sysctls.check({name: "1"}, NAMESPACES)
    except LaunchError:
        return
    path = sysctls._path(name)
    assert os.path.normpath("/" + path) == "/" + path
    assert path.startswith(("net/", "fs/mqueue/", "kernel/"))
    assert path != "kernel/core_pattern"


PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv/web:\nbroken:x\n\n7:x:99:99::/:\nhuge:x:4294967296:0::/:\n"
GROUP = "root:x:0:\nweb:x:34:\nlogs:x:40:web,root\nops:x:41:web\nodd:x:x:web\n"


@pytest.fixture
def image(tmp_path: Path) -> int:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("", [], users.Identity(0, 0, [0, 40], "/root")),
        ("web", [], users.Identity(33, 34, [34, 40, 41], "/srv/web")),
        ("33", [], users.Identity(33, 34, [34, 40, 41], "/srv/web")),
        ("web:ops", [], users.Identity(33, 41, [41], "/srv/web")),
        ("web:77", [], users.Identity(33, 77, [77], "/srv/web")),
        ("1234", [], users.Identity(1234, 0, [0], "/")),
        ("1234:5", ["logs", "9", "9"], users.Identity(1234, 5, [5, 40, 9, 9], "/")),
        ("7", [], users.Identity(99, 99, [99], "/")),
    ],
)
def test_users_by_the_images_files(
    image: int, user: str, groups: list[str], expected: users.Identity
) -> None:
    assert users.resolve(image, user, groups) == expected
    os.close(image)


@given(st.binary(max_size=200), st.binary(max_size=200), st.text(max_size=20))
def test_hostile_passwd_files_are_read_or_refused(passwd: bytes, group: bytes, user: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.mkdir(f"{directory}/etc")
        for name, data in (("passwd", passwd), ("group", group)):
            with open(f"{directory}/etc/{name}", "wb") as file:
                file.write(data)
        root = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            who = users.resolve(root, user, [])
        except LaunchError:
            return
        finally:
            os.close(root)
    assert 0 <= who.uid <= users.MAX_ID and 0 <= who.gid <= users.MAX_ID


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("web:none", "unable to find group none: no matching entries in group file"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("huge", "uids and gids must be in range 0-2147483647"),
        ("0:4294967296", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_wrong_users(image: int, user: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        users.resolve(image, user, [])
    os.close(image)


def test_passwd_as_a_link_out_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/etc/passwd")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(LaunchError):
        users.resolve(root, "root", [])
    os.close(root)


def test_environment() -> None:
    assert program.environment_of(["A=1", "B=x=y", "A=2", "=z", "C", "D=a\0b"]) == {
        "A": "2",
        "B": "x=y",
        "C": "",
    }


def test_finding_a_program(tmp_path: Path) -> None:
    good = tmp_path / "good/tool"
    bad = tmp_path / "bad/tool"
    for file in (good, bad):
        file.parent.mkdir()
        file.write_text("#!/bin/sh\n")
    good.chmod(0o755)
    path = f"{bad.parent}:{good.parent}"
    assert program.find("tool", {"PATH": path}) == str(good)
    assert program.find(str(good), {}) == str(good)
    with pytest.raises(LaunchError, match=r'exec: "other": executable file not found in \$PATH') as caught:
        program.find("other", {"PATH": path})
    assert caught.value.kind == "not-found"
    with pytest.raises(LaunchError, match="permission denied") as caught:
        program.find(str(bad), {})
    assert caught.value.kind == "permission"


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("", set()), (" 1 , 3-4", {1, 3, 4})]
)
def test_cpu_lists(text: str, cpus: set[int]) -> None:
    assert parse_cpu_list(text) == cpus


def test_errors_cross_the_socket_whole() -> None:
    error = from_message(to_message(LaunchError("exec /x: exec format error", "format")))
    assert (str(error), error.kind) == ("exec /x: exec format error", "format")
    assert str(from_message(to_message(FileNotFoundError(2, "No such file or directory", "/x")))) == (
        "/x: no such file or directory"
    )


def test_namespaces_of_a_spec() -> None:
    new, joined = namespaces.of_spec(
        {
            "ociVersion": "1.2.0",
            "linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/x"}]},
        }
    )
    assert (new, joined) == ({"pid"}, {"network": "/run/x"})
    assert namespaces.flags_of(["pid", "mount"]) == 0x20020000


ELF = bytearray(64)
ELF[:6] = b"\x7fELF\x02\x01"
FOREIGN = 183 if os.uname().machine != "aarch64" else 62
ELF[18:20] = FOREIGN.to_bytes(2, "little")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"#!/no/such\necho\n", 'its interpreter "/no/such" is not in the image'),
        (b"#! /bin/sh\r\necho\r\n", "ends with a carriage return"),
        (b"echo hello\n", "a text without #!"),
        (b"", "the file is empty"),
        (b"MZ\x90\0", "a Windows program"),
        (bytes(ELF), f"built for linux/{'arm64' if FOREIGN == 183 else 'amd64'}, this machine runs linux/"),
    ],
)
def test_a_program_that_cannot_be_executed_says_why(tmp_path: Path, head: bytes, words: str) -> None:
    path = tmp_path / "program"
    path.write_bytes(head)
    path.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        (tmp_path / "said").write_text(str(program.execute(str(path), [str(path)], {})))
        os._exit(0)
    os.waitpid(pid, 0)
    assert words in (tmp_path / "said").read_text()
