"""Attacks on what the engine mounts: volumes, binds and masks, with links in images and volumes, also such that come in between.

Each docstring names, after "Red when", the line without which the test fails.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from image_archives import member
from running_engine import RunningEngine

pytestmark = pytest.mark.root

RUN = ("run", "--rm", "--network", "none")


def host_mounts(engine: RunningEngine) -> list[str]:
    """Mount points of the host, other engines' aside."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(place for place in places if str(engine.data_root.parent) in place or "landed" in place)


# --- mount points --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["directory", "file", "volume", "tmpfs"])
def test_a_mount_point_behind_a_link_is_made_inside(
    engine: RunningEngine, hostile_image: Callable[..., str], host_directory: Path, tmp_path: Path, kind: str
) -> None:
    """CVE-2021-30465, CVE-2024-45310: neither the mount nor an empty file or directory lands on the host.

    Red when `linux.path.make_directories` goes on from "/" instead of the root after an absolute link, and when
    `open_in_root` leaves RESOLVE_IN_ROOT out.
    """
    image = hostile_image([member("way", tarfile.SYMTYPE, str(host_directory))])
    source = tmp_path / "source"
    if kind == "file":
        source.write_text("mine")
    else:
        source.mkdir()
    target = "/way/landed"
    option = {
        "directory": ("-v", f"{source}:{target}"),
        "file": ("-v", f"{source}:{target}"),
        "volume": ("-v", f"attacked:{target}"),
        "tmpfs": ("--tmpfs", target),
    }[kind]
    before = host_mounts(engine)
    done = engine.docker(
        *RUN, *option, image, "grep", "-c", f"{host_directory}/landed", "/proc/self/mountinfo"
    )
    assert done.stdout == "1\n", "the container's own link leads to the container's own directory"
    assert os.listdir(host_directory) == ["secret"]
    assert host_mounts(engine) == before


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_exchanging_a_directory_for_a_link_while_it_is_mounted_on(
    engine: RunningEngine, hostile_image: Callable[..., str], host_directory: Path, tmp_path: Path, kind: str
) -> None:
    """CVE-2021-30465: a container swaps a directory of a shared volume, while others are started with a mount in it.

    Red when `linux.path.open_in_root` leaves RESOLVE_IN_ROOT out.
    """
    image = hostile_image()
    swap = (
        f"cd /volume && mkdir -p real && ln -s {host_directory} link && touch ready && while :; do"
        " ln -s link fresh; mv -T fresh target; ln -s real fresh; mv -T fresh target; done"
    )
    engine.docker("run", "-d", "--network", "none", "-v", "shared:/volume", image, "sh", "-c", swap)
    source = tmp_path / "source"
    source.mkdir()
    option = (
        ("-v", f"{source}:/volume/target/landed") if kind == "bind" else ("--tmpfs", "/volume/target/landed")
    )
    before = host_mounts(engine)
    started = 0
    for _ in range(12):
        done = engine.docker(
            *RUN, "-v", "shared:/volume", *option, image, "cat", "/proc/self/mountinfo", check=False
        )
        started += done.returncode == 0
        places = {line.split()[4] for line in done.stdout.splitlines() if "landed" in line}
        assert places <= {"/volume/real/landed", f"{host_directory}/landed"}, "in its own root, by either way"
        assert host_mounts(engine) == before
        assert os.listdir(host_directory) == ["secret"]
    assert started


@pytest.mark.parametrize("link", ["out", "up"])
def test_a_part_of_a_volume_lies_in_the_volume(
    engine: RunningEngine, host_directory: Path, link: str
) -> None:
    """CVE-2023-2431's kin: `volume-subpath` names a link that another user of the volume has put there.

    Red when `Mounting._pin_subpath` uses `open` beneath the volume instead of `open_beneath`.
    """
    target = str(host_directory) if link == "out" else "../" * 20 + str(host_directory).lstrip("/")
    engine.docker(*RUN, "-v", "shared:/volume", "busybox", "ln", "-s", target, f"/volume/{link}")
    done = engine.docker(
        *RUN,
        "--mount",
        f"type=volume,src=shared,dst=/part,volume-subpath={link}",
        "busybox",
        "cat",
        "/part/secret",
        check=False,
    )
    assert done.returncode == 125 and "path concatenation escapes the base directory" in done.stderr
    assert "the host's" not in done.stdout


# --- the first content of a volume ---------------------------------------------------------------------------------------


def test_a_volumes_first_content_is_the_images_alone(
    engine: RunningEngine, hostile_image: Callable[..., str], host_directory: Path
) -> None:
    """CVE-2022-23648: `VOLUME` on a link to the host's directories, and links in what is copied.

    Red when `linux.path.open_in_root` leaves RESOLVE_IN_ROOT out (the place), and when `volumes.copyup._Copy._entry` looks
    with `follow_symlinks=True` (the content).
    """
    image = hostile_image(
        [
            member("place", tarfile.SYMTYPE, str(host_directory)),
            member("climb", tarfile.SYMTYPE, "../../../../../../.." + str(host_directory)),
            member("data", tarfile.DIRTYPE),
            member("data/file", tarfile.SYMTYPE, str(host_directory / "secret")),
            member("data/directory", tarfile.SYMTYPE, str(host_directory)),
        ],
        {"Volumes": {"/place": {}, "/climb": {}, "/data": {}, "/climb/../../etc": {}}},
    )
    script = "cat /place/* /climb/* /data/file /data/directory/*; readlink /data/file"
    done = engine.docker(*RUN, image, "sh", "-c", script)
    assert "the host's" not in done.stdout and str(host_directory) in done.stdout
    for place in ("/place", "/climb", "/data"):
        engine.docker(*RUN, "-v", f"kept:{place}", image, "true")
        volume = engine.data_root / "volumes" / "kept" / "_data"
        found = [path.read_bytes() for path in volume.rglob("*") if path.is_file() and not path.is_symlink()]
        assert not any(b"the host's" in data for data in found)
        engine.docker("volume", "rm", "-f", "kept")


def test_a_tmpfs_over_links_copies_nothing_of_the_host(
    engine: RunningEngine, hostile_image: Callable[..., str], host_directory: Path
) -> None:
    """CVE-2022-23648's kin. Red when `linux.path.open_in_root` leaves RESOLVE_IN_ROOT out."""
    image = hostile_image([member("place", tarfile.SYMTYPE, str(host_directory))])
    done = engine.docker(
        *RUN, "--tmpfs", "/place:rw,size=1m", image, "sh", "-c", "ls /place/ | wc -l; touch /place/mine"
    )
    assert done.stdout == "0\n"
    assert os.listdir(host_directory) == ["secret"]


# --- /proc, /sys, /dev ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["proc", "sys"])
@pytest.mark.parametrize("link", ["elsewhere", "/elsewhere", "/tmp", "/proc/self"])
def test_proc_or_sys_replaced_by_the_image(
    engine: RunningEngine, hostile_image: Callable[..., str], place: str, link: str
) -> None:
    """CVE-2019-19921, CVE-2023-28642: what masks and labels rely on would be mounted elsewhere.

    Red when `Root._mount_kernel_tree` opens its target with `open_in_root`.
    """
    image = hostile_image([member("elsewhere", tarfile.DIRTYPE), member(place, tarfile.SYMTYPE, link)])
    done = engine.docker(*RUN, image, "true", check=False)
    assert done.returncode == 125
    assert "must be mounted on ordinary directory" in done.stderr


@pytest.mark.parametrize(
    "target",
    [
        "/proc",
        "/proc/self/attr",
        "/proc/sys",
        "/proc/sys/kernel",
        "/proc/self/fd",
        "/way/sys",
        "/way",
        "/way/1",
    ],
)
@pytest.mark.parametrize("kind", ["bind", "volume", "tmpfs", "image"])
def test_covering_proc(
    engine: RunningEngine, hostile_image: Callable[..., str], tmp_path: Path, target: str, kind: str
) -> None:
    """CVE-2019-16884, CVE-2025-52881: what the runtime writes (labels, sysctls) must go to a genuine procfs.

    `/way` is a link of the image's to /proc; `image` is a VOLUME of it. Red when `Root._refuse_faking_proc` returns at once.
    """
    volumes = {"Volumes": {target: {}}} if kind == "image" else {}
    image = hostile_image([member("way", tarfile.SYMTYPE, "/proc")], volumes)
    source = tmp_path / "source"
    source.mkdir()
    option = {
        "bind": ("-v", f"{source}:{target}"),
        "volume": ("--mount", f"type=volume,dst={target}"),
        "tmpfs": ("--tmpfs", target),
        "image": (),
    }[kind]
    done = engine.docker(*RUN, *option, image, "true", check=False)
    assert done.returncode == 125, "refused when it is created, or at the start"
    assert "proc" in done.stderr


@pytest.mark.parametrize(
    "link", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/etc/passwd", "../proc/kcore"]
)
def test_the_mask_is_the_null_device_or_nothing(
    engine: RunningEngine, hostile_image: Callable[..., str], link: str
) -> None:
    """CVE-2025-31133: /dev is a volume whose `null` is a link, so masking would mount what it leads to, writable.

    Red when `Root._open_null` opens with `open_in_root` and does not look at what it got.
    """
    image = hostile_image()
    engine.docker(*RUN, "-v", "dev:/volume", image, "ln", "-s", link, "/volume/null")
    done = engine.docker(*RUN, "-v", "dev:/dev", image, "cat", "/proc/self/mountinfo", check=False)
    assert done.returncode == 125
    assert "masking" in done.stderr


def test_exchanging_the_null_device_while_paths_are_masked(
    engine: RunningEngine, hostile_image: Callable[..., str]
) -> None:
    """CVE-2025-31133 as a race: a container swaps `null` in the volume that is another's /dev.

    Red when `Root._open_null` opens with `open_in_root` and does not look at what it got.
    """
    image = hostile_image()
    swap = (
        "cd /volume && mknod real c 1 3 && ln -s /proc/sysrq-trigger link && touch ready && while :; do"
        " ln real fresh; mv fresh null; ln -s /proc/sysrq-trigger fresh; mv -T fresh null; done"
    )
    engine.docker("run", "-d", "--network", "none", "-v", "dev:/volume", image, "sh", "-c", swap)
    for _ in range(10):
        done = engine.docker(*RUN, "-v", "dev:/dev", image, "cat", "/proc/self/mountinfo", check=False)
        masks = [line.split() for line in done.stdout.splitlines() if line.split()[4] == "/proc/kcore"]
        assert all(fields[3] in ("/real", "/null", "/fresh") for fields in masks), done.stdout


@pytest.mark.parametrize("fake", ["pts-link", "pts-directory", "pts-volume"])
def test_a_terminal_comes_from_a_genuine_devpts(
    engine: RunningEngine, hostile_image: Callable[..., str], fake: str
) -> None:
    """CVE-2025-52565: /dev, or /dev/pts, is a volume in which things are not what they should be.

    Red when `devices.open_console` does not check that its ptmx is on a devpts. The console is bound by its descriptor, and on a
    /dev of the runtime's own only.
    """
    image = hostile_image()
    prepare = {
        "pts-link": "mknod null c 1 3; ln -s /proc pts",
        "pts-directory": "mknod null c 1 3; mkdir pts; mknod pts/ptmx c 5 2; ln -s /etc/passwd console",
        "pts-volume": "mknod ptmx c 5 2; mknod 0 c 136 0",
    }[fake]
    engine.docker(*RUN, "-v", "dev:/volume", "-w", "/volume", image, "sh", "-c", prepare)
    place = "/dev/pts" if fake == "pts-volume" else "/dev"
    done = engine.docker(*RUN, "-t", "-v", f"dev:{place}", image, "cat", "/proc/self/mountinfo", check=False)
    assert done.returncode == 125
    assert "setting up the console" in done.stderr


def test_masked_and_read_only_paths_stay_so(engine: RunningEngine, hostile_image: Callable[..., str]) -> None:
    """CVE-2025-31133, CVE-2019-16884: what is masked can neither be read nor uncovered, what is read-only not written.

    Red when `Root.finish` leaves out `self._mask(path)`, or `self._make_read_only(path)`.
    """
    script = (
        "for f in /proc/kcore /proc/keys /proc/timer_list; do head -c 1 $f; umount $f; done;"
        " find /sys/firmware /proc/scsi /proc/acpi -mindepth 1; umount /sys/firmware;"
        " for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/uevent_helper;"
        " do (echo x > $f) && echo written $f; done; mount -o remount,rw /proc/sys && echo remounted"
    )
    done = engine.docker(*RUN, hostile_image(), "sh", "-c", script, check=False)
    assert done.stdout == ""
    assert done.stderr.count("Read-only file system") + done.stderr.count("can't create") >= 3


def test_sysctls_are_the_containers_own(engine: RunningEngine) -> None:
    """CVE-2025-52881: `--sysctl` must not write to the host, whatever way its name takes.

    Red when `runtime.container.sysctls.check` returns at once.
    """
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    for name in (
        "kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel/core_pattern",
        "vm.swappiness",
    ):
        done = engine.docker(*RUN, "--sysctl", f"{name}=|/evil", "busybox", "true", check=False)
        assert done.returncode == 125, name
        assert "sysctl" in done.stderr
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_release_agent_is_out_of_reach(engine: RunningEngine) -> None:
    """CVE-2022-0492: root in a container without the seccomp filter makes a user namespace to mount a cgroup hierarchy.

    Red when `oci.defaults.mounts` gives /sys/fs/cgroup without `ro`; the mounts are refused by today's kernels as well.
    """
    script = (
        "find /sys/fs/cgroup -maxdepth 3 -name release_agent; "
        "for f in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $f/x && echo made; touch $f/cgroup.procs && echo written; done;"
        " mkdir /m; for kind in cgroup cgroup2; do"
        " unshare -U -r -C -m mount -t $kind -o rdma none /m && echo mounted;"
        " unshare -U -r -C -m sh -c 'echo /evil > /m/release_agent' && echo set; mount -t $kind none /m && echo mounted; done"
    )
    done = engine.docker(
        *RUN, "--security-opt", "seccomp=unconfined", "busybox", "sh", "-c", script, check=False
    )
    words = done.stdout.split()
    assert "made" not in words and "set" not in words
    assert "Read-only file system" in done.stderr
