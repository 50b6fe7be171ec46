"""References: the distribution project's grammar, and Docker's words for what is wrong."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidParameter
from sampan.names import reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("me/app", "docker.io/me/app", "me/app"),
        ("library/busybox", "docker.io/library/busybox", "busybox"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/me/app:x", "docker.io/me/app:x", "me/app:x"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        ("Registry/app", "Registry/app", "Registry/app"),
        ("a.b/c/d_e/f-g/h__i:T.a-g_", "a.b/c/d_e/f-g/h__i:T.a-g_", "a.b/c/d_e/f-g/h__i:T.a-g_"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"busybox:x@{DIGEST}", f"docker.io/library/busybox:x@{DIGEST}", f"busybox:x@{DIGEST}"),
    ],
)
def test_normalizes_and_shortens(text: str, canonical: str, familiar: str) -> None:
    parsed = reference.parse_normalized(text)
    assert str(parsed) == canonical
    assert parsed.familiar() == familiar


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("me/App", "invalid reference format: repository name (me/App) must be lowercase"),
        ("-x", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("ab" * 32, f"invalid repository name ({'ab' * 32}), cannot specify 64-byte hexadecimal strings"),
        ("a/" * 150 + "a", "repository name must not be more than 255 characters"),
        ("busybox@sha256:" + "a" * 40, "invalid checksum digest length"),
        ("busybox@md5:" + "a" * 32, "unsupported digest algorithm"),
        ("busybox@sha256:abc", "invalid reference format"),
    ],
)
def test_refuses_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{re.escape(message)}$"):
        reference.parse_normalized(text)


def test_a_digest_wins_over_a_tag_and_a_bare_name_means_latest() -> None:
    assert str(reference.parse_docker_reference(f"a:b@{DIGEST}")) == f"docker.io/library/a@{DIGEST}"
    assert str(reference.parse_docker_reference("a")) == "docker.io/library/a:latest"


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("busybox", "busybox:1", True),
        ("busy*", "busybox:1", True),
        ("busybox:*", "busybox:1", True),
        ("*", "me/app:1", False),
        ("*/*", "me/app:1", True),
        ("busybox:2", "busybox:1", False),
    ],
)
def test_filter_patterns_stop_at_slashes(pattern: str, text: str, expected: bool) -> None:
    assert reference.parse_normalized(text).matches(pattern) is expected


_component = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,2})[a-z0-9]{1,4}){0,2}", fullmatch=True)
_names = st.builds(
    lambda domain, parts, tag: "/".join([*domain, *parts]) + tag,
    st.sampled_from([[], ["localhost"], ["r.example:5000"], ["[fe80::1]"]]),
    st.lists(_component, min_size=1, max_size=4),
    st.sampled_from(["", ":1.0", ":v_2-x"]),
)


@given(_names)
def test_canonical_and_familiar_forms_are_fixed_points(text: str) -> None:
    parsed = reference.parse_normalized(text)
    assert reference.parse_normalized(str(parsed)) == parsed
    assert reference.parse_normalized(parsed.familiar()) == parsed


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_an_invalid_parameter(text: str) -> None:
    try:
        parsed = reference.parse_normalized(text)
    except InvalidParameter:
        return
    assert reference.parse_normalized(str(parsed)) == parsed
