"""Where the time of one container goes, as the engine's side sees it: launch, start, exit, close; exec; memory.

sudo .venv/bin/python benchmarks/runtime_steps.py [containers]
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/integration"))

from runtime.containers import Bench, bench, make_rootfs, process


def show(name: str, samples: list[float]) -> None:
    ordered = sorted(samples)
    print(
        f"{name:28} {statistics.median(ordered) * 1e3:8.2f} {ordered[0] * 1e3:8.2f} {ordered[-1] * 1e3:8.2f}  ms"
    )


async def spare(b: Bench) -> None:
    while len(b.launcher._pool._spares) < b.config.parked:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def life(b: Bench, count: int, *, parked: bool) -> None:
    steps: dict[str, list[float]] = {
        "launch": [],
        "start": [],
        "exit": [],
        "launch+start+exit": [],
        "close": [],
    }
    for _ in range(count):
        if parked:
            await spare(b)
        request = b.request(["true"])
        at = [time.perf_counter()]
        shim = await b.launcher.launch(request)
        at.append(time.perf_counter())
        await shim.start()
        at.append(time.perf_counter())
        await shim.wait()
        at.append(time.perf_counter())
        await shim.close()
        at.append(time.perf_counter())
        for name, begin, end in (
            ("launch", 0, 1),
            ("start", 1, 2),
            ("exit", 2, 3),
            ("launch+start+exit", 0, 3),
            ("close", 3, 4),
        ):
            steps[name].append(at[end] - at[begin])
    for name, samples in steps.items():
        show(f"{'parked' if parked else 'fresh'}: {name}", samples)


async def execs(b: Bench, count: int) -> None:
    shim = await b.launch(["sleep", "1000"])
    await shim.start()
    for prepared in (False, True):
        samples = []
        for number in range(count):
            await asyncio.sleep(0.05)  # else the kernel is still in the cheap phase after the last attach
            if prepared:
                await shim.prepare_exec()
                await asyncio.sleep(0.004)  # what the CLI takes from create to start
            begin = time.perf_counter()
            handle, _ = await shim.exec(
                {
                    "exec_id": f"{prepared}{number}",
                    "process": process(["true"]),  # type: ignore[typeddict-item]
                    "stdio": {"tty": False, "open_stdin": False, "stdin_once": False},
                },
                attach=None,
            )
            await handle.wait()
            samples.append(time.perf_counter() - begin)
        show("exec, prepared" if prepared else "exec", samples)
    with open(f"/proc/{shim.pid}/smaps_rollup", encoding="ascii") as file:
        pss = next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    print(f"{'shim PSS':28} {pss / 1024:8.2f} MiB")
    await shim.close()


async def main(count: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="sampan-bench-"))
    try:
        root = make_rootfs(directory)
        print(f"{'':28} {'median':>8} {'best':>8} {'worst':>8}")
        async with bench(root, directory / "work", parked=2) as b:
            await life(b, count, parked=True)
            await execs(b, count)
        async with bench(root, directory / "work", parked=0) as b:
            await life(b, count, parked=False)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
