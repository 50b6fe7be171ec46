"""Image documents: what Docker writes is read, what has the wrong shape is refused by its field."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidParameter
from sampan.names.digest import digest_of
from sampan.oci import image

DIGEST = digest_of(b"x")
DESCRIPTOR = {"mediaType": image.OCI_LAYER_GZIP, "digest": DIGEST, "size": 3}
MANIFEST = {"schemaVersion": 2, "mediaType": image.OCI_MANIFEST, "config": DESCRIPTOR, "layers": [DESCRIPTOR]}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_manifest_reads_and_writes_the_same_bytes() -> None:
    manifest = image.parse_manifest(_json(MANIFEST))
    assert manifest.layers[0].checked_digest == DIGEST
    assert json.loads(image.encode(manifest)) == MANIFEST
    assert image.encode(image.parse_manifest(image.encode(manifest))) == image.encode(manifest)


def test_an_index_with_platforms() -> None:
    document = {
        "schemaVersion": 2,
        "manifests": [
            {
                **DESCRIPTOR,
                "platform": {"architecture": "arm", "os": "linux", "variant": "v7", "os.features": ["x"]},
            },
            {**DESCRIPTOR, "platform": None, "annotations": {"a": "b"}, "future": 1},
        ],
    }
    index = image.parse_index(_json(document))
    assert index.manifests[0].platform is not None
    assert index.manifests[0].platform.variant == "v7"
    assert index.manifests[0].platform.os_features == ("x",)
    assert index.manifests[1].annotations == {"a": "b"}


def test_a_config_as_docker_writes_it() -> None:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {
            "Env": ["A=1"],
            "Cmd": "sh",
            "Entrypoint": None,
            "ExposedPorts": {"80/tcp": {}},
            "Volumes": None,
            "OnBuild": [],
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1000000000},
            "ArgsEscaped": True,
            "StopSignal": "SIGQUIT",
            "Shell": ["/bin/bash", "-c"],
        },
        "container_config": {"Cmd": ["#(nop)"]},
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "history": [{"created_by": "a"}, {"created_by": "b", "empty_layer": True}],
        "moby.buildkit.cache.v0": "x",
    }
    config = image.parse_config(_json(document))
    assert config.config is not None
    assert config.config.cmd == ["sh"]
    assert config.config.entrypoint is None
    assert config.config.on_build == []
    assert config.config.healthcheck is not None
    assert config.config.healthcheck.interval == 10**9
    assert config.config.stop_signal == "SIGQUIT"
    assert config.container_config is not None
    assert [step.empty_layer for step in config.history] == [False, True]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schemaVersion": 1}, r"\$\.schemaVersion"),
        ({"config": None}, "config"),
        ({"config": {**DESCRIPTOR, "size": "3"}}, r"\$\.config\.size"),
        ({"config": {**DESCRIPTOR, "size": -1}}, r"negative size.*\$\.config"),
        ({"layers": {}}, r"\$\.layers"),
        (
            {"layers": [DESCRIPTOR, {**DESCRIPTOR, "digest": "sha256:../../etc"}]},
            r"invalid checksum.*\$\.layers\[.*\]",
        ),
        ({"layers": [{"size": 1}]}, "digest"),
        ({"manifests": []}, "manifests"),
        ({"annotations": {"a": 1}}, r"\$\.annotations"),
    ],
)
def test_wrong_shapes_are_refused_by_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidParameter, match=f"m.json: .*{field}"):
        image.parse_manifest(_json({**MANIFEST, **change}), "m.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"{", b"\xff", b'{"a":' * 5000, b"null"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    for parse in (image.parse_manifest, image.parse_index, image.parse_config, image.parse_layout):
        with pytest.raises(InvalidParameter):
            parse(data)
    with pytest.raises(InvalidParameter):
        image.parse_archive_manifest(data if data != b"[]" else b"{}")


def test_an_oversized_document_is_refused_unread() -> None:
    with pytest.raises(InvalidParameter, match="more than the"):
        image.parse_config(b" " * (image.DOCUMENT_LIMIT + 1))


def test_a_docker_archives_manifest() -> None:
    (entry,) = image.parse_archive_manifest(
        _json(
            [
                {
                    "Config": "c.json",
                    "RepoTags": None,
                    "Layers": ["a/layer.tar"],
                    "LayerSources": {DIGEST: DESCRIPTOR},
                }
            ]
        )
    )
    assert (entry.config, entry.repo_tags, entry.layers) == ("c.json", None, ["a/layer.tar"])
    assert entry.layer_sources[DIGEST].size == 3


def test_layout_version() -> None:
    assert image.parse_layout(b'{"imageLayoutVersion": "1.0.0"}').image_layout_version == "1.0.0"
    with pytest.raises(InvalidParameter, match="unsupported image layout version"):
        image.parse_layout(b'{"imageLayoutVersion": "2.0.0"}')


def test_chain_ids_are_those_of_the_specification() -> None:
    a, b = digest_of(b"a"), digest_of(b"b")
    assert image.chain_ids([a, b]) == [a, digest_of(f"{a} {b}".encode())]
    assert image.chain_ids([]) == []


_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_fields = st.sampled_from(
    ["schemaVersion", "config", "layers", "rootfs", "history", "manifests", "annotations", "os"]
)


@given(st.dictionaries(_fields, _value))
def test_any_json_is_a_document_or_an_invalid_parameter(document: dict[str, object]) -> None:
    for parse in (image.parse_manifest, image.parse_index, image.parse_config):
        try:
            parsed = parse(_json(document))
        except InvalidParameter:
            continue
        assert isinstance(parsed, msgspec.Struct)
