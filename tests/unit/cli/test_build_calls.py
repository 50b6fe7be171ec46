"""`sampan build --call`: what is asked, and how an answer is shown."""

from __future__ import annotations

import base64
import json

import pytest

from sampan.cli.calling import Call, read_call, show_answer
from sampan.cli.errors import ExitStatus
from sampan.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("build", None),
        ("", None),
        ("check", Call("lint", as_json=False, ignore_status=False)),
        ("lint,format=json", Call("lint", as_json=True, ignore_status=False)),
        ("format=json,outline", Call("outline", as_json=True, ignore_status=False)),
        ("check,ignorestatus=true", Call("lint", as_json=False, ignore_status=True)),
        ("subrequests.describe", Call("subrequests.describe", as_json=False, ignore_status=False)),
    ],
)
def test_calls_are_read_as_buildx_reads_them(text: str, call: Call | None) -> None:
    assert read_call(text) == call


@pytest.mark.parametrize("text", ["check,outline", "check,form=json", "check,ignorestatus=maybe"])
def test_calls_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameter):
        read_call(text)


def answer(status: int, **told: object) -> dict[str, str]:
    sources = [{"filename": "Dockerfile", "data": base64.b64encode(b"FROM a\nRUNN\n").decode()}]
    parts = {"warnings": None, "sources": sources, **told}
    return {
        "result.json": json.dumps(parts),
        "result.txt": "text\n" if status else "",
        "result.statuscode": str(status),
    }


def test_an_answer_ends_with_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    check = Call("lint", as_json=False, ignore_status=False)
    show_answer(check, answer(0))
    assert capsys.readouterr().out == "Check complete, no warnings found.\n"
    found = answer(1, warnings=[{}, {}])
    with pytest.raises(ExitStatus) as left:
        show_answer(check, found)
    assert (left.value.status, str(left.value)) == (1, "")
    assert capsys.readouterr().out == "Check complete, 2 warnings have been found!\ntext\n"
    show_answer(check._replace(ignore_status=True), found)
    place = {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]}
    with pytest.raises(ExitStatus) as left:
        show_answer(check, answer(1, buildError={"message": "unknown", "location": place}))
    assert str(left.value).startswith("ERROR: unknown\nDockerfile:2\n")
    assert "   2 | >>> RUNN" in str(left.value)
