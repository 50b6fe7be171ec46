"""What the registry is told: distribution's `config.yml`, `REGISTRY_…` variables over it, and the flags' own words over both.

A variable names a key by its path (`REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY`), its value is YAML. Keys whose subject this
registry does not have are named in a warning; a storage driver that it does not have is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from sampan.errors import InvalidParameter
from sampan.registryserver.keys import without_effect

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DRIVERS = ("filesystem", "s3", "s3aws")
_TEXTS = frozenset({"username", "password", "accesskey", "secretkey", "secret"})
_NULL = "tag:yaml.org,2002:null"
_BESIDE_DRIVERS = ("delete", "maintenance", "cache", "redirect", "tag")
_TLS_VERSIONS = ("", "tls1.0", "tls1.1", "tls1.2", "tls1.3")
_CLIENT_AUTH = ("", "require-and-verify-client-cert", "verify-client-cert-if-given")


class Urls(msgspec.Struct):
    """`validation.manifests.urls`: regular expressions, one of which an address must match, and none of which it may."""

    allow: list[str]
    deny: list[str]


class ServerConfig(msgspec.Struct, kw_only=True):
    """The configuration, checked. Times in seconds."""

    root: str
    """A directory; in a bucket the prefix of all keys."""
    s3: dict[str, Any] = {}
    """`storage.s3`, as written; empty: content is in a local directory."""
    redirect: bool = True
    """Whether clients may be sent to the object storage for a blob."""
    address: str = ":5000"
    network: str = "tcp"
    """`tcp`, or `unix`: the address is the path of a socket."""
    prefix: str = ""
    """What comes before `/v2/` in each path; begins with a slash and ends without one."""
    host: str = ""
    """Address that Location headers begin with; empty: they are relative."""
    certificate: str = ""
    key: str = ""
    client_authorities: list[str] = []
    client_auth: str = ""
    minimum_tls: str = ""
    debug_address: str = ""
    token: dict[str, Any] = {}
    """`auth.token`, as written."""
    htpasswd: str = ""
    realm: str = ""
    delete: bool = False
    read_only: bool = False
    catalog_max: int = 1000
    upload_age: float = 168 * 3600
    upload_interval: float = 24 * 3600
    headers: dict[str, list[str]] = {}
    log_level: str = "info"
    log_format: str = "text"
    log_fields: dict[str, str] = {}
    access_log: bool = True
    upstreams: list[dict[str, Any]] = []
    """Registries that are cached, each as distribution's `proxy`: remoteurl, username, password, ttl."""
    rights: list[dict[str, Any]] = []
    """`auth.htpasswd.rights`, as written."""
    endpoints: list[dict[str, Any]] = []
    """`notifications.endpoints`, as written."""
    metrics: bool = False
    metrics_path: str = "/metrics"
    urls: Urls | None = None
    """Which addresses manifests may name for their layers; None: any."""
    index: str = ""
    """The file of the index (see `index`); empty: beside a local directory's content, in this machine's caches for a bucket."""
    from_engine: str = ""
    """An engine's data root, whose images are served instead."""
    collect_every: float = 0
    """0: only when `garbage-collect` is called."""
    grace: float = 3600
    silence: float = 60
    """How long a client may send nothing before its first request and within a body."""
    warnings: list[str] = []


def load(file: Path | None, environment: Mapping[str, str], default_root: Path) -> ServerConfig:
    """Read the file (None: no file, a registry for this machine alone) and the variables. Raises `InvalidParameter`."""
    if file is None:
        document: dict[str, Any] = {
            "storage": {"filesystem": {"rootdirectory": str(default_root)}, "delete": {"enabled": True}},
            "http": {"addr": "127.0.0.1:5000"},
        }
    else:
        document = _read(file)
    for name, value in sorted(environment.items()):
        if name.startswith("REGISTRY_"):
            _override(document, name, value)
    try:
        return _configuration(document)
    except (AttributeError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise InvalidParameter(f"configuration: {error}") from None


class _Loader(yaml.SafeLoader):
    """Keeps names and secrets as they are written: YAML would make 83 of the password 0123, and true of yes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, value in node.value:
            if key.value in _TEXTS and isinstance(value, yaml.ScalarNode) and value.tag != _NULL:
                value.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def _read(file: Path) -> dict[str, Any]:
    try:
        document = yaml.load(file.read_text(), _Loader)  # a SafeLoader
    except OSError as error:
        raise InvalidParameter(
            f"configuration error: open {file}: {(error.strerror or '').lower()}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"configuration error: error parsing {file}: {error}") from None
    if not isinstance(document, dict):
        raise InvalidParameter(f"configuration error: error parsing {file}: it must hold a mapping")
    if str(document.get("version", "")) != "0.1":
        raise InvalidParameter(
            f"configuration error: error parsing {file}: unsupported version: it must be 0.1"
        )
    return document


def _override(document: dict[str, Any], name: str, value: str) -> None:
    """Set the key that a variable names. A bare word for a mapping is a mapping of that key (`REGISTRY_AUTH=htpasswd`)."""
    *path, last = name.removeprefix("REGISTRY_").lower().split("_")
    try:
        parsed = yaml.safe_load(value) if value and last not in _TEXTS else value
    except yaml.YAMLError as error:
        raise InvalidParameter(f"{name}: {error}") from None
    place = document
    for key in path:
        below = place.get(key)
        if isinstance(below, str):
            below = {below: {}}
        if not isinstance(below, dict):
            below = {}
        place[key] = below
        place = below
    if not path and last in ("auth", "storage") and isinstance(parsed, str) and parsed:
        kept = place.get(last) if isinstance(place.get(last), dict) else {}
        beside = {key: item for key, item in (kept or {}).items() if key in (*_BESIDE_DRIVERS, parsed)}
        place[last] = {parsed: {}, **beside}
    elif isinstance(place.get(last), dict) and not isinstance(parsed, dict):
        pass  # a service's link variable of the container's environment, not a setting
    else:
        place[last] = parsed


def _configuration(document: dict[str, Any]) -> ServerConfig:
    storage, http = _section(document, "storage"), _section(document, "http")
    maintenance = _section(storage, "maintenance")
    purging, tls = _section(maintenance, "uploadpurging"), _section(http, "tls")
    proxy, log = _section(document, "proxy"), _section(document, "log")
    debug = _section(http, "debug")
    auth = _auth(document)
    htpasswd = _section(auth, "htpasswd")
    root, s3 = _storage(storage)
    config = ServerConfig(
        root=root,
        s3=s3,
        redirect=not _section(storage, "redirect").get("disable"),
        address=str(http.get("addr") or ":5000"),
        network=_one_of(http, "http.net", "net", ("tcp", "unix")) or "tcp",
        prefix="/".join(["", *(part for part in str(http.get("prefix") or "").split("/") if part)]),
        host="" if http.get("relativeurls") else str(http.get("host") or ""),
        certificate=str(tls.get("certificate") or ""),
        key=str(tls.get("key") or ""),
        client_authorities=[str(each) for each in tls.get("clientcas") or []],
        client_auth=_one_of(tls, "http.tls.clientauth", "clientauth", _CLIENT_AUTH),
        minimum_tls=_one_of(tls, "http.tls.minimumtls", "minimumtls", _TLS_VERSIONS),
        debug_address=str(debug.get("addr") or ""),
        metrics=bool(_section(debug, "prometheus").get("enabled")),
        metrics_path=str(_section(debug, "prometheus").get("path") or "/metrics"),
        urls=_urls(_section(document, "validation")),
        token=_section(auth, "token"),
        htpasswd=str(htpasswd.get("path") or ""),
        realm=str(htpasswd.get("realm") or ""),
        delete=bool(_section(storage, "delete").get("enabled")),
        read_only=bool(_section(maintenance, "readonly").get("enabled")),
        catalog_max=int(_section(document, "catalog").get("maxentries") or 1000),
        upload_age=seconds(purging.get("age") or "168h") if _purges(purging) else 0,
        upload_interval=seconds(purging.get("interval") or "24h"),
        headers={str(key): [str(each) for each in value] for key, value in _section(http, "headers").items()},
        log_level=str(log.get("level") or "info"),
        log_format=str(log.get("formatter") or "text"),
        log_fields={str(key): str(value) for key, value in _section(log, "fields").items()},
        access_log=not _section(log, "accesslog").get("disabled"),
        upstreams=_upstreams(proxy),
        rights=_entries(htpasswd, "rights"),
        endpoints=list(_section(document, "notifications").get("endpoints") or []),
    )
    if bool(config.certificate) != bool(config.key):
        raise InvalidParameter("configuration: http.tls needs both certificate and key")
    if tls.get("letsencrypt"):
        raise InvalidParameter(
            "configuration: http.tls.letsencrypt is not supported: give certificate and key"
        )
    config.warnings = without_effect(document)
    if purging.get("dryrun"):
        config.warnings.append("storage.maintenance.uploadpurging.dryrun: uploads that were given up stay")
    return config


def _one_of(section: dict[str, Any], name: str, key: str, words: tuple[str, ...]) -> str:
    word = str(section.get(key) or "")
    if word and word not in words:
        raise InvalidParameter(
            f"configuration: {name}: {word!r} is not supported: there are {', '.join(filter(None, words))}"
        )
    return word


def _purges(purging: dict[str, Any]) -> bool:
    return bool(purging.get("enabled", True)) and not purging.get("dryrun")


def _urls(validation: dict[str, Any]) -> Urls | None:
    """None unless there are rules: distribution itself takes no addresses then, but images of Windows have some."""
    rules = _section(_section(validation, "manifests"), "urls")
    if validation.get("disabled") or not rules:
        return None
    urls = Urls(*([str(each) for each in rules.get(key) or []] for key in ("allow", "deny")))
    for pattern in (*urls.allow, *urls.deny):
        try:
            re.compile(pattern)
        except re.error as error:
            raise InvalidParameter(
                f"configuration: validation.manifests.urls: {pattern!r}: {error}"
            ) from None
    return urls


def _auth(document: dict[str, Any]) -> dict[str, Any]:
    auth = document.get("auth") or {}
    if isinstance(auth, str):
        auth = {auth: {}}
    for kind in auth:
        if kind not in ("htpasswd", "token", "none"):
            raise InvalidParameter(
                f"configuration: auth.{kind} is not supported: there are htpasswd and token"
            )
    if len(auth) > 1:
        raise InvalidParameter(f"configuration: auth needs one kind, there are {', '.join(sorted(auth))}")
    if "htpasswd" in auth and not _section(auth, "htpasswd").get("path"):
        raise InvalidParameter("configuration: auth.htpasswd needs a path")
    if "token" in auth and not _section(auth, "token"):
        raise InvalidParameter("configuration: auth.token needs realm, service, issuer and keys")
    return dict(auth)


def _storage(storage: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The root, and the settings of a bucket when there is one."""
    drivers = [key for key in storage if key not in _BESIDE_DRIVERS]
    if len(drivers) != 1:
        raise InvalidParameter(f"configuration: storage needs one driver, there are {drivers or 'none'}")
    driver = drivers[0]
    if driver not in _DRIVERS:
        raise InvalidParameter(
            f"configuration: storage.{driver} is not supported: there are filesystem and s3"
        )
    settings = _section(storage, driver)
    if driver == "filesystem":
        return str(settings.get("rootdirectory") or "/var/lib/registry"), {}
    if not settings.get("bucket"):
        raise InvalidParameter(f"configuration: storage.{driver} needs a bucket")
    return str(settings.get("rootdirectory") or "").strip("/"), settings


def _upstreams(proxy: dict[str, Any]) -> list[dict[str, Any]]:
    """The one of distribution's form, then those of `proxy.upstreams`."""
    return [*([proxy] if proxy.get("remoteurl") else []), *_entries(proxy, "upstreams")]


def _entries(section: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = section.get(key) or []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InvalidParameter(f"configuration: {key} must be a list of mappings, not {value!r}")
    return value


def _section(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidParameter(f"configuration: {key} must be a mapping, not {value!r}")
    return value


def seconds(text: object) -> float:
    """A Go duration (`168h`, `1m30s`), or a number of nanoseconds, as distribution reads them."""
    if isinstance(text, int | float):
        return float(text) / 1e9
    written = str(text)
    parts = _DURATION.findall(written)
    if not parts or "".join(number + unit for number, unit in parts) != written:
        raise InvalidParameter(f"configuration: invalid duration {written!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
