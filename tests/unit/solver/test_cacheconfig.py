"""BuildKit's cache config: what is written is read again, and nothing hostile is more than an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidParameter
from sampan.solver.cacheconfig import CacheGraph, compose, parse


def _digest(number: int) -> str:
    return f"sha256:{number:064x}"


_DIGESTS = st.integers(0, 30).map(_digest)
_RESULTS = st.dictionaries(_DIGESTS, st.lists(_DIGESTS, min_size=1, max_size=5).map(tuple), max_size=8)


@given(_RESULTS, st.dictionaries(_DIGESTS, _DIGESTS, max_size=8))
def test_what_is_written_is_read_again(results: dict[str, tuple[str, ...]], leads: dict[str, str]) -> None:
    leads = {key: lead for key, lead in leads.items() if key != lead}
    graph = CacheGraph(results, leads)
    data = compose(graph)
    assert parse(data) == graph
    assert compose(CacheGraph(dict(reversed(results.items())), leads)) == data


def test_the_form_is_buildkits() -> None:
    """A parent that is the lowest layer's is -1; numbers are never left out."""
    one, two = _digest(1), _digest(2)
    document = json.loads(compose(CacheGraph({_digest(8): (one, two)}, {_digest(9): _digest(8)})))
    assert document == {
        "layers": [{"blob": one, "parent": -1}, {"blob": two}],
        "records": [
            {"layers": [{"layer": 1}], "digest": _digest(8)},
            {"digest": _digest(9), "inputs": [[{"link": 0}]]},
        ],
    }


def test_records_of_an_image_name_its_layers_by_number() -> None:
    layers = [_digest(1), _digest(2), _digest(3)]
    graph = CacheGraph({_digest(8): tuple(layers[:2])}, {})
    data = compose(graph, image_layers=())
    assert "blob" not in data.decode()
    assert parse(data, layers) == graph


def test_what_buildkit_writes_is_read() -> None:
    """With times, selectors, several inputs and chains (merged results)."""
    document = {
        "layers": [{"blob": _digest(1), "parent": -1}, {"blob": _digest(2), "parent": -1}],
        "records": [
            {"digest": _digest(5)},
            {"digest": _digest(6), "layers": [{"layer": 0, "createdAt": "2026-01-02T03:04:05Z"}]},
            {
                "digest": _digest(7),
                "inputs": [[{"selector": "sha256:ab", "link": 0}], [{"link": 1}]],
                "chains": [{"layers": [0, 1], "createdAt": "2026-01-02T03:04:05Z"}],
            },
        ],
    }
    read = parse(json.dumps(document).encode())
    assert read.results == {_digest(6): (_digest(1),), _digest(7): (_digest(1), _digest(2))}
    assert read.leads == {}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"records": [{"digest": "../../etc"}]},
        {"records": [{"digest": _digest(1), "layers": [{"layer": 0}]}]},
        {"records": [{"digest": _digest(1), "layers": [{"layer": -1}]}]},
        {"records": [{"digest": _digest(1), "inputs": [[{"link": 1}]]}]},
        {"layers": [{"blob": _digest(1)}], "records": [{"digest": _digest(1), "layers": [{"layer": 0}]}]},
        {
            "layers": [{"blob": "sha256:x", "parent": -1}],
            "records": [{"digest": _digest(1), "layers": [{"layer": 0}]}],
        },
    ],
)
def test_what_no_builder_writes_is_refused(document: Any) -> None:
    with pytest.raises(InvalidParameter, match="invalid cache config"):
        parse(json.dumps(document).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_an_error_or_a_graph(data: bytes) -> None:
    try:
        parse(data)
    except InvalidParameter:
        pass
