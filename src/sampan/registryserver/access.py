"""Who may use the registry: a file of names and bcrypt hashes, as `htpasswd -B` writes it.

bcrypt is slow on purpose: it runs in a thread, and its verdict is kept for a minute under a keyed hash of name and password, so
that a client's next request costs nothing. The file is read again when it changes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import bcrypt

from sampan.errors import InvalidParameter
from sampan.registryserver.failures import Refused
from sampan.registryserver.rights import Rights, Scope

_VERDICT_SECONDS = 60.0
_VERDICTS_MAX = 10_000
_NOBODY = b"$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
"""A hash to compare with when there is no such user, so that the time taken does not tell."""


class Access(Protocol):
    """Who may what, by the Authorization header of requests."""

    async def check(self, header: str, needed: Sequence[Scope]) -> str:
        """The user's name. Raises `Refused` UNAUTHORIZED, with the challenge, for whoever has not all that is needed."""
        ...

    async def allows(self, header: str, scope: Scope) -> bool:
        """Whether the same user has a further right."""
        ...


class Passwords:
    """Checks names and passwords: who has one may everything, or what his rights say; without a file everybody may."""

    def __init__(self, file: str, realm: str, rights: Rights | None = None) -> None:
        """Raises `InvalidParameter` when the file cannot be read, or rights are given and no file is."""
        if rights is not None and not file:
            raise InvalidParameter("configuration: auth.htpasswd.rights needs auth.htpasswd.path")
        self._rights = rights
        self._file = Path(file) if file else None
        self._realm = realm or "registry"
        self._users: dict[str, bytes] = {}
        self._stamp: tuple[int, int] = (0, 0)
        self._key = secrets.token_bytes(32)
        self._verdicts: dict[bytes, tuple[float, bool]] = {}
        if self._file is not None:
            self._read(self._file)

    async def allows(self, header: str, scope: Scope) -> bool:
        """Whether the user of a request, who was let in, has a further right."""
        return self._rights is None or self._rights.allow(_basic(header)[0], scope)

    async def check(self, header: str, needed: Sequence[Scope] = ()) -> str:
        """The user's name; "" where there are no users. Raises `Refused` UNAUTHORIZED with the challenge, or DENIED."""
        if self._file is None:
            return ""
        user, password = _basic(header)
        if user and await self._knows(user, password):
            if self._rights is not None and not all(self._rights.allow(user, scope) for scope in needed):
                raise Refused("DENIED")
            return user
        # A realm in a header is quoted: nothing in it may end the quotes.
        realm = self._realm.replace("\\", "").replace('"', "")
        raise Refused("UNAUTHORIZED", headers={"WWW-Authenticate": f'Basic realm="{realm}"'})

    async def _knows(self, user: str, password: str) -> bool:
        assert self._file is not None  # the caller has looked
        await asyncio.to_thread(self._refresh, self._file)
        key = hmac.digest(self._key, f"{len(user)}:{user}:{password}".encode(), hashlib.sha256)
        now = time.monotonic()
        known = self._verdicts.get(key)
        if known is not None and known[0] > now:
            return known[1]
        verdict = await asyncio.to_thread(self._verify, user, password)
        if len(self._verdicts) >= _VERDICTS_MAX:
            self._verdicts.clear()
        self._verdicts[key] = now + _VERDICT_SECONDS, verdict
        return verdict

    def _verify(self, user: str, password: str) -> bool:
        stored = self._users.get(user)
        try:
            # bcrypt looks at 72 bytes; newer versions of the library refuse longer passwords, htpasswd cuts them.
            matches = bcrypt.checkpw(password.encode()[:72], stored or _NOBODY)
        except ValueError:
            return False
        return matches and stored is not None

    def _refresh(self, file: Path) -> None:
        try:
            status = file.stat()
        except OSError:
            return
        if (status.st_mtime_ns, status.st_size) != self._stamp:
            self._read(file)

    def _read(self, file: Path) -> None:
        try:
            status, text = file.stat(), file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidParameter(f"cannot read auth.htpasswd.path {file}: {error}") from None
        users: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            entry = line.strip()
            if not entry or entry.startswith("#"):
                continue
            user, colon, stored = entry.partition(":")
            if not colon:
                raise InvalidParameter(f"{file}: line {number}: it must be user:hash")
            if stored.startswith(("$2a$", "$2b$", "$2y$")):  # the others are refused, as distribution does
                users[user] = b"$2b$" + stored[4:].encode()
        self._users, self._stamp = users, (status.st_mtime_ns, status.st_size)
        self._verdicts.clear()


def _basic(header: str) -> tuple[str, str]:
    """Name and password of a Basic header; empty when it is none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password
