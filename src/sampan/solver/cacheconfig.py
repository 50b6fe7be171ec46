"""BuildKit's document of build cache that leaves an engine (`application/vnd.buildkit.cacheconfig.v0`).

It has layers, each with its parent, and records, each with a digest, what it was made of and which layer is its result. What the
digests are is each builder's own matter. Here a record with results is a canonical key; one without, whose input is another
record, is a key that leads to that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from sampan.errors import InvalidParameter
from sampan.names.digest import parse_digest

CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
RECORDS_MAX = 100_000
LAYERS_MAX = 20_000
DEPTH_MAX = 1_000
"""Layers on one another; an image has far fewer."""


class _Result(msgspec.Struct, omit_defaults=True):
    layer: int = 0


class _Chain(msgspec.Struct, omit_defaults=True):
    layers: list[int] = []


class _Input(msgspec.Struct, omit_defaults=True):
    selector: str = ""
    link: int = 0


class _Record(msgspec.Struct, omit_defaults=True):
    layers: list[_Result] | None = None
    chains: list[_Chain] | None = None
    digest: str = ""
    inputs: list[list[_Input] | None] | None = None


class _Layer(msgspec.Struct, omit_defaults=True):
    blob: str = ""
    parent: int = 0


class _Config(msgspec.Struct, omit_defaults=True):
    layers: list[_Layer] | None = None
    records: list[_Record] | None = None


@dataclass(frozen=True, slots=True)
class CacheGraph:
    """What such a document says."""

    results: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By canonical key: the digests of the layers' blobs, lowest first."""
    leads: Mapping[str, str] = field(default_factory=dict)
    """Further keys, and the canonical ones that they lead to."""


def parse(data: bytes, image_layers: Sequence[str] = ()) -> CacheGraph:
    """Read a document; `image_layers` are the layers of the image that it came in, where it has none of its own.

    Raises `InvalidParameter` for what no builder writes: links to nowhere, circles, digests that are none.
    """
    try:
        config = msgspec.json.decode(data, type=_Config)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid cache config: {error}") from None
    records, layers = config.records or [], config.layers or []
    if len(records) > RECORDS_MAX or len(layers) > LAYERS_MAX:
        raise InvalidParameter(f"invalid cache config: {len(records)} records and {len(layers)} layers")
    if not layers:
        layers = [_Layer(blob, number - 1) for number, blob in enumerate(image_layers)]
    results: dict[str, tuple[str, ...]] = {}
    leads: dict[str, str] = {}
    for record in records:
        _checked(record.digest)
        for chain in _chains(record, layers):
            results.setdefault(record.digest, chain)
        target = _target(record, records)
        if target is not None and target != record.digest:
            leads.setdefault(record.digest, target)
    return CacheGraph(results, leads)


def compose(graph: CacheGraph, image_layers: Sequence[str] | None = None) -> bytes:
    """Write a document; the same graph gives the same bytes.

    With `image_layers` it is for an image's configuration: it has no layers of its own, and results are prefixes of the image's.
    """
    layers: list[_Layer] = []
    known: dict[tuple[str, ...], int] = {}
    digests = sorted({*graph.results, *graph.leads, *graph.leads.values()})
    numbers = {digest: number for number, digest in enumerate(digests)}
    records = []
    for digest in digests:
        record = _Record(digest=digest)
        chain = graph.results.get(digest)
        if chain:
            number = len(chain) - 1 if image_layers is not None else _number(chain, layers, known)
            record.layers = [_Result(number)]
        if digest in graph.leads:
            record.inputs = [[_Input(link=numbers[graph.leads[digest]])]]
        records.append(record)
    return _encoded(layers, records)


def _encoded(layers: list[_Layer], records: list[_Record]) -> bytes:
    document: dict[str, object] = {}
    if layers:
        document["layers"] = layers
    document["records"] = [
        {
            # BuildKit's reader takes an absent number for 0, its writer leaves none of these out.
            **({"layers": [{"layer": each.layer} for each in record.layers]} if record.layers else {}),
            "digest": record.digest,
            **(
                {"inputs": [[{"link": each.link} for each in inputs or ()] for inputs in record.inputs]}
                if record.inputs
                else {}
            ),
        }
        for record in records
    ]
    return msgspec.json.encode(document)


def _number(chain: tuple[str, ...], layers: list[_Layer], known: dict[tuple[str, ...], int]) -> int:
    parent = -1
    for length in range(1, len(chain) + 1):
        part = chain[:length]
        if part not in known:
            known[part] = len(layers)
            layers.append(_Layer(part[-1], parent))
        parent = known[part]
    return parent


def _chains(record: _Record, layers: Sequence[_Layer]) -> Iterator[tuple[str, ...]]:
    for result in record.layers or ():
        yield _below(result.layer, layers)
    for chain in record.chains or ():
        if not chain.layers or len(chain.layers) > DEPTH_MAX:
            raise InvalidParameter("invalid cache config: a chain of no or too many layers")
        yield tuple(_blob(number, layers) for number in chain.layers)


def _below(number: int, layers: Sequence[_Layer]) -> tuple[str, ...]:
    chain: list[str] = []
    while number != -1:
        chain.append(_blob(number, layers))
        if len(chain) > DEPTH_MAX:
            raise InvalidParameter("invalid cache config: layers that stand on themselves, or on too many")
        number = layers[number].parent
    if not chain:
        raise InvalidParameter("invalid cache config: a result without a layer")
    return tuple(reversed(chain))


def _blob(number: int, layers: Sequence[_Layer]) -> str:
    if not 0 <= number < len(layers):
        raise InvalidParameter(f"invalid cache config: no layer {number}")
    return _checked(layers[number].blob)


def _target(record: _Record, records: Sequence[_Record]) -> str | None:
    """Whom a record leads to: the only link that it has."""
    links = [link for inputs in record.inputs or () for link in inputs or ()]
    for link in links:
        if not 0 <= link.link < len(records):
            raise InvalidParameter(f"invalid cache config: no record {link.link}")
    return records[links[0].link].digest if len(links) == 1 else None


def _checked(digest: str) -> str:
    try:
        return parse_digest(digest)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid cache config: {error}") from None
