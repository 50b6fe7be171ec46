"""The remote drivers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from sampan.logs.remote import fluentd, gelf, journald, syslog

if TYPE_CHECKING:
    from sampan.logs.remote.interface import Origin, Sink


class Driver(NamedTuple):
    """What a name of `--log-driver` stands for."""

    options: frozenset[str]
    """Its own, beside those that every driver has."""
    check: Callable[[Mapping[str, str]], None]
    """Raises `InvalidParameter` for values that it cannot use."""
    sink: Callable[[Mapping[str, str], Origin], Sink]
    quotes: str = "'"
    """How it quotes an unknown option in its refusal: dockerd's drivers differ."""
    readable: bool = False
    """Its log can be read back whether or not there is a local copy."""


REMOTE: dict[str, Driver] = {
    "fluentd": Driver(fluentd.OPTIONS, fluentd.check, fluentd.FluentdSink),
    "gelf": Driver(gelf.OPTIONS, gelf.check, gelf.GelfSink, quotes='"'),
    "journald": Driver(journald.OPTIONS, journald.check, journald.JournaldSink, readable=True),
    "syslog": Driver(syslog.OPTIONS, syslog.check, syslog.SyslogSink),
}


def starts_without_peer(driver: str, options: Mapping[str, str]) -> bool:
    """Whether a container starts although the peer cannot be reached."""
    return driver == "fluentd" and fluentd.is_async(options)
