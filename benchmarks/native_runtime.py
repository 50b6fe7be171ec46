"""What the native runtime itself costs: CPU and time from prefork to the program's end, in a warm process.

    python benchmarks/native_runtime.py [containers]

A container with Docker's default spec (mounts, masks, capabilities, seccomp) over a static busybox, without
cgroups and network. Prints milliseconds per container at the median, by step, and the CPU time of parent and
child together, the program's own (a fork and exec of `true`) not subtracted.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from sampan.oci import defaults
from sampan.runtime.container.stub import prefork_for
from sampan.seccomp import compile_filter, host_architecture, host_kernel, load_profile, resolve


def docker_spec(root: Path) -> dict:
    capabilities = list(defaults.CAPABILITIES)
    binds = [
        {
            "destination": f"/etc/{name}",
            "type": "bind",
            "source": str(root / name),
            "options": ["rbind", "rprivate"],
        }
        for name in ("hosts", "hostname", "resolv.conf")
    ]
    return {
        "ociVersion": "1.2.1",
        "process": {
            "args": ["/bin/true"],
            "env": ["PATH=" + defaults.PATH, "HOSTNAME=bench"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        },
        "root": {"path": "rootfs"},
        "hostname": "bench",
        "mounts": [*[m for m in defaults.mounts() if m["type"] != "cgroup"], *binds],
        "linux": {
            "namespaces": defaults.namespaces(),
            "maskedPaths": defaults.masked_paths(),
            "readonlyPaths": defaults.readonly_paths(),
        },
    }


def make_bundle(directory: Path) -> None:
    (directory / "rootfs/bin").mkdir(parents=True)
    (directory / "rootfs/etc").mkdir()
    shutil.copy("/bin/busybox", directory / "rootfs/bin/true")
    for name in ("hosts", "hostname", "resolv.conf"):
        (directory / name).touch()


def cpu() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    steps: dict[str, list[float]] = {"prefork": [], "configure": [], "start": [], "end": [], "cpu": []}
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name)
        make_bundle(bundle)
        text = json.dumps(docker_spec(bundle))
        profile = resolve(
            load_profile(), list(defaults.CAPABILITIES), arch=host_architecture(), kernel=host_kernel()
        )
        program = compile_filter(profile)
        gc.freeze()
        null = os.open("/dev/null", os.O_RDWR)
        for _ in range(count):
            spec = json.loads(text)
            before = cpu()
            marks = [time.perf_counter()]
            stub = prefork_for(spec)
            marks.append(time.perf_counter())
            stub.configure(
                {"id": "bench", "spec": spec, "bundle": name}, stdio=(null, null, null), seccomp=program
            )
            marks.append(time.perf_counter())
            stub.start()
            marks.append(time.perf_counter())
            os.waitpid(stub.pid, 0)
            marks.append(time.perf_counter())
            stub.close()
            for step, (begin, end) in zip(steps, itertools.pairwise(marks), strict=False):
                steps[step].append(end - begin)
            steps["cpu"].append(cpu() - before)
    for step, values in steps.items():
        print(f"{step:<10} {statistics.median(values) * 1000:7.2f} ms")
    print(f"{'mean cpu':<10} {statistics.mean(steps['cpu']) * 1000:7.2f} ms")


if __name__ == "__main__":
    main()
