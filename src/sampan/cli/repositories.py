"""A registry asked by the command itself, with the logins that `docker login` keeps, and without an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from sampan.names.reference import Reference
    from sampan.registry.repository import Repository


def open_repository(
    closing: AsyncExitStack, reference: Reference, insecure: tuple[str, ...] = ()
) -> Repository:
    """The repository of a reference; `closing` ends its connections. `insecure` hosts may speak plain HTTP."""
    from sampan.cli.credentials import key_of, stored_login
    from sampan.registry.client import RegistryClient
    from sampan.registry.credentials import Credentials
    from sampan.registry.proxies import proxies_of_process
    from sampan.registry.settings import RegistrySettings

    client = RegistryClient(RegistrySettings(insecure=insecure, proxies=proxies_of_process()))
    closing.push_async_callback(client.close)
    login = stored_login(reference.domain)
    credentials = Credentials(
        username=login.username,
        password=login.password,
        identity_token=login.identity_token,
        server=key_of(reference.domain),
    )
    return client.repository(reference, credentials)
