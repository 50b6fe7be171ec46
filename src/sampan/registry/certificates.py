"""TLS towards one host: its own authorities and client certificates from `certs.d`, as Docker lays them out.

`certs.d/HOST:PORT/` may hold `*.crt` (authorities to trust besides the system's) and pairs of `NAME.cert` and `NAME.key` (what to
show to the server).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from sampan.errors import InvalidParameter
from sampan.registry.hostsfile import Trust

State = tuple[tuple[str, int], ...]
"""Files and their times: what a context was made from."""


class HostCertificates:
    """TLS contexts by host, made again when the files have changed."""

    def __init__(self, directories: Iterable[str]) -> None:
        self._directories = [Path(directory) for directory in directories]
        self._made: dict[tuple[str, bool], tuple[State, ssl.SSLContext]] = {}
        self._trusts: dict[str, Trust] = {}

    def trust(self, host: str, trust: Trust) -> None:
        """Check a host as `hosts.toml` says from now on."""
        if self._trusts.get(host) != trust:
            self._trusts[host] = trust
            self._made = {key: made for key, made in self._made.items() if key[0] != host}

    def context(self, host: str, *, insecure: bool) -> ssl.SSLContext:
        """The context for `host:port`. Reads files: call it in a thread. Raises `InvalidParameter` naming the file at fault."""
        files, trust = self._files(host), self._trusts.get(host, Trust())
        more = [
            Path(name)
            for name in (*trust.authorities, *(each for pair in trust.client for each in pair if each))
        ]
        try:
            state = tuple((str(file), file.stat().st_mtime_ns) for file in [*files, *more])
        except OSError as error:
            raise InvalidParameter(
                f"cannot read {error.filename}: {(error.strerror or '').lower()}"
            ) from None
        known = self._made.get((host, insecure))
        if known is not None and known[0] == state:
            return known[1]
        made = _make(files, insecure or trust.unchecked)
        _extend(made, trust)
        self._made[host, insecure] = state, made
        return made

    def _files(self, host: str) -> list[Path]:
        if "/" in host or host.startswith("."):
            return []
        for directory in self._directories:
            try:
                found = sorted((directory / host).iterdir())
            except OSError:
                continue
            return [file for file in found if file.suffix in (".crt", ".cert", ".key")]
        return []


def _extend(context: ssl.SSLContext, trust: Trust) -> None:
    """Add what `hosts.toml` says."""
    for file in trust.authorities:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as error:
            raise InvalidParameter(f"cannot read {file}: {error}") from error
    for certificate, key in trust.client:
        try:
            context.load_cert_chain(certificate, key or None)
        except (OSError, ssl.SSLError) as error:
            raise InvalidParameter(f"cannot read {certificate}: {error}") from error


def _make(files: list[Path], insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for file in files:
        try:
            if file.suffix == ".crt":
                context.load_verify_locations(file)
            elif file.suffix == ".cert":
                key = file.with_suffix(".key")
                if not key.exists():
                    raise InvalidParameter(
                        f"missing key {key.name} for client certificate {file.name}. CA certificates must use the extension .crt"
                    )
                context.load_cert_chain(file, key)
            elif not file.with_suffix(".cert").exists():
                raise InvalidParameter(
                    f"missing client certificate {file.with_suffix('.cert').name} for key {file.name}"
                )
        except (OSError, ssl.SSLError) as error:
            raise InvalidParameter(f"cannot read {file}: {error}") from error
    return context
