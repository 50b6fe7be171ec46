"""Namespace modes as Docker spells them: `host`, `private`, `container:<id>` and their relatives."""

from __future__ import annotations

_CONTAINER = "container:"


def shared_container(mode: str) -> str | None:
    """The container named by `container:x`; None for any other mode. An empty name comes back as ""."""
    return mode.removeprefix(_CONTAINER) if mode.startswith(_CONTAINER) else None


def container_mode(container_id: str) -> str:
    """The mode that shares a container's namespace."""
    return _CONTAINER + container_id


def valid_ipc(mode: str) -> bool:
    """Whether `--ipc` may say this."""
    return mode in ("", "none", "private", "shareable", "host") or bool(shared_container(mode))


def valid_pid(mode: str) -> bool:
    """Whether `--pid` may say this."""
    return mode in ("", "host") or bool(shared_container(mode))


def valid_uts(mode: str) -> bool:
    """Whether `--uts` may say this."""
    return mode in ("", "host")


def valid_userns(mode: str) -> bool:
    """Whether `--userns` may say this."""
    return mode in ("", "host")


def valid_cgroupns(mode: str) -> bool:
    """Whether `--cgroupns` may say this."""
    return mode in ("", "host", "private")


def network_is_private(mode: str) -> bool:
    """True when the container gets a network namespace of its own."""
    return mode != "host" and shared_container(mode) is None


def is_user_network(mode: str) -> bool:
    """True when the mode names a network that a user made."""
    return mode not in ("", "default", "bridge", "host", "none") and shared_container(mode) is None
