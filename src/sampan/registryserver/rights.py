"""Who of those with a password may what: rules that add up. Whatever no rule gives, nobody has.

::

    auth:
      htpasswd:
        path: /etc/registry/htpasswd
        rights:
          - {users: [ci], repositories: ["team/*"], actions: [pull, push]}
          - {users: ["*"], repositories: ["*"], actions: [pull]}
          - {users: [admin], repositories: ["*"], actions: [pull, push, delete, catalog]}
"""

from __future__ import annotations

import fnmatch
from typing import Any, NamedTuple

from sampan.errors import InvalidParameter

ACTIONS = ("pull", "push", "delete", "catalog")
_KEYS = {"users", "repositories", "actions"}


class Scope(NamedTuple):
    """One right: `repository`, a name, and `pull`, `push` or `delete`; or `registry`, `catalog`, `*`."""

    kind: str
    name: str
    action: str


class Rule(NamedTuple):
    """What some users may do with some repositories; both are shell patterns, whose `*` also crosses a slash."""

    users: tuple[str, ...]
    repositories: tuple[str, ...]
    actions: frozenset[str]


class Rights:
    """All rules."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = rules

    def allow(self, user: str, scope: Scope) -> bool:
        """Whether some rule gives a user a right."""
        action = "catalog" if scope.kind == "registry" else scope.action
        return any(
            action in rule.actions
            and _matches(user, rule.users)
            and (scope.kind == "registry" or _matches(scope.name, rule.repositories))
            for rule in self._rules
        )


def rights_of(entries: list[dict[str, Any]]) -> Rights | None:
    """The rules of `auth.htpasswd.rights`; None without any, and then everybody with a password may everything.

    Raises `InvalidParameter`.
    """
    rules = [_rule(entry) for entry in entries]
    return Rights(rules) if rules else None


def _rule(entry: dict[str, Any]) -> Rule:
    lists = {}
    for key in _KEYS:
        value = entry.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
            raise InvalidParameter(
                f"configuration: auth.htpasswd.rights: {key} must be a list of words: {entry}"
            )
        lists[key] = tuple(value)
    if unknown := (set(entry) - _KEYS) | (set(lists["actions"]) - set(ACTIONS)):
        raise InvalidParameter(
            f"configuration: auth.htpasswd.rights: unknown {', '.join(sorted(unknown))}; actions are {', '.join(ACTIONS)}"
        )
    return Rule(lists["users"], lists["repositories"], frozenset(lists["actions"]))


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
