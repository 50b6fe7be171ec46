"""`--link`: the older way to let containers find each other, kept for the default bridge."""

from __future__ import annotations

from sampan.errors import NotFound

DEPRECATED = (
    "Links on the default bridge network are deprecated and will be removed in a future release."
    " Use a custom network instead."
)


def parse_link(text: str) -> tuple[str, str]:
    """(container, alias) of `container[:alias]`."""
    target, _, alias = text.partition(":")
    target = target.removeprefix("/")
    return target, alias.rpartition("/")[2] or target


def without_link(links: list[str], path: str) -> list[str] | None:
    """The links but the one that `docker rm --link parent/alias` names. Raises `NotFound` when there is none."""
    wanted = path.rpartition("/")[2]
    kept = [text for text in links if parse_link(text)[1] != wanted]
    if len(kept) == len(links):
        raise NotFound(f"No such container: {path}")
    return kept or None
