"""A container's configuration is the user's over the image's, field by field, as `docker run` has always done it."""

from __future__ import annotations

from typing import Any

import msgspec

from sampan.engineapi.container import ContainerConfig, HealthConfig
from sampan.engineapi.decode import convert
from sampan.errors import InvalidParameter


def image_defaults(config: object) -> ContainerConfig:
    """The `config` part of an OCI image configuration as a container configuration."""
    document: Any = msgspec.to_builtins(config) if config is not None else {}
    return convert(document or {}, ContainerConfig)


def merge_image(user: ContainerConfig, image: ContainerConfig) -> None:
    """Fill in `user` what it leaves open. Raises `InvalidParameter("no command specified")` when neither has a command."""
    lay_over(user, image)
    if not user.entrypoint and not user.cmd:
        raise InvalidParameter("no command specified")


def lay_over(user: ContainerConfig, image: ContainerConfig) -> None:
    """The same, for a configuration that need not run."""
    user.user = user.user or image.user
    if image.exposed_ports:
        user.exposed_ports = {**image.exposed_ports, **(user.exposed_ports or {})}
    _merge_env(user, image)
    if image.labels or user.labels is None:
        user.labels = {**(image.labels or {}), **(user.labels or {})}
    if not user.entrypoint:
        if not user.cmd:
            user.cmd = list(image.cmd) if image.cmd else user.cmd
            user.args_escaped = image.args_escaped
        if user.entrypoint is None:
            user.entrypoint = list(image.entrypoint) if image.entrypoint else None
    user.healthcheck = _merge_health(user.healthcheck, image.healthcheck)
    user.working_dir = user.working_dir or image.working_dir
    user.volumes = {**(image.volumes or {}), **(user.volumes or {})} or None
    user.stop_signal = user.stop_signal or image.stop_signal
    user.shell = user.shell or image.shell
    if user.entrypoint == [""]:
        user.entrypoint = []  # `--entrypoint ""` takes the image's away


def command(config: ContainerConfig) -> tuple[str, list[str]]:
    """(path, arguments) that the configuration runs."""
    words = [*(config.entrypoint or ()), *(config.cmd or ())]
    return words[0], words[1:]


def _merge_env(user: ContainerConfig, image: ContainerConfig) -> None:
    own = list(user.env or ())
    if not image.env:
        return
    names = {entry.partition("=")[0] for entry in own}
    user.env = own + [entry for entry in image.env if entry.partition("=")[0] not in names]


def _merge_health(user: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    if user is None:
        return image
    if image is None:
        return user
    return HealthConfig(
        test=user.test or image.test,
        interval=user.interval or image.interval,
        timeout=user.timeout or image.timeout,
        start_period=user.start_period or image.start_period,
        start_interval=user.start_interval or image.start_interval,
        retries=user.retries or image.retries,
    )
