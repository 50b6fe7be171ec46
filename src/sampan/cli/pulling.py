"""Progress of a pull or load, as docker prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from sampan.client.images import checked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.client.api import Api


def pull(api: Api, name: str, *, platform: str, quiet: bool, out: TextIO, every_tag: bool = False) -> None:
    """Pull an image, or every tag of its repository, progress to `out`. Raises the error that the engine reports."""
    from sampan.cli.credentials import auth_header
    from sampan.names.reference import parse_normalized

    reference = parse_normalized(name)
    query = {
        "fromImage": reference.name,
        "tag": None if every_tag else reference.digest or reference.tag or "latest",
        "platform": platform or None,
    }
    response = api.request("POST", "/images/create", query, headers=auth_header(reference.domain))
    show(response.json_stream(), quiet=quiet, out=out)


def show(messages: Iterable[dict[str, Any]], *, quiet: bool, out: TextIO) -> None:
    """Print progress messages: lines, and in a terminal one bar per layer."""
    if quiet or not out.isatty():
        for message in checked(messages):
            if not quiet:
                _print_plain(message, out)
        return
    _show_bars(messages, out)


def _print_plain(message: dict[str, Any], out: TextIO) -> None:
    if "stream" in message:
        out.write(message["stream"])
    elif (message.get("progressDetail") or {}).get("total"):
        return  # bars are for terminals
    elif "status" in message:
        prefix = f"{message['id']}: " if message.get("id") else ""
        out.write(f"{prefix}{message['status']}\n")
    out.flush()


def _show_bars(messages: Iterable[dict[str, Any]], out: TextIO) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=Console(file=out)) as progress:
        tasks: dict[str, Any] = {}
        for message in checked(messages):
            detail = message.get("progressDetail") or {}
            if not detail.get("total"):
                text = message.get("stream") or message.get("status", "")
                if message.get("id") in tasks:
                    progress.update(tasks[message["id"]], description=f"{message['id']}: {text}")
                elif text:
                    progress.console.print(text.rstrip("\n"), highlight=False)
                continue
            name = message.get("id", "")
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=detail["total"])
            progress.update(
                tasks[name],
                completed=detail.get("current", 0),
                total=detail["total"],
                description=f"{name}: {message.get('status', '')}",
            )
