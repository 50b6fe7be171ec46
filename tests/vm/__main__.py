"""Run tests in a small virtual machine: another kernel, cgroup v2 alone, AppArmor.

    bin/test vm                                        # the chosen lists below: twenty minutes emulated
    bin/test vm tests/integration/cgroups -k freeze
    bin/test vm tests/integration                      # everything; emulated that takes most of an hour
    bin/test vm --systemd tests/vm/systemd             # in a machine that systemd has started
    bin/test vm --shell 'uname -a; mount'              # any command instead of pytest

Two machines are booted for the lists: one without an init system, and one that systemd has started, for what only that one has.
The first run makes the machine's disk from Debian packages (under a minute) and keeps it in the cache directory;
later runs boot in a few seconds. /dev/kvm is used where it opens, else software emulation. Needs root, as mmdebstrap
does, and qemu-system-x86, mmdebstrap, e2fsprogs, busybox-static. The exit code is the command's; 125 when the
machine itself failed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from vm.disks import cache_directory, checkout_disk, environment_disk, missing_programs, root_disk
from vm.machine import Init, Machine, MachineFailed

CHECKOUT = Path(__file__).resolve().parents[2]
CHOSEN = (
    "tests/vm/test_apparmor.py",
    "tests/vm/test_cgroup_v2.py",
    "tests/integration/cgroups",
    "tests/integration/seccomp/test_processes.py",
    "tests/integration/volumes/test_volume_mounts.py",
    "tests/integration/runtime",
    "tests/integration/containers/test_containers_cli.py",
    "tests/integration/attacks/test_attacks_on_names.py",
    "tests/integration/attacks/test_attacks_on_the_root.py::test_release_agent_is_out_of_reach",
    "tests/integration/attacks/test_attacks_on_the_root.py::test_masked_paths_are_empty_and_stay_so",
    "tests/integration/attacks/test_attacks_through_mounts.py::test_release_agent_is_out_of_reach",
    "tests/integration/attacks/test_attacks_through_mounts.py::test_masked_and_read_only_paths_stay_so",
    "tests/integration/attacks/test_attacks_through_mounts.py::test_exchanging_a_directory_for_a_link_while_it_is_mounted_on[bind]",
    "tests/integration/attacks/test_attacks_on_the_engine.py::test_our_own_process_in_a_container_gives_nothing_away",
    "tests/integration/networks/test_traffic.py",
    *(
        f"tests/integration/containers/test_userns_remap.py::test_{name}"
        for name in (
            "who_the_users_are", "what_a_container_writes_is_on_disk_as_without", "cp",
            "volumes_belong_to_the_containers_root", "network_and_ports", "another_runtime",
            "restart_after_a_crash", "root_in_there_is_nobody_out_here",
        )
    ),
    *(
        f"tests/integration/containers/test_foreign_runtimes.py::test_{name}[{runtime}]"
        for runtime in ("debian-runc", "crun")
        for name in (
            "what_it_is_given", "propagation", "a_terminal", "an_init", "out_of_memory", "life", "pause",
            "removing_a_paused_one", "stop_reaches_the_program", "a_killed_engine", "nothing_is_left",
        )
    ),
    "tests/integration/runtime_core/test_idmapped_mounts.py",
    "tests/integration/runtime_core/test_runtime_under_docker.py",
)  # fmt: skip
"""What depends on the kernel, its cgroups and its packet filter. Tests of what does not are the same here as on the host."""

UNDER_SYSTEMD = ("tests/vm/systemd",)
"""What needs systemd as the machine's first process."""

SLOWER = ("-o", "timeout=300", "--leftovers")
"""An emulated machine takes ten times as long; and it is a machine of one's own, on which nothing may be left."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/test vm", description=__doc__.splitlines()[0])
    parser.add_argument("--shell", metavar="COMMAND", help="run this in the machine instead of pytest")
    parser.add_argument("--systemd", action="store_true", help="let systemd be the machine's first process")
    parser.add_argument("--timeout", type=float, default=2400, metavar="SECONDS")
    parser.add_argument("--memory", type=int, default=3072, metavar="MIB")
    parser.add_argument("--emulate", action="store_true", help="software emulation even where KVM works")
    arguments, pytest_arguments = parser.parse_known_args()
    if missing := missing_programs():
        install(missing)
    given: Init = "systemd" if arguments.systemd else "none"
    if arguments.shell:
        runs = [(given, arguments.shell)]
    elif pytest_arguments:
        runs = [(given, tests(*pytest_arguments))]
    else:
        runs = [("none", tests(*CHOSEN)), ("systemd", tests(*UNDER_SYSTEMD))]
    try:
        root = root_disk()
        machine = Machine(
            kernel=root.kernel,
            initramfs=root.initramfs,
            disks=[root.image, checkout_disk(CHECKOUT), environment_disk(CHECKOUT / ".venv")],
            notes=cache_directory(),
            memory=arguments.memory,
            emulate=arguments.emulate,
        )
        codes = [run(machine, init, command, arguments.timeout) for init, command in runs]
        return next(filter(None, codes), 0)
    except MachineFailed as error:
        print(f"tests/vm: {error}", file=sys.stderr)
        return 125


def tests(*arguments: str) -> str:
    """The command line that runs tests in the machine."""
    return shlex.join([".venv/bin/python", "-m", "pytest", *SLOWER, "--durations=10", *arguments])


def run(machine: Machine, init: Init, command: str, timeout: float) -> int:
    """Boot the machine for a command in the checkout; its exit code."""
    begun = time.monotonic()
    code = machine.run(f"cd {shlex.quote(str(CHECKOUT))} && {command}", CHECKOUT, timeout, init=init)
    first = "systemd's machine" if init == "systemd" else "the machine without an init system"
    print(f"tests/vm: {first} took {time.monotonic() - begun:.0f} s ({machine.accelerator})", flush=True)
    return code


def install(packages: list[str]) -> None:
    """Debian packages that making and running the machine needs."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        print("+ apt-get", *command, flush=True)
        subprocess.run(["apt-get", *command], env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
