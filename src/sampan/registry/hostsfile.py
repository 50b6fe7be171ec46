"""`certs.d/HOST/hosts.toml`, containerd's file: other addresses at which a registry's content is to be had, and their certificates.

::

    [host."https://mirror.example:5000"]
      capabilities = ["pull", "resolve"]
      ca = "mirror.crt"
      client = [["client.cert", "client.key"]]
      skip_verify = true

Files are relative to the directory. The registry itself is always tried last, whatever `server` says: pushes and credentials
are its own.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from yarl import URL

from sampan.errors import InvalidParameter


class Trust(NamedTuple):
    """How TLS towards one host is checked, beyond what lies in its own directory."""

    authorities: tuple[str, ...] = ()
    client: tuple[tuple[str, str], ...] = ()
    """Certificates to show, with their keys; a key of "" is in the certificate's file."""
    unchecked: bool = False


class ListedHost(NamedTuple):
    """One entry."""

    url: URL
    resolves: bool
    """Whether it may say what a tag means; else it only serves content by digest."""
    trust: Trust
    file: str


def listed_hosts(domain: str, directories: tuple[str, ...]) -> list[ListedHost]:
    """The entries for a registry (else those of `_default`), in the file's order. Raises `InvalidParameter` naming the file."""
    if "/" in domain or domain.startswith("."):
        return []
    spellings = (domain, f"{domain.replace(':', '_')}_" if ":" in domain else domain, "_default")
    for name in dict.fromkeys(spellings):
        for directory in directories:
            file = Path(directory, name, "hosts.toml")
            try:
                text = file.read_text()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidParameter(f"cannot read {file}: {error}") from None
            return _entries(text, file, domain)
    return []


def _entries(text: str, file: Path, domain: str) -> list[ListedHost]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidParameter(f"{file}: {error}") from None
    hosts = document.get("host") or {}
    if not isinstance(hosts, dict) or not all(isinstance(each, dict) for each in hosts.values()):
        raise InvalidParameter(f"{file}: host must hold tables")
    found = [_entry(address, settings, file) for address, settings in hosts.items()]
    return [each for each in found if each is not None and each.url.authority != domain]


def _entry(address: str, settings: dict[str, Any], file: Path) -> ListedHost | None:
    try:
        url = URL(address if "://" in address else f"https://{address}")
    except ValueError:
        url = URL()
    path = url.path.rstrip("/")
    if url.scheme not in ("http", "https") or not url.host or url.user is not None or path not in ("", "/v2"):
        raise InvalidParameter(f"{file}: host {address[:200]!r} must be http(s)://HOST[:PORT]")
    capabilities = settings.get("capabilities", ["pull", "resolve"])
    if not isinstance(capabilities, list):
        raise InvalidParameter(f"{file}: capabilities must be a list")
    if "pull" not in capabilities:
        return None
    trust = Trust(
        tuple(_path(each, file) for each in _listed(settings.get("ca"))),
        tuple(_pair(each, file) for each in _listed(settings.get("client"))),
        settings.get("skip_verify") is True,
    )
    return ListedHost(url.origin(), "resolve" in capabilities, trust, str(file))


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _path(value: object, file: Path) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidParameter(f"{file}: a file's name is expected, not {value!r}")
    return str(file.parent / value)


def _pair(value: object, file: Path) -> tuple[str, str]:
    if isinstance(value, list) and len(value) == 2:
        return _path(value[0], file), _path(value[1], file) if value[1] else ""
    return _path(value, file), ""
