"""Where images go and what they are called."""

from __future__ import annotations

import pytest

from sampan.errors import InvalidParameter
from sampan.exporters.naming import Naming, naming

DIGEST = "sha256:" + 64 * "a"


def called(given: Naming) -> list[str]:
    return [each.familiar() for each in given.records(DIGEST)]


def test_names_have_tags_and_stand_once() -> None:
    given = naming({"name": "a,a:latest,localhost/b:2"})
    assert called(given) == ["a:latest", "localhost/b:2"]
    assert given.told(DIGEST) == "docker.io/library/a:latest,localhost/b:2"
    assert given.kept and given.unpacked and not given.pushed
    assert called(naming({"name": "*"}, {"image.name": "x/y:3"})) == ["x/y:3"]


def test_names_with_digests() -> None:
    assert called(naming({"name": "a:1", "name-canonical": ""})) == ["a:1", f"a@{DIGEST}"]
    given = naming({"name": "a", "push": "true", "push-by-digest": "true"})
    assert given.pushed and given.by_digest and [str(each) for each in given.names] == ["docker.io/library/a"]
    assert called(given) == [f"a@{DIGEST}"]


def test_an_image_without_a_name() -> None:
    assert called(naming({})) == [] and naming({}).told(DIGEST) == f"moby-dangling@{DIGEST}"
    assert called(naming({"dangling-name-prefix": "moby-dangling"})) == []
    given = naming({"dangling-name-prefix": "ci/tmp"})
    assert called(given) == [f"ci/tmp@{DIGEST}"] and given.told(DIGEST) == f"ci/tmp@{DIGEST}"
    assert called(naming({"dangling-name-prefix": "ci/tmp", "name": "a:1"})) == ["a:1"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"push": "true"},
        {"name": "a:1", "push-by-digest": "true"},
        {"name": f"a@{DIGEST}"},
        {"name": "A"},
        {"store": "perhaps"},
    ],
)
def test_what_makes_no_sense_is_refused(attributes: dict[str, str]) -> None:
    with pytest.raises(InvalidParameter):
        naming(attributes)
