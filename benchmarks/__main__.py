"""Run the rows and print the table."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.parity.peers import PEERS

from benchmarks import console, contestants, footprint, imaging, latency, output, plot, report, traffic
from benchmarks.material import Material
from benchmarks.row import Arena, Row

# The footprint at rest comes first: afterwards an engine has done something.
ROWS: tuple[Row, ...] = (
    *footprint.ROWS[:2],
    *latency.ROWS,
    *imaging.ROWS,
    *output.ROWS,
    *traffic.ROWS,
    *footprint.ROWS[2:],
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", default="", help="only these, by key: " + ",".join(row.key for row in ROWS))
    parser.add_argument("--peer", choices=PEERS, default="docker.io", help="the dockerd to hold against")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds and small crowds: does it work at all"
    )
    parser.add_argument("--full", action="store_true", help="1 GB of log instead of 200 MB")
    parser.add_argument(
        "--quiet-console", action="store_true", help="keep the kernel's log off the console, for both engines"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("build/benchmarks"), help="where results.json and ratios.svg go"
    )
    return parser.parse_args()


def main() -> int:
    """0 when every row passed."""
    options = _arguments()
    wanted = options.rows.split(",") if options.rows else [row.key for row in ROWS]
    unknown = set(wanted) - {row.key for row in ROWS}
    if unknown:
        raise SystemExit(f"no such row: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        raise SystemExit("the benchmarks start two engines: they need root")
    with ExitStack() as stack:
        if options.quiet_console:
            stack.enter_context(console.quiet())
        done = _run(_arena(stack, options), wanted, options)
    return 0 if all(row["passed"] for row in done) else 1


def _run(arena: Arena, wanted: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure, print and write; the engines are still up, so an end that takes long or fails loses nothing."""
    began = time.time()
    load_before = os.getloadavg()
    done = [_measured(row, arena) for row in ROWS if row.key in wanted]
    result = {
        "peer": options.peer,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "seconds": round(time.time() - began),
        "machine": {"cpus": os.cpu_count(), "kernel": os.uname().release, "console_level": console.level()},
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "rows": done,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.output / "ratios.svg").write_text(plot.svg(done, options.peer))
    print()
    print(report.table(done, options.peer))
    load = f"load average {load_before[0]:.1f} before, {os.getloadavg()[0]:.1f} after"
    print(
        f"\n{os.cpu_count()} CPUs, kernel {os.uname().release}, console level {console.level()}; {load}; "
        f"{result['seconds']} s; {options.output}/results.json, ratios.svg",
        flush=True,
    )
    return done


def _arena(stack: ExitStack, options: argparse.Namespace) -> Arena:
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    sampan = stack.enter_context(contestants.sampan())
    docker = stack.enter_context(contestants.docker(options.peer))
    arena = Arena(
        sampan=sampan,
        docker=docker,
        floor=stack.enter_context(contestants.floor()),
        material=Material(scratch),
        rounds=5 if options.quick else 20,
        megabytes=1000 if options.full else 20 if options.quick else 200,
        crowd=20 if options.quick else 200,
        crowds=stack.enter_context(footprint.crowds((docker, sampan))),
    )
    archive = arena.material.busybox()
    for engine in arena.engines:
        engine.docker("load", "-i", str(archive))
    return arena


def _measured(row: Row, arena: Arena) -> dict[str, Any]:
    print(f"{row.key} …", end=" ", flush=True)
    summary = report.summary(row, row.measure(arena), arena.docker.name)
    medians = ", ".join(f"{name} {value['median']:.4g}" for name, value in summary["values"].items())
    print(f"{medians} {row.unit}", flush=True)
    return summary


if __name__ == "__main__":
    sys.exit(main())
