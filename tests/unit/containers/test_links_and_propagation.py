"""Links by their names, and what a mount of the host lets pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.containers import propagation
from sampan.containers.links import parse_link, without_link
from sampan.containers.listing import parse_port_filter
from sampan.containers.spec import _cgroup_path
from sampan.errors import InvalidParameter, NotFound

MOUNTINFO = """\
20 1 8:1 / / rw - ext4 /dev/sda rw
21 20 8:2 / /srv rw shared:4 - ext4 /dev/sdb rw
22 21 8:3 / /srv/with\\040blank rw master:4 - ext4 /dev/sdc rw
"""


def test_links() -> None:
    assert parse_link("db") == ("db", "db")
    assert parse_link("/db:store") == ("db", "store")
    assert parse_link("db:/web/store") == ("db", "store")
    assert without_link(["db:store", "cache"], "web/store") == ["cache"]
    with pytest.raises(NotFound, match="web/nothing"):
        without_link(["db:store"], "web/nothing")


@pytest.fixture(autouse=True)
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTINFO)
    monkeypatch.setattr(propagation, "_MOUNTINFO", str(table))


@pytest.mark.parametrize(
    ("source", "wanted"),
    [("/srv/a", "rshared"), ("/srv/a", "slave"), ("/srv/with blank/x", "rslave"), ("/home", "rprivate")],
)
def test_propagation_that_is_possible(source: str, wanted: str) -> None:
    propagation.check_propagation(source, wanted)


@pytest.mark.parametrize(
    ("source", "wanted", "message"),
    [
        ("/home", "rslave", "path /home is mounted on / but it is not a shared or slave mount"),
        ("/srvx", "shared", "path /srvx is mounted on / but it is not a shared mount"),
        ("/srv/with blank", "shared", "is mounted on /srv/with blank but it is not a shared mount"),
    ],
)
def test_propagation_that_is_not(source: str, wanted: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        propagation.check_propagation(source, wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "invalid start port 'abc': invalid syntax"),
        ("1-x", "invalid end port 'x': invalid syntax"),
        ("99999/udp", "invalid start port '99999': value out of range"),
        ("9-8", "invalid port range: 9-8"),
    ],
)
def test_port_filters(text: str, message: str) -> None:
    assert parse_port_filter("80-90/udp", "expose") == (80, 90, "udp")
    with pytest.raises(InvalidParameter, match=f"error while looking up for expose {text}: {message}"):
        parse_port_filter(text, "expose")


def test_a_cgroup_parent_never_leaves_the_hierarchy() -> None:
    assert _cgroup_path("/docker/", "id") == "/docker/id"
    assert _cgroup_path("tests", "id") == "/tests/id"
    assert _cgroup_path("a/../../b", "id") == "/b/id"
