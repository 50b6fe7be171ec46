"""Digests: shape, algorithm and length are checked."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidParameter
from sampan.names import digest


@given(st.binary(), st.sampled_from(sorted(digest.HEX_LENGTH)))
def test_what_is_computed_is_valid(data: bytes, algorithm: str) -> None:
    computed = digest.digest_of(data, algorithm)
    assert digest.parse_digest(computed) == computed
    assert digest.encoded_of(computed) == hashlib.new(algorithm, data).hexdigest()
    assert digest.algorithm_of(computed) == algorithm


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "format"),
        ("sha256", "format"),
        (":" + "a" * 64, "format"),
        ("sha256:" + "a" * 63, "length"),
        ("sha256:abc", "length"),
        ("sha256:" + "A" * 64, "format"),
        ("sha256:" + "g" * 64, "format"),
        ("sha256:" + "a" * 64 + "\n", "format"),
        ("sha256:../../" + "a" * 58, "format"),
        ("md5:" + "a" * 32, "unsupported digest algorithm"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        digest.parse_digest(text)


def test_short_form() -> None:
    assert digest.short("sha256:" + "0123456789abcdef" * 4) == "0123456789ab"
