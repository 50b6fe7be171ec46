"""Registries: login, logout, push, search."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sampan.cli import pulling
from sampan.cli.command import flag, listing, option, verb
from sampan.cli.credentials import (
    HUB_KEY,
    Login,
    auth_header,
    erase_login,
    key_of,
    store_login,
    stored_login,
)
from sampan.cli.table import Format
from sampan.cli.terminal import is_terminal
from sampan.cli.values import INT, STRING, platform_objects
from sampan.client.http import quote
from sampan.errors import InvalidParameter
from sampan.names.reference import DEFAULT_DOMAIN, parse_normalized

if TYPE_CHECKING:
    from sampan.cli.session import Session

_SEARCH_HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
}
_DESCRIPTION_WIDTH = 45


@verb(
    "[OPTIONS] [SERVER]",
    "Authenticate to a registry",
    arity=(0, 1),
    examples="$ sampan login registry.example.com",
)
@option("-p", "--password", kind=STRING, default="", help="Password or Personal Access Token (PAT)")
@flag("--password-stdin", help="Take the Password or Personal Access Token (PAT) from stdin")
@option("-u", "--username", kind=STRING, default="", help="Username")
def login(
    session: Session, args: tuple[str, ...], password: str, password_stdin: bool, username: str
) -> None:
    domain = _domain(args[0]) if args else DEFAULT_DOMAIN
    given = _asked(domain, username, password, password_stdin)
    body = {
        "username": given.username,
        "password": given.password,
        "identitytoken": given.identity_token,
        "serveraddress": key_of(domain),
    }
    answer = session.call("POST", "/auth", body=body) or {}
    token = answer.get("IdentityToken") or given.identity_token
    if store_login(domain, Login(given.username, "" if token else given.password, token)):
        print(
            "\nWARNING! Your credentials are stored unencrypted in the client's config.json.\n"
            "Configure a credential helper to remove this warning.\n",
            file=sys.stderr,
        )
    print(answer.get("Status") or "Login Succeeded")


def _asked(domain: str, username: str, password: str, from_stdin: bool) -> Login:
    """Name and password from the flags, the file or the terminal."""
    if password and from_stdin:
        raise InvalidParameter("conflicting options: cannot specify both --password and --password-stdin")
    if password:
        print("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", file=sys.stderr)
    if from_stdin:
        if not username:
            raise InvalidParameter("the --password-stdin option requires --username to be set")
        password = sys.stdin.read().rstrip("\r\n")
    if username and password:
        return Login(username, password)
    kept = stored_login(domain)
    if kept != Login() and username in ("", kept.username):
        print("Authenticating with existing credentials...", file=sys.stderr)
        return kept
    if not is_terminal(0):
        raise InvalidParameter("cannot perform an interactive login from a non TTY device")
    import getpass

    username = username or input("Username: ").strip()
    password = getpass.getpass("Password: ")
    if not username or not password:
        raise InvalidParameter("username and password are required")
    return Login(username, password)


@verb(
    "[SERVER]",
    "Log out from a registry",
    arity=(0, 1),
)
def logout(session: Session, args: tuple[str, ...]) -> None:
    domain = _domain(args[0]) if args else DEFAULT_DOMAIN
    print(f"Removing login credentials for {key_of(domain)}")
    if not erase_login(domain):
        print(f"Not logged in to {key_of(domain)}", file=sys.stderr)


def _domain(server: str) -> str:
    """The registry that an address means: `https://host:5000/v2/` is `host:5000`."""
    if server == HUB_KEY:
        return DEFAULT_DOMAIN
    return server.rpartition("://")[2].partition("/")[0]


@verb(
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    arity=(1, 1),
    aliases=("image push", "push"),
)
@flag("-a", "--all-tags", help="Push all tags of an image to the repository")
@option(
    "--platform", kind=STRING, default="", help="Push a platform-specific manifest as a single-platform image"
)
@flag("-q", "--quiet", help="Suppress verbose output")
def push(session: Session, args: tuple[str, ...], all_tags: bool, platform: str, quiet: bool) -> None:
    reference = parse_normalized(args[0])
    if all_tags and not reference.is_name_only:
        raise InvalidParameter("tag can't be used with --all-tags/-a")
    if not all_tags and reference.is_name_only:
        reference = reference.with_default_tag()
        if not quiet:
            print(f"Using default tag: {reference.tag}")
    query = {"tag": reference.tag or None, "platform": platform_objects((platform,) if platform else ())}
    name = quote(reference.familiar_name(), keep="/:")
    response = session.api.request(
        "POST", f"/images/{name}/push", query, headers=auth_header(reference.domain)
    )
    pulling.show(response.json_stream(), quiet=quiet, out=sys.stdout)
    if quiet:
        print(reference)


@verb("[OPTIONS] TERM", "Search Docker Hub for images", arity=(1, 1))
@listing("-f", "--filter", kind=STRING, help="Filter output based on conditions provided")
@option("--format", kind=STRING, default="", help="Pretty-print search using a Go template")
@option("--limit", kind=INT, default=0, help="Max number of search results")
@flag("--no-trunc", help="Don't truncate output")
def search(
    session: Session, args: tuple[str, ...], filter: tuple[str, ...], format: str, limit: int, no_trunc: bool
) -> None:
    filters: dict[str, list[str]] = {}
    for text in filter:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidParameter("invalid filter: bad format of filter (expected name=value)")
        filters.setdefault(name.strip().lower(), []).append(value.strip())
    first, slash, _ = args[0].partition("/")
    domain = first if slash and ("." in first or ":" in first or first == "localhost") else DEFAULT_DOMAIN
    query = {"term": args[0], "limit": limit or None, "filters": filters or None}
    found = session.api.request("GET", "/images/search", query, headers=auth_header(domain)).json()
    default = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}"
    shape = Format(format, default, _SEARCH_HEADERS, "searchContext")
    sys.stdout.write(shape.render(_row(each, no_trunc) for each in found))


def _row(result: dict[str, object], no_trunc: bool) -> dict[str, object]:
    description = " ".join(str(result.get("description", "")).split())
    if not no_trunc and len(description) > _DESCRIPTION_WIDTH:
        description = description[: _DESCRIPTION_WIDTH - 1] + "…"
    return {
        "Name": result["name"],
        "Description": description,
        "StarCount": str(result.get("star_count", 0)),
        "IsOfficial": "[OK]" if result.get("is_official") else "",
    }
