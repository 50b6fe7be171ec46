"""Specs from outside: errors name the field, and whatever passes has the shapes of the schema."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidParameter
from sampan.oci.validation import check_process, check_resources, check_spec
from sampan.runtime.command.documents import example_spec


def good() -> dict[str, Any]:
    return example_spec(rootless=False)


def test_the_example_passes_unchanged() -> None:
    document = good()
    assert check_spec(copy.deepcopy(document)) == document
    assert check_spec(example_spec(rootless=True))


def test_null_is_absent_and_unknown_fields_stay() -> None:
    document = good()
    document["hooks"] = None
    document["linux"]["resources"]["memory"] = None
    document["x-own"] = 1
    spec = check_spec(document)
    assert "hooks" not in spec
    assert "memory" not in spec["linux"]["resources"]
    assert document["x-own"] == 1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("ociVersion", 1, "ociVersion: expected a version"),
        ("process.args", ["a", 1], r"process.args\[1\]: expected a string"),
        ("process.args", ["a\0b"], r"process.args\[0\]: expected a string without NUL"),
        ("process.user.uid", 1 << 31, "process.user.uid: 2147483648 is not between 0 and 2147483647"),
        ("process.user.umask", 0o1000, "process.user.umask: 512 is not between"),
        ("process.terminal", 1, "process.terminal: expected a boolean"),
        ("process.cwd", "here", "process.cwd: expected an absolute path"),
        ("process.oomScoreAdj", True, "process.oomScoreAdj: expected an integer"),
        ("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 1}], r"process.rlimits\[0\].hard: missing"),
        (
            "process.capabilities.bounding",
            ["chown"],
            r"process.capabilities.bounding\[0\]: expected a capability",
        ),
        ("root", {}, "root.path: missing"),
        (
            "linux.devices",
            [{"path": "/dev/x", "type": "q"}],
            r"linux.devices\[0\].type: expected one of c, b, u, p",
        ),
        ("linux.sysctl", {"a": 1}, 'linux.sysctl\\["a"\\]: expected a string'),
        ("linux.namespaces", [{"type": "pid"}, {"type": "pid"}], "linux.namespaces: pid is listed twice"),
        ("hooks", {"prestart": [{"path": "x"}]}, r"hooks.prestart\[0\].path: expected an absolute path"),
    ],
)
def test_errors_name_the_field(path: str, value: object, message: str) -> None:
    document = good()
    target = document
    *parents, last = path.split(".")
    for name in parents:
        target = target.setdefault(name, {})
    target[last] = value
    with pytest.raises(InvalidParameter, match=message):
        check_spec(document)


def test_parts_alone() -> None:
    assert check_process({"cwd": "/", "args": ["x"]})
    assert check_resources({"pids": {"limit": 5}})
    with pytest.raises(InvalidParameter, match=r"process\.cwd: missing"):
        check_process({})
    with pytest.raises(InvalidParameter, match=r"resources\.memory\.limit: expected an integer"):
        check_resources({"memory": {"limit": "1g"}})


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.sampled_from(["process", "root", "mounts", "linux", "hooks", "hostname", "annotations"]), _json)
def test_any_value_anywhere_passes_or_names_the_field(field: str, value: object) -> None:
    document = good()
    document[field] = value
    try:
        check_spec(document)
    except InvalidParameter as error:
        assert str(error).startswith(field)
    else:
        json.dumps(document)
