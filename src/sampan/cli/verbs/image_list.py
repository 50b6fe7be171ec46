"""images, rmi, tag, history."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sampan.cli import words
from sampan.cli.command import flag, listing, option, verb
from sampan.cli.formats import TABLE_FORMAT
from sampan.cli.table import show
from sampan.cli.values import FILTER, STRING, filters, platform_objects
from sampan.client.http import quote
from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.names.reference import parse_normalized
from sampan.names.units import human_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.cli.session import Session

HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}
_TABLE = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
_DIGESTS = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
_NONE = "<none>"


@verb(
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    arity=(0, 1),
    aliases=("image ls", "image list", "images"),
    examples="$ sampan images --filter dangling=true\n$ sampan images --format '{{.Repository}}:{{.Tag}} {{.Size}}'",
)
@flag("-a", "--all", help="Show all images (default hides intermediate images)")
@flag("--digests", help="Show digests")
@listing("-f", "--filter", kind=FILTER, help="Filter output based on conditions provided")
@option("--format", kind=STRING, default="", help=TABLE_FORMAT)
@flag("--no-trunc", help="Don't truncate output")
@flag("-q", "--quiet", help="Only show image IDs")
def images(
    session: Session,
    args: tuple[str, ...],
    all: bool,
    digests: bool,
    filter: tuple[tuple[str, str], ...],
    format: str,
    no_trunc: bool,
    quiet: bool,
) -> None:
    given = [*filter, *(("reference", name) for name in args)]
    rows = session.call("GET", "/images/json", {"all": all or None, "filters": filters(given) or None})
    rows.sort(key=lambda row: -row["Created"])
    with_digests = digests or ".Digest" in format
    records = [record for row in rows for record in image_records(row, full=no_trunc, digests=with_digests)]
    if quiet and not format:
        ids = dict.fromkeys(record["ID"] for record in records)
        sys.stdout.write("".join(f"{identifier}\n" for identifier in ids))
        return
    show(format, _DIGESTS if digests else _TABLE, HEADERS, "ImageContext", records)


def image_records(row: dict[str, Any], *, full: bool, digests: bool) -> Iterator[dict[str, Any]]:
    """One record per name (with `digests`: per name and digest) of an image."""
    tags = [name for name in row.get("RepoTags") or [] if name != "<none>:<none>"]
    pins = [name for name in row.get("RepoDigests") or [] if name != "<none>@<none>"]
    names: dict[str, tuple[list[str], list[str]]] = {}
    for name in tags:
        repository, _, tag = name.rpartition(":")
        names.setdefault(repository, ([], []))[0].append(tag)
    for name in pins:
        repository, _, digest = name.partition("@")
        if tags and not digests and repository not in names:
            continue
        names.setdefault(repository, ([], []))[1].append(digest)
    if not names:
        yield _image_record(row, _NONE, _NONE, _NONE, full=full)
    for repository, (own_tags, own_digests) in sorted(names.items()):
        if not digests:
            for tag in own_tags or [_NONE]:
                yield _image_record(row, repository, tag, _NONE, full=full)
            continue
        for tag in own_tags or [_NONE]:
            for digest in own_digests or [_NONE]:
                yield _image_record(row, repository, tag, digest, full=full)


def _image_record(
    row: dict[str, Any], repository: str, tag: str, digest: str, *, full: bool
) -> dict[str, Any]:
    shared, containers = row.get("SharedSize", -1), row.get("Containers", -1)
    return {
        "ID": words.short_id(row["Id"], full=full),
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "CreatedSince": words.ago(row["Created"]),
        "CreatedAt": words.local_time(row["Created"]),
        "Size": words.size(row["Size"]),
        "Containers": "N/A" if shared == -1 or containers == -1 else str(containers),
        "VirtualSize": human_size(row["Size"]),
        "SharedSize": "N/A" if shared == -1 else words.size(shared),
        "UniqueSize": "N/A" if shared == -1 else words.size(row["Size"] - shared),
    }


@verb(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    arity=(1, None),
    aliases=("image rm", "image remove", "rmi"),
)
@flag("-f", "--force", help="Force removal of the image")
@flag("--no-prune", help="Do not delete untagged parents")
@listing("--platform", kind=STRING, help="Remove only the given platform variant")
def rmi(
    session: Session, args: tuple[str, ...], force: bool, no_prune: bool, platform: tuple[str, ...]
) -> None:
    query = {
        "force": force or None,
        "noprune": no_prune or None,
        "platforms": platform_objects(platform),
    }
    for name in args:
        try:
            answer = session.call("DELETE", f"/images/{quote(name, keep='/:@')}", query)
        except NotFound as error:
            failed = session.failed
            session.complain(error)
            session.failed = failed or not force
            continue
        except SampanError as error:
            session.complain(error)
            continue
        for entry in answer or []:
            print(
                f"Deleted: {entry['Deleted']}" if entry.get("Deleted") else f"Untagged: {entry['Untagged']}"
            )


@verb(
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    arity=(2, 2),
    aliases=("image tag", "tag"),
)
def tag(session: Session, args: tuple[str, ...]) -> None:
    source, target = args
    try:
        reference = parse_normalized(target)
    except InvalidParameter as error:
        raise InvalidParameter(
            f'Error parsing reference: "{target}" is not a valid repository/tag: {error}'
        ) from None
    if reference.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    query = {"repo": reference.name, "tag": reference.tag or "latest"}
    session.call("POST", f"/images/{quote(source, keep='/:@')}/tag", query)


_HISTORY_HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_HISTORY = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"


@verb("[OPTIONS] IMAGE", "Show the history of an image", arity=(1, 1), aliases=("image history", "history"))
@option("--format", kind=STRING, default="", help=TABLE_FORMAT)
@flag("-H", "--human", default=True, help="Print sizes and dates in human readable format")
@flag("--no-trunc", help="Don't truncate output")
@option("--platform", kind=STRING, default="", help="Show history for the given platform")
@flag("-q", "--quiet", help="Only show image IDs")
def history(
    session: Session,
    args: tuple[str, ...],
    format: str,
    human: bool,
    no_trunc: bool,
    platform: str,
    quiet: bool,
) -> None:
    rows = session.call(
        "GET",
        f"/images/{quote(args[0], keep='/:@')}/history",
        {"platform": platform_objects((platform,) if platform else ())},
    )
    records = [_history_record(row, full=no_trunc, human=human) for row in rows]
    show("{{.ID}}" if quiet else format, _HISTORY, _HISTORY_HEADERS, "historyContext", records)


def _history_record(row: dict[str, Any], *, full: bool, human: bool) -> dict[str, Any]:
    import time

    by = str(row["CreatedBy"]).replace("\t", " ")
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row["Created"]))
    return {
        "ID": words.short_id(row["Id"], full=full),
        "CreatedSince": words.ago(row["Created"]) if human else at,
        "CreatedAt": at,
        "CreatedBy": by if full else words.clip(by, 45),
        "Size": words.size(row["Size"]) if human else str(row["Size"]),
        "Comment": row.get("Comment", ""),
    }
