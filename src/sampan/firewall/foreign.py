"""Other people's filters: chains that drop what is forwarded, and our accepts in them.

A drop anywhere in the forward hook beats an accept of ours at any priority. Where such a chain exists (Docker's own
FORWARD with policy DROP, ufw, firewalld), two rules for each of our bridges are put into it, carrying a comment by which
they are found again and taken out. Nothing else of a foreign table is ever touched. What these rules let pass is still
judged by our own forward chain.

DOCKER-USER is where administrators put their own drops: our accepts stand behind the jump to it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sampan.firewall.nftables import Nftables, quote

_FAMILIES = ("ip", "ip6", "inet")
_COMMAND_TIMEOUT = 10.0


def reconcile(nft: Nftables, bridges: Sequence[str], mark: str) -> None:
    """Make the accepts in foreign chains be those for `bridges`, no more and no fewer. `mark` is this engine's comment.

    Only `ip`, `ip6` and `inet` chains that drop by policy or by an unconditional last rule get any.
    """
    commands = plan(nft.query("list ruleset"), bridges, mark)
    if commands:
        nft.run("".join(f"{command}\n" for command in commands))
    for program, names in (
        ("iptables-legacy", "/proc/net/ip_tables_names"),
        ("ip6tables-legacy", "/proc/net/ip6_tables_names"),
    ):
        _reconcile_legacy(program, Path(names), bridges, mark)


def plan(ruleset: Iterable[dict[str, Any]], bridges: Sequence[str], mark: str) -> list[str]:
    """Commands for libnftables, given the objects of `list ruleset`."""
    chains: dict[tuple[str, str, str], dict[str, Any]] = {}
    rules: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for item in ruleset:
        if "chain" in item:
            chain = item["chain"]
            chains[chain["family"], chain["table"], chain["name"]] = chain
        elif "rule" in item:
            rule = item["rule"]
            rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule)
    commands = []
    for key, chain in chains.items():
        family, table, name = key
        if family not in _FAMILIES or chain.get("hook") != "forward" or table.startswith("sampan-"):
            continue
        present = rules.get(key, [])
        ours = [rule for rule in present if rule.get("comment") == mark]
        others = [rule for rule in present if rule.get("comment") != mark]
        wanted = list(bridges) if _drops(chain, others) else []
        if {_interface(rule) for rule in ours} == set(wanted) and len(ours) == 2 * len(wanted):
            continue
        where = f"{family} {table} {name}"
        commands += [f"delete rule {where} handle {rule['handle']}" for rule in ours]
        commands += _insertions(where, others, wanted, mark)
    return commands


def _insertions(where: str, others: Sequence[dict[str, Any]], bridges: Sequence[str], mark: str) -> list[str]:
    behind = [rule["handle"] for rule in others if _jumps_to(rule, "DOCKER-USER")]
    verb = f"add rule {where} handle {behind[-1]}" if behind else f"insert rule {where}"
    return [
        f'{verb} {direction} {quote(bridge)} counter accept comment "{mark}"'
        for bridge in bridges
        for direction in ("iifname", "oifname")
    ]


def _drops(chain: dict[str, Any], rules: Sequence[dict[str, Any]]) -> bool:
    """True for a chain that does not let pass what no rule names."""
    if chain.get("policy") == "drop":
        return True
    if not rules:
        return False
    statements = [statement for statement in rules[-1].get("expr", []) if "counter" not in statement]
    return len(statements) == 1 and ("drop" in statements[0] or "reject" in statements[0])


def _jumps_to(rule: dict[str, Any], chain: str) -> bool:
    return any(statement.get("jump", {}).get("target") == chain for statement in rule.get("expr", []))


def _interface(rule: dict[str, Any]) -> str | None:
    for statement in rule.get("expr", []):
        match = statement.get("match")
        if match and match.get("left", {}).get("meta", {}).get("key") in ("iifname", "oifname"):
            return str(match["right"])
    return None


def _reconcile_legacy(program: str, tables: Path, bridges: Sequence[str], mark: str) -> None:
    """The same for the x_tables of old, which nftables cannot see. Nothing is run where nobody uses them."""
    try:
        if "filter" not in tables.read_text().split():
            return
        listed = _run([program, "-w", "-S", "FORWARD"])
    except OSError:
        return  # no such tables, or rules of a program that is not installed: nothing that we could change
    drops = "-P FORWARD DROP" in listed
    present = {line for line in listed if f"--comment {mark}" in line or f'--comment "{mark}"' in line}
    wanted = set()
    for bridge in bridges if drops else ():
        for direction in ("-i", "-o"):
            wanted.add(f"-A FORWARD {direction} {bridge} -m comment --comment {mark} -j ACCEPT")
    behind = [number for number, line in enumerate(_rules(listed), 1) if line.endswith("-j DOCKER-USER")]
    position = str(behind[-1] + 1 if behind else 1)
    for line in wanted - present:
        _run([program, "-w", "-I", "FORWARD", position, *line.split()[2:]])
    for line in present - wanted:
        _run([program, "-w", "-D", "FORWARD", *line.replace('"', "").split()[2:]])


def _rules(listed: Sequence[str]) -> list[str]:
    return [line for line in listed if line.startswith("-A ")]


def _run(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT, check=False)
    return done.stdout.splitlines()
