"""What identifies a result.

The *fast* key of a vertex is its operation and, per input, that input's key and the part of it which is looked at. The *slow*
key takes, for inputs that count by content, the digest of that content instead; so it is the same for files that are equal,
however they came about. Every result has one *canonical* key (slow where there is one), which the keys of what stands on it are
made of; other keys lead to it. So a touched or re-cloned but equal file gives the same canonical key, and everything above it
is hit.
"""

from __future__ import annotations

from collections.abc import Sequence

from sampan.solver.interface import Identity, Selector, digest_of_text


def fast_key(identity: Identity, inputs: Sequence[str]) -> str:
    """`inputs` are the canonical keys of the inputs, output included (`output_key`)."""
    parts = ["fast", identity.digest]
    for key, how in zip(inputs, identity.inputs, strict=True):
        parts += [key, selection(how.selectors)]
    return digest_of_text(*parts)


def slow_key(identity: Identity, inputs: Sequence[str]) -> str:
    """The same with content digests in the places of the inputs that count by content."""
    parts = ["slow", identity.digest]
    for key, how in zip(inputs, identity.inputs, strict=True):
        parts += ["content" if how.by_content else "key", key]
    return digest_of_text(*parts)


def output_key(key: str, index: int) -> str:
    """Of one output of a vertex."""
    return key if index == 0 else digest_of_text("output", key, str(index))


def salted(key: str, salt: str) -> str:
    """A key that nothing can have been stored under before."""
    return digest_of_text("salted", key, salt)


def selection(selectors: Sequence[Selector]) -> str:
    """The selectors as a digest; "" for everything."""
    if not selectors:
        return ""
    parts: list[str] = []
    for each in sorted(selectors):
        parts += [
            each.path,
            str(each.wildcard),
            str(each.follow),
            "include",
            *each.include,
            "exclude",
            *each.exclude,
        ]
    return digest_of_text(*parts)
