"""Which foreign chains get our accepts, and where."""

from __future__ import annotations

from typing import Any

from sampan.firewall.foreign import plan

MARK = "sampan-12345678"


def chain(
    table: str, name: str = "FORWARD", policy: str = "drop", family: str = "ip", hook: str = "forward"
) -> dict[str, Any]:
    return {"chain": {"family": family, "table": table, "name": name, "hook": hook, "policy": policy}}


def rule(
    table: str, handle: int, *expr: dict[str, Any], comment: str | None = None, name: str = "FORWARD"
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "family": "ip",
        "table": table,
        "chain": name,
        "handle": handle,
        "expr": list(expr),
    }
    if comment:
        found["comment"] = comment
    return {"rule": found}


def accept(handle: int, key: str, interface: str) -> dict[str, Any]:
    match = {"match": {"op": "==", "left": {"meta": {"key": key}}, "right": interface}}
    return rule("filter", handle, match, {"counter": {}}, {"accept": None}, comment=MARK)


def test_a_chain_that_drops_by_policy_gets_two_rules_a_bridge() -> None:
    assert plan([chain("filter")], ["br0"], MARK) == [
        f'insert rule ip filter FORWARD iifname "br0" counter accept comment "{MARK}"',
        f'insert rule ip filter FORWARD oifname "br0" counter accept comment "{MARK}"',
    ]


def test_a_chain_that_lets_pass_is_left_alone() -> None:
    assert plan([chain("filter", policy="accept")], ["br0"], MARK) == []
    assert plan([chain("filter", hook="input")], ["br0"], MARK) == []


def test_a_last_rule_that_rejects_everything_counts_as_a_policy() -> None:
    objects = [chain("firewalld", policy="accept"), rule("firewalld", 9, {"reject": {"type": "icmpx"}})]
    assert len(plan(objects, ["br0"], MARK)) == 2


def test_behind_docker_user() -> None:
    objects = [
        chain("filter"),
        rule("filter", 5, {"jump": {"target": "DOCKER-USER"}}),
        rule("filter", 6, {"accept": None}),
    ]
    commands = plan(objects, ["br0"], MARK)
    assert all(command.startswith("add rule ip filter FORWARD handle 5 ") for command in commands)


def test_what_is_there_already_stays_and_what_is_not_wanted_goes() -> None:
    present = [chain("filter"), accept(3, "iifname", "br0"), accept(4, "oifname", "br0")]
    assert plan(present, ["br0"], MARK) == []
    assert plan(present, [], MARK) == [
        "delete rule ip filter FORWARD handle 3",
        "delete rule ip filter FORWARD handle 4",
    ]


def test_other_engines_tables_and_rules_are_not_ours() -> None:
    foreign = rule("filter", 7, {"accept": None}, comment="sampan-87654321")
    assert plan([chain("filter", policy="accept"), foreign], [], MARK) == []
    assert plan([chain("sampan-87654321", name="forward", family="inet")], ["br0"], MARK) == []
