"""A credential goes to its registry and to the token service that the registry's challenge names, and nowhere else."""

from __future__ import annotations

import base64
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import aiohttp.abc
import pytest
from aiohttp import web
from yarl import URL

from certificates import Authority
from hostile_registry import HostileRegistry, digest
from sampan.errors import Forbidden, SampanError, Unauthorized
from sampan.names.reference import parse_normalized
from sampan.oci.image import OCI_LAYER, Descriptor
from sampan.registry.client import RegistryClient
from sampan.registry.credentials import Credentials
from sampan.registry.failures import BrokenAnswer, CertificateRefused
from sampan.registry.pushing import Pusher
from sampan.registry.repository import Repository
from sampan.registry.settings import RegistrySettings
from sampan.registry.tokens import Realm, fetch_token

ME = Credentials(username="me", password="hunter2")
BASIC = "Basic " + base64.b64encode(b"me:hunter2").decode()


@asynccontextmanager
async def client_of(settings: RegistrySettings | None = None) -> AsyncIterator[RegistryClient]:
    client = RegistryClient(settings or RegistrySettings(attempts=1, retry_delay=0.01))
    try:
        yield client
    finally:
        await client.close()


def repository_of(
    client: RegistryClient, server: HostileRegistry, credentials: Credentials = ME
) -> Repository:
    return client.repository(parse_normalized(f"{server.host}/app"), credentials)


def wants_basic(server: HostileRegistry) -> None:
    """Let a registry ask for name and password."""

    async def behaviour(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == BASIC:
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    server.behave(behaviour)


def wants_token(server: HostileRegistry, realm: str, token: str = "good") -> None:
    """Let a registry ask for a token of a service."""

    async def behaviour(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == f"Bearer {token}":
            return None
        challenge = f'Bearer realm="{realm}",service="here",scope="repository:app:pull"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    server.behave(behaviour)


def gives_tokens(server: HostileRegistry, **extra: object) -> None:
    """Let a server be a token service that wants name and password, or the refresh token `refresh`."""

    async def behaviour(request: web.Request) -> web.StreamResponse | None:
        if request.path != "/token":
            return None
        form = parse_qs((await request.read()).decode())
        if request.headers.get("Authorization") == BASIC or form.get("refresh_token") == ["refresh"]:
            return web.json_response({"token": "good", "expires_in": 300, **extra})
        return web.json_response({"details": "incorrect username or password"}, status=401)

    server.behave(behaviour)


async def test_nothing_is_sent_before_it_is_asked_for() -> None:
    async with HostileRegistry() as server, client_of() as client:
        server.image([b"layer"])
        await repository_of(client, server).resolve("latest")
        assert [each.authorization for each in server.seen] == [""]


async def test_basic_authorization() -> None:
    async with HostileRegistry() as server, client_of() as client:
        server.image([b"layer"])
        wants_basic(server)
        await repository_of(client, server).resolve("latest")
        assert [each.authorization for each in server.seen] == ["", BASIC]
        with pytest.raises(Unauthorized):
            await repository_of(client, server, Credentials(username="me", password="wrong")).resolve(
                "latest"
            )
        with pytest.raises(Unauthorized, match="no basic auth credentials"):
            await repository_of(client, server, Credentials()).resolve("latest")


async def test_tokens_are_asked_for_once_and_used_for_all() -> None:
    async with HostileRegistry() as server, HostileRegistry() as service, client_of() as client:
        target = server.image([b"layer"])
        wants_token(server, f"{service.url}/token")
        gives_tokens(service)
        repository = repository_of(client, server)
        assert (await repository.resolve("latest")).digest == target["digest"]
        await repository.manifest(
            Descriptor(media_type=target["mediaType"], digest=target["digest"], size=target["size"])
        )
        (asked,) = service.seen
        assert asked.authorization == BASIC
        query = parse_qs(asked.query)
        assert query["service"] == ["here"]
        assert query["scope"] == ["repository:app:pull"]
        assert BASIC not in [each.authorization for each in server.seen]


async def test_pushing_asks_for_push() -> None:
    async with HostileRegistry() as server, HostileRegistry() as service, client_of() as client:
        wants_token(server, f"{service.url}/token")
        gives_tokens(service)
        await Pusher(repository_of(client, server)).manifest(b"{}", "application/json", "x")
        assert "repository:app:pull,push" in parse_qs(service.seen[0].query)["scope"]


async def test_refresh_tokens_go_in_a_form() -> None:
    async with HostileRegistry() as server, HostileRegistry() as service, client_of() as client:
        server.image([b"layer"])
        wants_token(server, f"{service.url}/token")
        gives_tokens(service)
        await repository_of(client, server, Credentials(identity_token="refresh")).resolve("latest")
        (asked,) = service.seen
        assert asked.method == "POST"
        assert "refresh" not in asked.query
        assert asked.authorization == ""


async def test_login_gives_the_refresh_token() -> None:
    async with HostileRegistry() as server, HostileRegistry() as service, client_of() as client:
        wants_token(server, f"{service.url}/token")
        gives_tokens(service, refresh_token="refresh")
        mine = Credentials(username="me", password="hunter2", server=server.host)
        assert await client.log_in(mine) == "refresh"
        assert parse_qs(service.seen[0].query)["offline_token"] == ["true"]
        wrong = Credentials(username="me", password="wrong", server=server.host)
        with pytest.raises(Unauthorized, match=r"401 Unauthorized.*incorrect username or password"):
            await client.log_in(wrong)


async def test_an_expired_token_is_renewed() -> None:
    async with HostileRegistry() as server, HostileRegistry() as service, client_of() as client:
        target = server.image([b"layer"])
        valid = ["one"]

        async def registry(request: web.Request) -> web.StreamResponse | None:
            if request.headers.get("Authorization") == f"Bearer {valid[0]}":
                return None
            challenge = f'Bearer realm="{service.url}/token",service="here",error="invalid_token"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})

        async def tokens(request: web.Request) -> web.StreamResponse | None:
            return web.json_response({"access_token": valid[0]})

        server.behave(registry)
        service.behave(tokens)
        repository = repository_of(client, server)
        await repository.resolve("latest")
        valid[0] = "two"
        assert (await repository.resolve("latest")).digest == target["digest"]
        assert len(service.seen) == 2


async def test_a_token_that_is_always_refused_ends() -> None:
    async with HostileRegistry() as server, HostileRegistry() as service, client_of() as client:
        wants_token(server, f"{service.url}/token", token="never")
        gives_tokens(service)
        with pytest.raises(Unauthorized):
            await repository_of(client, server).resolve("latest")
        assert len(server.seen) <= 3


async def test_not_to_another_origin_that_a_redirect_leads_to() -> None:
    data = b"layer"
    async with HostileRegistry() as server, HostileRegistry() as storage, client_of() as client:
        storage.blob(data)
        wants_basic(server)

        async def redirecting(request: web.Request) -> web.StreamResponse | None:
            if "/blobs/" not in request.path:
                return None
            return web.Response(
                status=307, headers={"Location": f"{storage.url}{request.path}?signature=a%2Fb"}
            )

        server.behave(redirecting)
        descriptor = Descriptor(media_type=OCI_LAYER, digest=digest(data), size=len(data))
        async with repository_of(client, server).blob(descriptor, 0) as blob:
            assert b"".join([chunk async for chunk in blob.chunks()]) == data
        assert [each.authorization for each in storage.seen] == [""]
        assert storage.seen[0].query == "signature=a%2Fb"


async def test_cve_2020_15157_not_to_who_asks_for_it_after_a_redirect() -> None:
    async with HostileRegistry() as server, HostileRegistry() as thief, client_of() as client:
        wants_basic(server)
        wants_basic(thief)
        wants_token(thief, f"{thief.url}/token")

        async def redirecting(request: web.Request) -> web.StreamResponse | None:
            return web.Response(status=307, headers={"Location": f"{thief.url}{request.path}"})

        server.behave(redirecting)
        with pytest.raises(Unauthorized):
            await repository_of(client, server).resolve("latest")
        assert {each.authorization for each in thief.seen} == {""}
        assert thief.requests("GET", "/token") == []


async def test_cve_2020_15157_not_to_the_address_of_a_foreign_layer() -> None:
    data = b"foreign"
    async with HostileRegistry() as server, HostileRegistry() as thief, client_of() as client:
        wants_basic(server)
        wants_basic(thief)
        foreign = Descriptor(
            media_type="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            digest=digest(data),
            size=len(data),
            urls=(f"{thief.url}/layer",),
        )
        with pytest.raises(Unauthorized):
            async with repository_of(client, server).blob(foreign, 0):
                pass
        assert [each.authorization for each in thief.seen] == [""]


async def test_not_to_a_mirror() -> None:
    hub = Credentials(username="me", password="hunter2", server="https://index.docker.io/v1/")
    async with (
        HostileRegistry() as mirror,
        client_of(RegistrySettings(mirrors=(mirror.url,), attempts=1)) as client,
    ):
        mirror.image([b"layer"])
        repository = client.repository(parse_normalized("busybox"), hub)
        await repository.resolve("latest")
    async with HostileRegistry() as mirror:
        wants_basic(mirror)
        wants_token(mirror, f"{mirror.url}/token")
        # The registry behind the mirror is not reached either: the proxy refuses.
        from sampan.registry.proxies import ProxySettings

        nowhere = ProxySettings(https="http://127.0.0.1:1")
        settings = RegistrySettings(mirrors=(mirror.url,), attempts=1, proxies=nowhere)
        async with client_of(settings) as client:
            repository = client.repository(parse_normalized("busybox"), hub)
            with pytest.raises(SampanError):
                await repository.resolve("latest")
            assert mirror.url in repository.mirrors_report()
        assert {each.authorization for each in mirror.seen} == {""}


async def test_not_to_another_registry_than_theirs() -> None:
    theirs = Credentials(username="me", password="hunter2", server="other.example")
    async with HostileRegistry() as server, client_of() as client:
        wants_basic(server)
        with pytest.raises(Unauthorized, match="no basic auth credentials"):
            await repository_of(client, server, theirs).resolve("latest")


async def test_cve_2019_10214_not_to_a_plain_http_realm_that_is_not_listed() -> None:
    """The token service is held to the same rules as the registry: no password without TLS."""
    async with client_of() as client:
        transport = client._transport
        realm = Realm(URL("http://192.0.2.1/token"), "here")
        for credentials in (ME, Credentials(identity_token="refresh")):
            with pytest.raises(Forbidden, match=r"plain http and not listed in insecure-registries"):
                await fetch_token(transport, realm, credentials, ["repository:app:pull"])


async def test_cve_2019_10214_not_to_a_token_service_whose_certificate_nobody_vouches_for(
    tmp_path: Path,
) -> None:
    """The registry may be insecure; its token service is another host, and is asked with TLS that is checked."""
    certificate = Authority(tmp_path).issue("service", server=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    async with HostileRegistry(context) as service, client_of() as client:
        # By a name that is nobody's own address: what 127.0.0.1 shows is never checked.
        resolver = _OneAddress()
        client._transport._sessions[""] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver), auto_decompress=False
        )
        realm = Realm(URL(f"https://tokens.example:{service.port}/token"), "here")
        with pytest.raises(CertificateRefused):
            await fetch_token(client._transport, realm, ME, ["repository:app:pull"])
        assert service.seen == []


class _OneAddress(aiohttp.abc.AbstractResolver):
    """Every name is 127.0.0.1."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        return


@pytest.mark.parametrize(
    "realm", ["", "token", "ftp://x/", "file:///etc/passwd", "http://a:b@127.0.0.1/token"]
)
async def test_a_realm_must_be_an_address(realm: str) -> None:
    async with HostileRegistry() as server, client_of() as client:
        wants_token(server, realm)
        with pytest.raises(BrokenAnswer, match="no usable token service"):
            await repository_of(client, server).resolve("latest")


async def test_a_refresh_token_follows_no_redirect() -> None:
    async with (
        HostileRegistry() as server,
        HostileRegistry() as service,
        HostileRegistry() as thief,
        client_of() as client,
    ):
        wants_token(server, f"{service.url}/token")

        async def redirecting(request: web.Request) -> web.StreamResponse | None:
            return web.Response(status=307, headers={"Location": f"{thief.url}/token"})

        service.behave(redirecting)
        with pytest.raises(SampanError):
            await repository_of(client, server, Credentials(identity_token="refresh")).resolve("latest")
        assert thief.seen == []


async def test_name_and_password_follow_no_redirect_of_the_realm() -> None:
    async with (
        HostileRegistry() as server,
        HostileRegistry() as service,
        HostileRegistry() as thief,
        client_of() as client,
    ):
        wants_token(server, f"{service.url}/token")

        async def redirecting(request: web.Request) -> web.StreamResponse | None:
            return web.Response(status=302, headers={"Location": f"{thief.url}/token"})

        service.behave(redirecting)
        gives_tokens(thief)
        with pytest.raises(SampanError):
            await repository_of(client, server).resolve("latest")
        assert {each.authorization for each in thief.seen} == {""}


async def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with HostileRegistry() as server, HostileRegistry() as service, client_of() as client:
        server.image([b"layer"])
        wants_token(server, f"{service.url}/token")
        gives_tokens(service)
        await repository_of(client, server).resolve("latest")
        with pytest.raises(Unauthorized) as caught:
            await repository_of(client, server, Credentials(username="me", password="hunter3")).resolve(
                "latest"
            )
    shown = caplog.text + str(caught.value)
    for secret in ("hunter2", "hunter3", BASIC.partition(" ")[2], "Bearer good"):
        assert secret not in shown
