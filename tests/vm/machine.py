"""Start qemu, show what the guest prints, bring back its exit code."""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

Init = Literal["none", "systemd"]
"""What is the guest's first process: the command's own shell, or an init system."""

_BOOT_SECONDS = {"kvm": 20, "tcg": 180}
"""Until the guest's kernel has started its first process; emulated it takes four, on a machine that has nothing else to do."""


_CPU = {
    "kvm": "max,-arch-capabilities",  # an MSR that nested KVM often cannot set
    "tcg": "max",
}


class MachineFailed(Exception):
    """The machine did not do its part: no boot, no exit code, too slow."""


class Machine:
    """One virtual machine, made anew for each `run`: all writes to its disks are forgotten."""

    def __init__(
        self,
        *,
        kernel: Path,
        initramfs: Path,
        disks: Sequence[Path],
        notes: Path,
        memory: int = 2048,
        emulate: bool = False,
    ) -> None:
        """`notes` is a directory that remembers, until the host's next boot, that KVM does not work."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._useless_kvm = notes / f"useless-kvm-{boot}"
        self._kernel = kernel
        self._initramfs = initramfs
        self._disks = disks
        self._memory = memory
        self.accelerator = "tcg" if emulate or self._useless_kvm.exists() or not _kvm_opens() else "kvm"

    def run(self, command: str, checkout: Path, timeout: float, *, init: Init = "none") -> int:
        """Run a shell command as root in the guest, its output on our stdout; its exit code.

        With `init` "systemd" that is the guest's first process, and the command one of its services. Raises MachineFailed when the
        guest dies without telling a code, or `timeout` seconds pass.
        """
        script = f"CHECKOUT={base64.b64encode(os.fsencode(checkout)).decode()} INIT={init}\n{command}\n"
        code = self._boot(script, timeout)
        if code is None and self.accelerator == "kvm":
            # /dev/kvm that opens says little where virtual machines are nested: some never get past the boot loader.
            print(
                "tests/vm: /dev/kvm opens, but no guest boots with it: using software emulation", flush=True
            )
            self._useless_kvm.touch()
            self.accelerator = "tcg"
            code = self._boot(script, timeout)
        if code is None:
            raise MachineFailed(
                f"the guest's kernel did not start within {_BOOT_SECONDS[self.accelerator]} s"
            )
        return code

    def _boot(self, script: str, timeout: float) -> int | None:
        """One try; None when not even the guest's kernel came up."""
        with tempfile.TemporaryDirectory(prefix="sampan-vm-") as directory:
            status = Path(directory, "status")
            status.touch()
            # By fw_cfg, because the kernel's command line is short and has no quoting.
            message = Path(directory, "command")
            message.write_text(script)
            qemu = subprocess.Popen(self._command(status, message), stdin=subprocess.DEVNULL)
            try:
                try:
                    qemu.wait(_BOOT_SECONDS[self.accelerator])
                except subprocess.TimeoutExpired:
                    if not status.read_text():
                        return None
                    qemu.wait(timeout)
            except subprocess.TimeoutExpired:
                raise MachineFailed(f"the guest was stopped after {timeout:g} s") from None
            finally:
                qemu.kill()
                qemu.wait()
            lines = status.read_text().split()
        if not lines:
            return None
        if len(lines) != 2 or not lines[1].isdigit():
            raise MachineFailed(f"the guest ended without an exit code (qemu: {qemu.returncode})")
        return int(lines[1])

    def _command(self, status: Path, message: Path) -> list[str]:
        command = [
            "qemu-system-x86_64",
            *("-machine", f"q35,accel={self.accelerator}", "-cpu", _CPU[self.accelerator]),
            *("-m", str(self._memory), "-smp", str(min(os.cpu_count() or 1, 4))),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", str(self._kernel), "-initrd", str(self._initramfs)),
            # panic=-1 with -no-reboot: a kernel panic ends the run at once. no_timer_check: on a host without time to spare the
            # emulated timer seems broken to the kernel, which then gives up.
            *(
                "-append",
                "console=ttyS0 quiet loglevel=1 panic=-1 no_timer_check apparmor=1 security=apparmor cgroup_no_v1=all",
            ),
            *("-serial", "stdio", "-serial", f"file:{status}"),
            *("-fw_cfg", f"name=opt/sampan/command,file={message}"),
            *("-nic", "user,model=virtio-net-pci"),
            *("-device", "virtio-rng-pci"),
        ]
        for disk in self._disks:
            command += ["-drive", f"file={disk},format=raw,if=virtio,snapshot=on,cache=unsafe"]
        return command


def _kvm_opens() -> bool:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True
