"""Run tests in a small virtual machine: another kernel, cgroup v2 alone, AppArmor.

    bin/test vm                                        # the chosen list below: some minutes, even emulated
    bin/test vm tests/integration/cgroups -k freeze
    bin/test vm tests/integration                      # everything; emulated that takes most of an hour
    bin/test vm --shell 'uname -a; mount'              # any command instead of pytest

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
from pathlib import Path

from vm.disks import cache_directory, checkout_disk, environment_disk, missing_programs, root_disk
from vm.machine import Machine, MachineFailed

CHECKOUT = Path(__file__).resolve().parents[2]
CHOSEN = (
    "tests/vm",
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
)
"""What depends on the kernel, its cgroups and its packet filter. Tests of what does not are the same here as on the host."""

SLOWER = ("-o", "timeout=300", "--leftovers")
"""An emulated machine takes ten times as long; and it is a machine of one's own, on which nothing may be left."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/test vm", description=__doc__.splitlines()[0])
    parser.add_argument("--shell", metavar="COMMAND", help="run this in the machine instead of pytest")
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS")
    parser.add_argument("--memory", type=int, default=3072, metavar="MIB")
    parser.add_argument("--emulate", action="store_true", help="software emulation even where KVM works")
    arguments, pytest_arguments = parser.parse_known_args()
    if missing := missing_programs():
        install(missing)
    command = arguments.shell or shlex.join(
        [".venv/bin/python", "-m", "pytest", *SLOWER, *(pytest_arguments or ["--durations=15", *CHOSEN])]
    )
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
        return machine.run(f"cd {shlex.quote(str(CHECKOUT))} && {command}", CHECKOUT, arguments.timeout)
    except MachineFailed as error:
        print(f"tests/vm: {error}", file=sys.stderr)
        return 125


def install(packages: list[str]) -> None:
    """Debian packages that making and running the machine needs."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        print("+ apt-get", *command, flush=True)
        subprocess.run(["apt-get", *command], env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
