"""Giving images names."""

from __future__ import annotations

from sampan.errors import InvalidParameter
from sampan.images.parts import Parts
from sampan.names.reference import Reference, parse_normalized


def target_reference(repository: str, tag: str) -> Reference | None:
    """The name that `repo` and `tag` of the API mean together; None when there is no repository: the image stays unnamed.

    Raises `InvalidParameter` for a digest ("refusing to create a tag with a digest reference") and for malformed names.
    """
    if not repository:
        return None
    reference = parse_normalized(repository)
    if reference.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    return reference.with_tag(tag) if tag else reference.with_default_tag()


async def tag(parts: Parts, text: str, repository: str, tag_name: str) -> None:
    """`docker tag`: a further name for an image, taken from another image when that has it.

    Raises `NotFound`, and `InvalidParameter`, also for a name that reads like a digest's algorithm.
    """
    reference = target_reference(repository, tag_name)
    if reference is None:
        raise InvalidParameter("repository name must have at least one component")
    if reference.familiar().partition(":")[0] == "sha256":
        raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
    record = await parts.resolver.record(text)
    replaced = await parts.records.put(str(reference), record.target, record.labels)
    if replaced.previous is not None:
        parts.publish("untag", replaced.previous.id, reference.familiar())
    await parts.publish_for("tag", record, reference.familiar())
