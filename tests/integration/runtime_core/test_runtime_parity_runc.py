"""The same bundle in runc and in Sampan's runtime: what the process inside sees must be the same."""

from __future__ import annotations

import re

import pytest

from oci_bundle import RUNC, SAMPAN, Bundle, add_namespace

pytestmark = pytest.mark.root

_VOLATILE = re.compile(
    r"^(Vm|Rss|voluntary_ctxt|nonvoluntary_ctxt|SigQ|FDSize|HugetlbPages|SigIgn|Speculation|NSpid|NStgid|Pid|Tgid)"
)


def both(bundle: Bundle) -> tuple[str, str]:
    outputs = []
    for runtime in (RUNC, SAMPAN):
        result = bundle.run(runtime=runtime)
        assert result.code == 0, result.err
        outputs.append(result.out)
    return outputs[0], outputs[1]


def stable_status(text: str) -> list[str]:
    return [line for line in text.splitlines() if not _VOLATILE.match(line)]


def mounts(text: str) -> list[tuple[str, ...]]:
    """Mount point, root, options, type, source, superblock options; container ids and devices left out."""
    rows = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        fstype, source, superblock = after.split(" ", 2)
        root = re.sub(r"/t[0-9a-f]{12}$", "/ID", fields[3])
        if fstype == "cgroup":
            root = "/" + root.rsplit("/", 1)[-1]
        options = sorted(fields[5].split(","))
        if fields[4] == "/sys/fs/cgroup":
            # runc 1.1 leaves the tmpfs itself writable; Sampan keeps the `ro` that the spec asked for.
            options = [option for option in options if option not in ("ro", "rw")]
        rows.append((fields[4], root, ",".join(options), fstype, source, _superblock(fields[4], superblock)))
    return sorted(rows)


def _superblock(place: str, options: str) -> str:
    # Masked directories share one tiny tmpfs here, and have one of the default size each in runc.
    return "masked" if place in ("/proc/acpi", "/sys/firmware", "/proc/scsi") else options


def test_status_of_the_process(bundle: Bundle) -> None:
    reference, ours = both(bundle.script("cat /proc/self/status"))
    assert stable_status(ours) == stable_status(reference)


def test_status_of_an_ordinary_user_with_groups_and_umask(bundle: Bundle) -> None:
    bundle.spec["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o027}
    bundle.spec["process"]["noNewPrivileges"] = True
    reference, ours = both(bundle.script("cat /proc/self/status"))
    assert stable_status(ours) == stable_status(reference)


def test_all_five_capability_sets(bundle: Bundle) -> None:
    bundle.spec["process"]["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SYSLOG"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    }
    bundle.spec["process"]["user"] = {"uid": 7, "gid": 7}
    reference, ours = both(bundle.script("grep Cap /proc/self/status"))
    assert ours == reference


def test_mounts(bundle: Bundle) -> None:
    data = bundle.path.parent / "data"
    data.mkdir()
    bundle.mount("/data", type="bind", source=str(data), options=["rbind", "ro", "rprivate"])
    bundle.mount(
        "/scratch", type="tmpfs", source="tmpfs", options=["nosuid", "noexec", "size=1m", "mode=0700"]
    )
    bundle.spec["root"]["readonly"] = True
    reference, ours = both(bundle.script("cat /proc/self/mountinfo"))
    assert mounts(ours) == mounts(reference)


def test_device_nodes_and_links(bundle: Bundle) -> None:
    bundle.spec["linux"]["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/deep/pipe", "type": "p", "fileMode": 0o600},
    ]
    script = "find /dev | sort | while read f; do stat -c '%n %F %a %u %g %t %T %N' $f; done"
    reference, ours = both(bundle.script(script))
    assert ours == reference
    assert "/dev/fuse" in ours


def test_limits_and_environment(bundle: Bundle) -> None:
    bundle.spec["process"]["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 20},
    ]
    reference, ours = both(bundle.script("cat /proc/self/limits; env | sort; pwd"))
    assert ours == reference


def test_home_comes_from_the_images_passwd(bundle: Bundle) -> None:
    (bundle.rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv/web:/bin/sh\n")
    bundle.spec["process"]["user"] = {"uid": 33, "gid": 33}
    reference, ours = both(bundle.script("echo $HOME"))
    assert ours == reference == "/srv/web\n"


def test_cgroup_namespace(bundle: Bundle) -> None:
    add_namespace(bundle.spec, "cgroup")
    script = "cut -d: -f2,3 /proc/self/cgroup | grep -v '^:'; ls /sys/fs/cgroup/memory | sort | grep -c limit"
    reference, ours = both(bundle.script(script))
    assert ours == reference


def test_sysctls_and_names(bundle: Bundle) -> None:
    bundle.spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "9000"}
    reference, ours = both(
        bundle.script("hostname; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
    )
    assert ours == reference
    assert ours.split() == ["boxed", "1", "9000"]


def test_open_descriptors(bundle: Bundle) -> None:
    reference, ours = both(bundle.script("ls /proc/self/fd"))
    assert ours == reference


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["/nope"], ["/etc/hostname"], ["/bin/script"], ["/bin/lost"]],
    ids=["not-in-path", "missing", "not-executable", "no-shebang", "lost-interpreter"],
)
def test_messages_when_the_program_cannot_run(bundle: Bundle, arguments: list[str]) -> None:
    (bundle.rootfs / "etc/hostname").write_text("x")
    for name, text in (("script", "echo no shebang\n"), ("lost", "#!/bin/missing\n")):
        (bundle.rootfs / "bin" / name).write_text(text)
        (bundle.rootfs / "bin" / name).chmod(0o755)
    bundle.spec["process"]["args"] = arguments
    reference = bundle.run(runtime=RUNC)
    ours = bundle.run()
    assert reference.code != 0
    assert ours.code != 0
    wanted = re.search(
        r"exec[: ].*?(found in \$PATH|such file or directory|denied|format error)", reference.err
    )
    assert wanted is not None, reference.err
    assert wanted.group(0) in ours.err


def test_exec_joins_the_same_world(bundle: Bundle) -> None:
    bundle.script("sleep 100")
    outputs = []
    script = "grep -E 'Cap|Uid|Gid|Groups|NoNew|Umask' /proc/self/status; pwd; hostname; env | sort; ls /proc/self/fd"
    for runtime in (RUNC, SAMPAN):
        name = bundle.start(runtime=runtime)
        result = bundle.command(
            "exec",
            "--cwd",
            "/tmp",
            "--env",
            "A=b",
            "--user",
            "9:8",
            name,
            "sh",
            "-c",
            script,
            runtime=runtime,
        )
        assert result.code == 0, result.err
        outputs.append(result.out)
    assert outputs[1] == outputs[0]
