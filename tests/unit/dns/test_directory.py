"""Who finds whom."""

from __future__ import annotations

from ipaddress import ip_address

from sampan.dns.directory import Directory

WEB, DB = ip_address("172.18.0.2"), ip_address("172.18.0.3")


def filled() -> Directory:
    directory = Directory()
    directory.register("n1", "backend", "c1", ["web", "www", "c1c1c1c1c1c1"], [WEB])
    directory.register("n1", "backend", "c2", ["db", "www"], [DB])
    return directory


def test_names_aliases_case_and_the_networks_name_behind() -> None:
    directory = filled()
    for name in ("web", "WEB", "web.", "web.backend", "c1c1c1c1c1c1"):
        assert directory.lookup("c2", ["n1"], name) == [WEB]
    assert directory.lookup("c2", ["n1"], "www") == [WEB, DB]


def test_a_name_with_a_dot_that_ends_like_the_network() -> None:
    directory = filled()
    directory.register("n1", "backend", "c3", ["my.backend"], [ip_address("172.18.0.9")])
    assert directory.lookup("c1", ["n1"], "my.backend") == [ip_address("172.18.0.9")]


def test_other_networks_see_nothing() -> None:
    directory = filled()
    assert directory.lookup("c9", ["n2"], "web") is None
    assert directory.reverse(["n2"], WEB) is None


def test_links_are_the_linking_containers_alone() -> None:
    directory = filled()
    directory.link("n1", "c1", {"database": "db"})
    assert directory.lookup("c1", ["n1"], "database") == [DB]
    assert directory.lookup("c2", ["n1"], "database") is None


def test_reverse_gives_the_first_name_with_the_network() -> None:
    assert filled().reverse(["n1"], WEB) == "web.backend"


def test_registering_again_replaces_and_unregistering_forgets() -> None:
    directory = filled()
    directory.register("n1", "backend", "c1", ["renamed"], [WEB])
    assert directory.lookup("c2", ["n1"], "web") is None
    assert directory.lookup("c2", ["n1"], "renamed") == [WEB]
    directory.unregister("n1", "c1")
    directory.unregister("n1", "c1")
    assert directory.lookup("c2", ["n1"], "renamed") is None and directory.reverse(["n1"], WEB) is None
