"""`--cap-add` and `--cap-drop`: from what the user said to a list of capabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sampan.errors import InvalidParameter
from sampan.oci import defaults

ALL = "ALL"


def normalise(names: Iterable[str], *, option: str = "") -> list[str]:
    """Upper case with the prefix `CAP_`; `ALL` stays.

    Raises `InvalidParameter`; `option` (`CapAdd`) says where it was written.
    """
    normal: list[str] = []
    available = set(defaults.available_capabilities())
    for given in names:
        name = given.upper()
        if name == ALL:
            normal.append(name)
            continue
        if not name.startswith("CAP_"):
            name = "CAP_" + name
        prefix = f"invalid {option}: " if option else ""
        if name not in defaults.ALL_CAPABILITIES:
            raise InvalidParameter(f'{prefix}unknown capability: "{name}"')
        if name not in available:
            raise InvalidParameter(
                f'{prefix}capability not supported by your kernel or not available in the current environment: "{name}"'
            )
        normal.append(name)
    return normal


def effective(add: Sequence[str] | None, drop: Sequence[str] | None, *, privileged: bool) -> list[str]:
    """What the container's root may do, in the kernel's order."""
    if privileged:
        return defaults.available_capabilities()
    if not add and not drop:
        return list(defaults.CAPABILITIES)
    added, dropped = normalise(add or ()), normalise(drop or ())
    if ALL in added:
        base = [name for name in defaults.available_capabilities() if name not in dropped]
    elif ALL in dropped:
        base = list(added)
    else:
        base = [name for name in defaults.CAPABILITIES if name not in dropped]
        base.extend(name for name in added if name not in base)
    wanted = set(base)
    return [name for name in defaults.ALL_CAPABILITIES if name in wanted]
