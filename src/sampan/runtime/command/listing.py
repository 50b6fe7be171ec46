"""state, list and ps: what is known of containers, in runc's formats."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from sampan.errors import SampanError
from sampan.runtime.command import state as states
from sampan.runtime.command.documents import SPEC_VERSION

if TYPE_CHECKING:
    from sampan.runtime.command.arguments import Parsed
    from sampan.runtime.command.main import Context


def _document(container: states.Container, owner: str) -> dict[str, object]:
    record = container.record
    status = container.status()
    document: dict[str, object] = {
        "ociVersion": SPEC_VERSION,
        "id": record["id"],
        "pid": 0 if status == "stopped" else record["pid"],
        "status": status,
        "bundle": record["bundle"],
        "rootfs": record["rootfs"],
        "created": record["created"],
    }
    annotations = record["spec"].get("annotations")
    if annotations:
        document["annotations"] = annotations
    document["owner"] = owner
    return document


def state(context: Context, options: Parsed) -> None:
    """One container, as JSON."""
    try:
        container = states.load(context.root, options.rest[0])
        sys.stdout.write(json.dumps(_document(container, ""), indent=2, ensure_ascii=False))
    except SampanError as error:
        context.fail(str(error))


def list_containers(context: Context, options: Parsed) -> None:
    """All of them: a table, JSON, or only ids."""
    containers = states.load_all(context.root)
    if options.flag("quiet"):
        sys.stdout.write("".join(container.record["id"] + "\n" for container in containers))
        return
    documents = [_document(container, _owner(container.record["owner"])) for container in containers]
    form = options.text("format") or "table"
    if form == "json":
        sys.stdout.write(json.dumps(documents or None, separators=(",", ":"), ensure_ascii=False) + "\n")
    elif form == "table":
        columns = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
        rows = [[str(document[column.lower()]) for column in columns] for document in documents]
        sys.stdout.write(_table([list(columns), *rows]))
    else:
        context.fail("invalid format option")


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _table(rows: list[list[str]]) -> str:
    """Columns at least 12 wide, 3 apart (Go's tabwriter as runc sets it up); the last one is not padded."""
    widths = [max(12, *(len(row[column]) + 3 for row in rows)) for column in range(len(rows[0]) - 1)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] + "\n"
        for row in rows
    )


def ps(context: Context, options: Parsed) -> None:
    """The host's `ps`, cut to the container's processes; or their pids as JSON."""
    try:
        container = states.load(context.root, options.rest[0])
    except SampanError as error:
        context.fail(str(error))
    pids = container.cgroup.processes()
    form = options.text("format") or "table"
    if form == "json":
        sys.stdout.write(json.dumps(pids or None, separators=(",", ":")) + "\n")
        return
    if form != "table":
        context.fail("invalid format option")
    try:
        lines = _run_ps(options.rest[1:] or ["-ef"])
    except OSError as error:
        context.fail(str(error))
    try:
        column = lines[0].split().index("PID")
    except (IndexError, ValueError):
        context.fail("couldn't find PID field in ps output")
    wanted = {str(pid) for pid in pids}
    sys.stdout.write(lines[0] + "\n")
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > column and fields[column] in wanted:
            sys.stdout.write(line + "\n")


def _run_ps(arguments: list[str]) -> list[str]:
    """The lines that it prints. Raises OSError with what it says when it fails."""
    output, errors = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("output", "errors"))
    actions = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, errors, 2)]
    pid = os.posix_spawnp("ps", ["ps", *arguments], os.environ, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    texts = []
    for descriptor in (output, errors):
        with open(descriptor, encoding="utf-8", errors="replace") as file:
            file.seek(0)
            texts.append(file.read())
    if status != 0:
        raise OSError(f"exit status {os.waitstatus_to_exitcode(status)}: {texts[1]}")
    return texts[0].splitlines()
