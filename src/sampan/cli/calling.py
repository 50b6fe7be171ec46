"""`sampan build --call=…` and `--check`: what is asked of the frontend instead of a build, and how its answer is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.cli.errors import ExitStatus
from sampan.errors import InvalidParameter
from sampan.names.booleans import word_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Call(NamedTuple):
    """One question, as buildx reads `--call=check,format=json,ignorestatus=true`."""

    name: str
    """Of the frontend's request, without its prefix."""
    as_json: bool
    ignore_status: bool


def read_call(text: str) -> Call | None:
    """None for a build. Raises `InvalidParameter`."""
    name, form, ignored = "", "", "false"
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals:
            if name:
                raise InvalidParameter(f"invalid value {text!r} for --call: expected one method")
            name = field
        elif key == "format":
            form = value
        elif key == "ignorestatus":
            ignored = value
        else:
            raise InvalidParameter(f"invalid value {field!r} for --call: expected format or ignorestatus")
    ignores = word_for(ignored)
    if ignores is None:
        raise InvalidParameter(f"invalid ignorestatus value {ignored!r} for --call")
    if name in ("", "build"):
        return None
    return Call("lint" if name == "check" else name, form == "json", ignores)


def show_answer(call: Call, answer: Mapping[str, str]) -> None:
    """Print it. Raises `ExitStatus` when what was checked is not in order."""
    if call.as_json:
        print(answer["result.json"])
    elif call.name == "lint":
        _show_checks(answer)
    else:
        print(answer["result.txt"], end="")
    status = answer.get("result.statuscode", "0")
    if status != "0" and not call.ignore_status:
        raise ExitStatus(int(status), _mistake(answer))


def _show_checks(answer: Mapping[str, str]) -> None:
    import json

    found = json.loads(answer["result.json"])
    count = len(found["warnings"] or ())
    if count == 1:
        print("Check complete, 1 warning has been found!")
    elif count:
        print(f"Check complete, {count} warnings have been found!")
    elif "buildError" not in found:
        print("Check complete, no warnings found.")
    print(answer["result.txt"], end="")


def _mistake(answer: Mapping[str, str]) -> str:
    """Why the file cannot be built, with its place; "" when nothing but warnings was found."""
    import json

    found: dict[str, Any] = json.loads(answer["result.json"])
    if not isinstance(found, dict) or "buildError" not in found:
        return ""
    mistake = found["buildError"]
    lines = [each["start"]["line"] for each in mistake["location"].get("ranges", ())]
    return f"ERROR: {mistake['message']}" + (f"\n{_excerpt(found['sources'][0], lines)}" if lines else "")


def _excerpt(source: Mapping[str, str], lines: Sequence[int]) -> str:
    import base64

    from sampan.dockerfile.source import Place, Source

    text = base64.b64decode(source["data"]).decode(errors="replace")
    return Source(source["filename"], tuple(text.split("\n"))).excerpt(Place(lines[0], lines[-1]))
