"""Attacks on building the root file system: links, races, and the image's own /proc, /sys and /dev."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from oci_bundle import Bundle

pytestmark = pytest.mark.root


def host_mounts() -> list[str]:
    return sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())


@pytest.mark.parametrize("link", ["/", "/tmp", "../../../../../../../../tmp", "/proc/1/root/tmp"])
def test_mount_target_through_a_link_stays_inside(bundle: Bundle, tmp_path: Path, link: str) -> None:
    """CVE-2018-15664, CVE-2021-30465, CVE-2024-45310: neither a mount nor its mount point lands on the host."""
    (bundle.rootfs / "evil").symlink_to(link)
    name = f"landed-{tmp_path.name}"
    bundle.mount(f"/evil/{name}", type="tmpfs", source="tmpfs", options=["size=64k"])
    before = host_mounts()
    result = bundle.script(f"echo in > /evil/{name}/file; grep -c {name} /proc/self/mountinfo").run()
    assert host_mounts() == before
    for directory in ("/", "/tmp"):
        assert not os.path.exists(os.path.join(directory, name))
    # The link is the container's own: within its root the mount succeeds, unless the place is in /proc.
    assert result.code == (1 if "proc" in link else 0), result.err


def test_exchanging_a_directory_for_a_link_while_it_is_mounted_on(bundle: Bundle, tmp_path: Path) -> None:
    """CVE-2021-30465: a second container swaps the mount point in a shared volume; many starts under that race."""
    volume = tmp_path / "volume"
    (volume / "real/inner").mkdir(parents=True)
    (volume / "link").symlink_to("/")
    (volume / "target").symlink_to("real")
    bundle.mount("/volume", type="bind", source=str(volume), options=["rbind"])
    bundle.mount("/volume/target/inner", type="tmpfs", source="tmpfs", options=["size=64k"])
    bundle.script("while read a b c d place rest; do echo $place; done < /proc/self/mountinfo")
    stop = threading.Event()

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            fresh = volume / f"fresh{turn}"
            fresh.symlink_to("link" if turn % 2 else "real")
            fresh.rename(volume / "target")

    before = host_mounts()
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        results = [bundle.run() for _ in range(8)]
    finally:
        stop.set()
        swapper.join()
    assert host_mounts() == before
    assert not os.path.exists("/inner")
    landed = {place for result in results for place in result.out.split() if place.endswith("inner")}
    assert landed <= {"/volume/real/inner", "/inner"}, "in the container's own root, by either way"
    assert landed


@pytest.mark.parametrize("place", ["proc", "sys"])
@pytest.mark.parametrize("link", ["elsewhere", "/elsewhere", "/proc/self"])
def test_proc_or_sys_as_a_link_is_refused(bundle: Bundle, place: str, link: str) -> None:
    """CVE-2019-19921, CVE-2023-28642: masking and labels would miss what is mounted elsewhere."""
    (bundle.rootfs / "elsewhere").mkdir()
    (bundle.rootfs / place).rmdir()
    (bundle.rootfs / place).symlink_to(link)
    result = bundle.run()
    assert result.code == 1
    assert "must be mounted on ordinary directory" in result.err


@pytest.mark.parametrize(
    "destination",
    [
        "/proc/self/attr",
        "/proc/sys",
        "/proc/sys/kernel/core_pattern",
        "/proc/self/exe",
        "/proc/1/environ",
        "/way/sys",
    ],
)
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_covering_a_part_of_proc_is_refused(
    bundle: Bundle, tmp_path: Path, destination: str, kind: str
) -> None:
    """CVE-2019-16884, CVE-2025-52881: what the runtime writes to /proc must not go where an image says."""
    (bundle.rootfs / "way").symlink_to("proc")
    if kind == "bind":
        source = tmp_path / "source"
        if destination.endswith(("attr", "sys")):
            source.mkdir()
        else:
            source.touch()
        bundle.mount(destination, type="bind", source=str(source), options=["rbind"])
    else:
        bundle.mount(destination, type="tmpfs", source="tmpfs")
    result = bundle.run()
    assert result.code == 1
    assert "error mounting" in result.err


def test_a_volume_over_proc_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """CVE-2019-16884: VOLUME /proc."""
    bundle.mount("/proc", type="bind", source=str(tmp_path), options=["rbind"])
    result = bundle.run()
    assert "only a procfs can be mounted over /proc" in result.err


def test_harmless_files_of_proc_may_be_covered(bundle: Bundle, tmp_path: Path) -> None:
    """lxcfs's files: the refusal above is not a blanket one."""
    (tmp_path / "uptime").write_text("1.00 1.00\n")
    bundle.mount("/proc/uptime", type="bind", source=str(tmp_path / "uptime"), options=["bind", "ro"])
    assert bundle.script("cat /proc/uptime").run().out == "1.00 1.00\n"


@pytest.mark.parametrize("target", ["/proc/sys/kernel/core_pattern", "/etc/passwd", "/proc/sysrq-trigger"])
def test_dev_null_as_a_link_does_not_become_the_mask(bundle: Bundle, target: str) -> None:
    """CVE-2025-31133: masking binds /dev/null over a file; an image's own /dev/null may be anything."""
    bundle.spec["mounts"] = [
        entry for entry in bundle.spec["mounts"] if not entry["destination"].startswith("/dev")
    ]
    (bundle.rootfs / "etc/passwd").touch()
    (bundle.rootfs / "dev/null").symlink_to(target)
    result = bundle.script("cat /proc/self/mountinfo").run()
    assert result.code == 1
    assert "masking" in result.err


def test_masked_paths_are_empty_and_stay_so(bundle: Bundle) -> None:
    result = bundle.script(
        "cat /proc/keys; ls /sys/firmware; umount /proc/keys; umount /sys/firmware; echo x > /proc/sys/kernel/hostname"
    ).run()
    assert result.out == ""
    assert result.err.count("Operation not permitted") + result.err.count("Permission denied") >= 2
    assert "Read-only file system" in result.err


@pytest.mark.parametrize("fake", ["link", "directory"])
def test_a_faked_devpts_gives_no_console(bundle: Bundle, fake: str) -> None:
    """CVE-2025-52565: the console's terminal must come from a devpts, not from the image's /dev/pts."""
    bundle.spec["process"]["terminal"] = True
    bundle.spec["mounts"] = [
        entry for entry in bundle.spec["mounts"] if not entry["destination"].startswith("/dev")
    ]
    if fake == "link":
        (bundle.rootfs / "dev/pts").symlink_to("/proc")
    else:
        (bundle.rootfs / "dev/pts").mkdir()
        (bundle.rootfs / "dev/pts/ptmx").touch()
    result = bundle.run()
    assert result.code == 1
    assert "setting up the console" in result.err


def test_a_link_at_dev_console_is_not_followed(bundle: Bundle, tmp_path: Path) -> None:
    """CVE-2025-52565: with a bound /dev, a link at /dev/console could name any mount target."""
    victim = bundle.rootfs / "etc/victim"
    victim.write_text("untouched")
    (bundle.rootfs / "dev/console").symlink_to("/etc/victim")
    bundle.spec["process"]["terminal"] = True
    bundle.spec["mounts"] = [entry for entry in bundle.spec["mounts"] if entry["destination"] != "/dev"]
    result = bundle.script("cat /etc/victim").run(stdout=None)
    assert victim.read_text() == "untouched"
    assert result.code in (0, 1)


def test_copy_up_follows_no_link(bundle: Bundle, tmp_path: Path) -> None:
    """CVE-2022-23648: a link in the image made a volume's first copy read the host's files."""
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    data = bundle.rootfs / "data"
    data.mkdir()
    (data / "file").symlink_to(secret)
    (data / "directory").symlink_to(tmp_path)
    bundle.mount("/data", type="tmpfs", source="tmpfs", options=["tmpcopyup"])
    result = bundle.script("cat /data/file /data/directory/secret; readlink /data/file").run()
    assert "the host's" not in result.out
    assert str(secret) in result.out


def test_release_agent_is_out_of_reach(bundle: Bundle) -> None:
    """CVE-2022-0492: a cgroup v1 release_agent that root in a container may write is root on the host."""
    result = bundle.script(
        "find /sys/fs/cgroup -name release_agent; for f in /sys/fs/cgroup /sys/fs/cgroup/*; do touch $f/notify_on_release; "
        "mkdir $f/x; done; mkdir /m; mount -t cgroup -o memory none /m"
    ).run()
    assert result.out == ""
    assert "Read-only file system" in result.err
    assert "mount" in result.err


def test_hidden_host_root_is_not_reachable(bundle: Bundle) -> None:
    """Nothing of the host's mounts survives pivot_root, by any of the usual ways back."""
    result = bundle.script(
        "ls /proc/1/root/work /proc/self/root/../work; cut -d' ' -f5 /proc/self/mountinfo | grep -c work"
    ).run()
    assert result.out == "0\n"
