"""Run tests in a small virtual machine: another kernel, cgroup v2 alone, AppArmor.

    bin/test vm                                        # all integration tests
    bin/test vm tests/integration/cgroups -k freeze
    bin/test vm --shell 'uname -a; mount'              # any command instead of pytest

The first run makes the machine's disk from Debian packages (under a minute) and keeps it in the cache directory;
later runs boot in a few seconds. /dev/kvm is used where it opens, else software emulation. Needs root, as mmdebstrap
does, and qemu-system-x86, mmdebstrap, e2fsprogs, busybox-static. The exit code is the command's; 125 when the
machine itself failed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from vm.disks import cache_directory, checkout_disk, environment_disk, missing_programs, root_disk
from vm.machine import Machine, MachineFailed

CHECKOUT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/test vm", description=__doc__.splitlines()[0])
    parser.add_argument("--shell", metavar="COMMAND", help="run this in the machine instead of pytest")
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS")
    parser.add_argument("--memory", type=int, default=3072, metavar="MIB")
    parser.add_argument("--emulate", action="store_true", help="software emulation even where KVM works")
    arguments, pytest_arguments = parser.parse_known_args()
    if missing := missing_programs():
        print(f"tests/vm needs: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 125
    command = arguments.shell or shlex.join(
        [".venv/bin/python", "-m", "pytest", *(pytest_arguments or ["tests/integration"])]
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


if __name__ == "__main__":
    sys.exit(main())
