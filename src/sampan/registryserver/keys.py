"""The keys of distribution's `config.yml`: which have an effect here, which need none, and which would be missed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_READ: dict[str, Any] = {}
"""A key that this registry reads, or that changes nothing that anybody could see; whatever is below."""

_KEYS: dict[str, Any] = {
    "version": _READ,
    "log": {
        "level": _READ,
        "formatter": _READ,
        "fields": _READ,
        "accesslog": {"disabled": _READ},
        "reportcaller": _READ,
        "hooks": "nothing is mailed",
    },
    "loglevel": "it is log.level",
    "storage": _READ,
    "auth": _READ,
    "http": {
        "addr": _READ,
        "net": _READ,
        "prefix": _READ,
        "host": _READ,
        "relativeurls": _READ,
        "draintimeout": _READ,
        "secret": _READ,
        "headers": _READ,
        "http2": _READ,
        "h2c": "HTTP/1.1 is spoken",
        "tls": {
            "certificate": _READ,
            "key": _READ,
            "clientcas": _READ,
            "clientauth": _READ,
            "minimumtls": _READ,
            "letsencrypt": _READ,
            "ciphersuites": "they are OpenSSL's",
        },
        "debug": {"addr": _READ, "prometheus": {"enabled": _READ, "path": _READ}},
    },
    "notifications": {
        "endpoints": _READ,
        "events": "events name manifests and blobs without what they refer to",
    },
    "proxy": {
        "remoteurl": _READ,
        "username": _READ,
        "password": _READ,
        "ttl": _READ,
        "upstreams": _READ,
        "exec": "no program is asked for credentials: give username and password",
    },
    "catalog": _READ,
    "validation": {
        "enabled": _READ,
        "disabled": _READ,
        "manifests": {
            "urls": {"allow": _READ, "deny": _READ},
            "indexes": "each image of an index must be there",
        },
    },
    "policy": "repositories have no classes",
    "redis": "nothing is cached outside the process",
    "middleware": "there is no middleware",
    "reporting": "nothing is reported to services",
    "health": "health is the process itself and its storage",
    # What Kubernetes and links of containers put into the environment for a service that is called registry.
    "port": _READ,
    "service": _READ,
}


def without_effect(document: Mapping[str, Any]) -> list[str]:
    """What to warn of: each key that somebody has set in vain, by its path, and why."""
    return list(_walk(document, _KEYS, ""))


def _walk(document: Mapping[str, Any], keys: Mapping[str, Any], place: str) -> Iterator[str]:
    for key, value in document.items():
        path = f"{place}{key}"
        known = keys.get(key)
        if known is None:
            yield f"{path} has no effect: there is no such key"
        elif isinstance(known, str):
            if value:
                yield f"{path} has no effect: {known}"
        elif known and isinstance(value, Mapping):
            yield from _walk(value, known, f"{path}.")
