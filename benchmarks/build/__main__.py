"""Run the builds and print two tables: BuildKit's protocol, and the classic builder.

Ends with 1 when a gate is missed. `--rows` names rows by their key; what is not measured is not built.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from benchmarks.build import builders, rows, table
from benchmarks.material import Material

FAMILIES = ("buildkit", "classic")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.build", description=__doc__)
    parser.add_argument(
        "--rows", default=",".join(rows.KEYS), help="only these, by key: " + ",".join(rows.KEYS)
    )
    parser.add_argument("--family", choices=FAMILIES, help="one of the two tables")
    parser.add_argument("--quick", action="store_true", help="few rounds, little data: does it work at all")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks/build.json"))
    return parser.parse_args()


def main() -> int:
    """0 when every gate holds."""
    options = _arguments()
    wanted = frozenset(options.rows.split(","))
    if unknown := wanted - set(rows.KEYS):
        raise SystemExit(f"no such row: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        raise SystemExit("the benchmarks start engines: they need root")
    began, load = time.time(), os.getloadavg()
    results: dict[str, list[dict[str, Any]]] = {}
    tables: list[str] = []
    good = True
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        scratch = Path(directory)
        with builders.all_of_them(Material(scratch).busybox()) as everybody:
            for family, course in zip(
                FAMILIES,
                rows.courses(everybody, scratch, rows.QUICK if options.quick else rows.FULL),
                strict=True,
            ):
                if options.family not in (None, family):
                    continue
                peer, own = course.peer.name, course.own.name
                done = []
                for row in course.rows(wanted):
                    print(table.table([row], peer, own).splitlines()[-1], flush=True)
                    done.append(row)
                good &= table.passed(done, peer, own)
                results[family] = [table.as_json(row, peer, own) for row in done]
                tables.append(table.table(done, peer, own))
            _write(options.output, results, began, load)
            print("\n" + "\n\n".join(tables))
            print(_circumstances(began, load), flush=True)
    return 0 if good else 1


def _write(
    target: Path, results: dict[str, list[dict[str, Any]]], began: float, load: tuple[float, ...]
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "machine": {"cpus": os.cpu_count(), "kernel": os.uname().release},
        "load_average": {"before": load, "after": os.getloadavg()},
        "rows": results,
    }
    target.write_text(json.dumps(result, indent=1) + "\n")


def _circumstances(began: float, load: tuple[float, ...]) -> str:
    return (
        f"\nMedians (range) of the client's whole run; CPU: milliseconds of the engine and its steps. {os.cpu_count()} CPUs, "
        f"kernel {os.uname().release}; load average {load[0]:.1f} before, {os.getloadavg()[0]:.1f} after; "
        f"{time.time() - began:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
