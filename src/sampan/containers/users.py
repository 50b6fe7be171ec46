"""`--user`: from names to numbers, by the image's own passwd and group files and never the host's."""

from __future__ import annotations

from typing import NamedTuple

from sampan.errors import InvalidParameter

_MAX_ID = (1 << 31) - 1


class Identity(NamedTuple):
    """Who a process runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups, including the primary one, as dockerd passes them."""
    home: str


class _Account(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_user(user: str, extra_groups: list[str], passwd: bytes | None, group: bytes | None) -> Identity:
    """`user` is Docker's `name|uid[:group|gid]`, "" for root; `extra_groups` is `--group-add`.

    Raises `InvalidParameter("unable to find user x: no matching entries in passwd file")` and relatives.
    """
    accounts, groups = _accounts(passwd or b""), _groups(group or b"")
    user_part, _, group_part = user.partition(":")
    account = _find_account(user_part or "0", accounts)
    numeric = user_part.isascii() and user_part.isdigit()
    if account is None:
        if user_part and not numeric:
            raise InvalidParameter(f"unable to find user {user_part}: no matching entries in passwd file")
        uid = int(user_part or 0)
        if uid > _MAX_ID:
            raise InvalidParameter("uids and gids must be in range 0-2147483647")
        account = _Account("", uid, 0, "/")
    gid = account.gid
    supplementary: list[int] = []
    if group_part:
        gid = _group_id(group_part, groups)
    elif account.name:
        supplementary = [entry.gid for entry in groups if account.name in entry.members]
    added = [_added_group(name, groups) for name in extra_groups]
    ordered = dict.fromkeys([gid, *supplementary, *added])
    return Identity(account.uid, gid, tuple(ordered), account.home or "/")


def _find_account(wanted: str, accounts: list[_Account]) -> _Account | None:
    """By name first, then by number, as getpwnam-style lookups of runc do."""
    for account in accounts:
        if account.name == wanted:
            return account
    if wanted.isascii() and wanted.isdigit():
        for account in accounts:
            if account.uid == int(wanted):
                return account
    return None


def _group_id(wanted: str, groups: list[_Group]) -> int:
    for entry in groups:
        if entry.name == wanted:
            return entry.gid
    if wanted.isascii() and wanted.isdigit():
        if int(wanted) > _MAX_ID:
            raise InvalidParameter("uids and gids must be in range 0-2147483647")
        return int(wanted)
    raise InvalidParameter(f"unable to find group {wanted}: no matching entries in group file")


def _added_group(wanted: str, groups: list[_Group]) -> int:
    try:
        return _group_id(wanted, groups)
    except InvalidParameter:
        raise InvalidParameter(f"Unable to find group {wanted}: no matching entries in group file") from None


def _accounts(text: bytes) -> list[_Account]:
    accounts = []
    for fields in _lines(text):
        uid, gid = _number(fields, 2), _number(fields, 3)
        if uid is not None and gid is not None:
            accounts.append(_Account(fields[0], uid, gid, fields[5] if len(fields) > 5 else ""))
    return accounts


def _groups(text: bytes) -> list[_Group]:
    groups = []
    for fields in _lines(text):
        gid = _number(fields, 2)
        if gid is not None:
            members = tuple(filter(None, fields[3].split(","))) if len(fields) > 3 else ()
            groups.append(_Group(fields[0], gid, members))
    return groups


def _lines(text: bytes) -> list[list[str]]:
    lines = text.decode("utf-8", "surrogateescape").splitlines()
    return [line.strip().split(":") for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _number(fields: list[str], index: int) -> int | None:
    text = fields[index] if len(fields) > index else ""
    return int(text) if text.isascii() and text.isdigit() and int(text) < 1 << 32 else None
