"""How docker words what the API reports: ages, sizes, ids, commands, ports."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from sampan.names.times import human_duration
from sampan.names.units import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ELLIPSIS = "…"


def age(created: float) -> str:
    """`3 minutes`, from seconds since the epoch."""
    return human_duration(int((time.time() - created) * 1e9))


def ago(created: float) -> str:
    """`3 minutes ago`; "N/A" when it was never created."""
    return age(created) + " ago" if created > 0 else "N/A"


def local_time(created: float) -> str:
    """`2026-11-24 04:17:28 +0000 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(created))


def go_time(stamp: str) -> str:
    """An RFC 3339 time of the API as Go prints one: `2026-11-24 04:16:38.796122967 +0000 UTC`."""
    if not stamp.endswith("Z"):
        return stamp
    return stamp[:-1].replace("T", " ") + " +0000 UTC"


def short_id(identifier: str, *, full: bool) -> str:
    """Without algorithm and the first twelve digits, unless `full`."""
    return identifier if full else identifier.partition(":")[2][:12] or identifier[:12]


def clip(text: str, width: int) -> str:
    """At most `width` characters, the last one an ellipsis when something was cut.

    >>> clip("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= width else text[: width - 1] + _ELLIPSIS


def quoted(text: str) -> str:
    """In double quotes, as Go's strconv.Quote writes it."""
    return json.dumps(text, ensure_ascii=False)


def size(number: float) -> str:
    """Three significant digits: `1.98MB`."""
    return human_size(number, 3)


def labels(pairs: Mapping[str, str] | None) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted((pairs or {}).items()))


def ports(entries: Iterable[Mapping[str, Any]]) -> str:
    """`0.0.0.0:8080->80/tcp, 9000-9001/tcp`: neighbouring ports are shown as ranges.

    >>> ports([{"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp", "IP": "0.0.0.0"}, {"PrivatePort": 90, "Type": "udp"}])
    '0.0.0.0:8080->80/tcp, 90/udp'
    """
    order = sorted(
        entries,
        key=lambda entry: (
            entry["PrivatePort"],
            entry.get("IP", ""),
            entry.get("PublicPort", 0),
            entry["Type"],
        ),
    )
    groups: dict[str, list[int]] = {}
    single, ranged = [], []
    for entry in order:
        private, public, address = entry["PrivatePort"], entry.get("PublicPort", 0), entry.get("IP", "")
        key = entry["Type"]
        if address:
            if public != private:
                single.append(f"{_host(address)}:{public}->{private}/{entry['Type']}")
                continue
            key = f"{_host(address)}/{entry['Type']}"
        run = groups.get(key)
        if run is None:
            groups[key] = [private, private]
        elif private == run[1] + 1:
            run[1] = private
        elif private != run[1]:
            ranged.append(_range(key, run))
            groups[key] = [private, private]
    ranged += [_range(key, run) for key, run in sorted(groups.items())]
    return ", ".join([*single, *ranged])


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _range(key: str, run: list[int]) -> str:
    ports = str(run[0]) if run[0] == run[1] else f"{run[0]}-{run[1]}"
    host, separator, protocol = key.rpartition("/")
    return f"{host}:{ports}->{ports}/{protocol}" if separator else f"{ports}/{protocol}"
