"""Source policies: rules that allow, deny or rewrite what a build's sources are.

A worker evaluates them: expressions are a client's, and may take for ever. Semantics as BuildKit's (package sourcepolicy): of the
rules that match, the last of ALLOW and DENY counts; CONVERT rewrites at once, and all begins again with what came out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sampan.errors import Forbidden, InvalidParameter

_MOST_CONVERSIONS = 20
_LONGEST = 4096
"""Characters of an identifier: conversions that are applied again and again can double it each time."""
_NOT_GOS = re.compile(r"\(\?(?:[=!>]|<[=!])|\\[1-9]")
"""Of Python's expressions; Go has none of it."""
_NOT_PYTHONS = re.compile(r"\[\[:|\\[pPQCX]")
_GROUP = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")


def evaluate_job(args: dict[str, Any], fds: list[int], report: Any) -> dict[str, Any]:
    """What each of `sources` becomes by `policies` (both as protobuf's JSON has them).

    Raises `Forbidden` for one that is denied, `InvalidParameter` for a policy that makes no sense.
    """
    policies = args["policies"]
    return {"sources": [evaluated(policies, source) for source in args["sources"]]}


def evaluated(policies: list[dict[str, Any]], source: Mapping[str, Any]) -> dict[str, Any]:
    """One source: `identifier` and `attrs`."""
    current = {"identifier": source.get("identifier", ""), "attrs": dict(source.get("attrs", {}))}
    for _ in range(_MOST_CONVERSIONS + 1):
        for policy in policies:
            converted = _by_policy(policy, current)
            if converted is not None:
                if len(converted["identifier"]) > _LONGEST:
                    raise InvalidParameter(f"source policy: an identifier of more than {_LONGEST} characters")
                current = converted
                break
        else:
            return current
    raise InvalidParameter("too many mutations on a single source: too many operations")


def _by_policy(policy: Mapping[str, Any], source: dict[str, Any]) -> dict[str, Any] | None:
    """What it becomes; None when it stays."""
    denied = False
    for rule in policy.get("rules", ()):
        selector = rule.get("selector")
        if selector is None:
            raise InvalidParameter("invalid source policy: a rule without a selector")
        if not _matches(selector, source):
            continue
        match rule.get("action", "ALLOW"):
            case "ALLOW":
                denied = False
            case "DENY":
                denied = True
            case "CONVERT":
                converted = _converted(rule, source)
                if converted != source:
                    return converted
            case other:
                raise InvalidParameter(f"source policy: unknown action {other}")
    if denied:
        raise Forbidden(f'source "{source["identifier"]}" denied by policy: source denied by policy')
    return None


def _matches(selector: Mapping[str, Any], source: Mapping[str, Any]) -> bool:
    for constraint in selector.get("constraints", ()):
        value, wanted = source["attrs"].get(constraint.get("key", ""), ""), constraint.get("value", "")
        match constraint.get("condition", "EQUAL"):
            case "EQUAL":
                fits = value == wanted
            case "NOTEQUAL":
                fits = value != wanted
            case "MATCHES":
                fits = _expression(wanted).search(value) is not None
            case other:
                raise InvalidParameter(f"unknown attr condition: {other}")
        if not fits:
            return False
    identifier = selector.get("identifier", "")
    if identifier == source["identifier"]:
        return True
    return _found(selector, source["identifier"]) is not None


def _found(selector: Mapping[str, Any], identifier: str) -> re.Match[str] | None:
    match selector.get("matchType", "WILDCARD"):
        case "EXACT":
            return None
        case "REGEX":
            return _expression(selector.get("identifier", "")).search(identifier)
        case "WILDCARD":
            return _wildcard(selector.get("identifier", "")).fullmatch(identifier)
        case other:
            raise InvalidParameter(f"unknown match type: {other}")


def _converted(rule: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    updates, selector = rule.get("updates"), rule["selector"]
    if updates is None:
        raise InvalidParameter("error mutating source policy: missing destination for convert rule")
    template = updates.get("identifier") or selector.get("identifier", "")
    return {
        "identifier": _formatted(selector, source["identifier"], template) or source["identifier"],
        "attrs": {**source["attrs"], **updates.get("attrs", {})},
    }


def _formatted(selector: Mapping[str, Any], identifier: str, template: str) -> str:
    """The template with what the selector's groups or stars have found."""
    match selector.get("matchType", "WILDCARD"):
        case "REGEX":
            expression = _expression(selector.get("identifier", ""))
            return expression.sub(lambda found: _expanded(template, found), identifier)
        case "WILDCARD":
            found = _found(selector, identifier)
            return _expanded(template, found) if found is not None else identifier
    return template


def _expanded(template: str, found: re.Match[str]) -> str:
    """`$1`, `${1}`, `$name` and `$$`, as Go's `Regexp.Expand` has them."""

    def group(reference: re.Match[str]) -> str:
        if reference[1]:
            return "$"
        name = reference[2] or reference[3]
        try:
            return found[int(name) if name.isdecimal() else name] or ""
        except (IndexError, ValueError):
            return ""

    return _GROUP.sub(group, template)


def _expression(text: str) -> re.Pattern[str]:
    if _NOT_GOS.search(text):
        raise InvalidParameter(f'invalid regex "{text}": invalid or unsupported Perl syntax')
    if _NOT_PYTHONS.search(text):
        raise InvalidParameter(
            f'invalid regex "{text}": character classes by name are not in this version of Sampan\'s builder'
        )
    try:
        return re.compile(text.replace(r"\z", r"\Z"))
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidParameter(f'invalid regex "{text}": {error}') from None


def _wildcard(text: str) -> re.Pattern[str]:
    if "**" in text:
        raise InvalidParameter('invalid wildcard: "**"')
    return re.compile("(.*)".join(re.escape(part) for part in text.split("*")))
