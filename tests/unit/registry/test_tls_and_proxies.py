"""Certificates of `certs.d` and ways through proxies, with a registry at an address that only the proxy reaches."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certificates import Authority
from hostile_registry import HostileRegistry
from proxies import Proxy
from sampan.errors import InvalidParameter, SampanError
from sampan.names.reference import parse_normalized
from sampan.registry.client import RegistryClient
from sampan.registry.credentials import ANONYMOUS
from sampan.registry.failures import CertificateRefused, ConnectionFailed
from sampan.registry.proxies import ProxySettings
from sampan.registry.settings import RegistrySettings

HOST = "192.0.2.10:5000"
"""An address for documentation (RFC 5737): nothing is there, and it is not this machine's own."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_certificate(authority: Authority) -> Path:
    return authority.issue("server", server=True, names="IP:192.0.2.10,IP:127.0.0.1")


@pytest.fixture(scope="module")
def client_certificate(authority: Authority) -> Path:
    return authority.issue("client")


def server_side(certificate: Path, client_authority: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    if client_authority is not None:
        context.load_verify_locations(client_authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def resolved(settings: RegistrySettings, name: str = f"{HOST}/app") -> AsyncIterator[str]:
    """What `latest` of the repository is to a client."""
    client = RegistryClient(settings)
    try:
        yield (await client.repository(parse_normalized(name), ANONYMOUS).resolve("latest")).digest
    finally:
        await client.close()


def settings_for(proxy: Proxy, directory: Path, **more: object) -> RegistrySettings:
    proxies = ProxySettings(http=proxy.url, https=proxy.url)
    return RegistrySettings(
        proxies=proxies,
        certificate_directories=(str(directory),),
        attempts=1,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("user", ["", "me"])
async def test_a_private_authority_through_a_proxy(
    kind: str, user: str, tmp_path: Path, authority: Authority, server_certificate: Path
) -> None:
    directory = tmp_path / HOST
    directory.mkdir()
    async with HostileRegistry(server_side(server_certificate)) as server:
        target = server.image([b"layer"])
        async with Proxy(kind, server.port, user, "secret" if user else "") as proxy:
            settings = settings_for(proxy, tmp_path)
            with pytest.raises(
                CertificateRefused, match="tls: failed to verify certificate: x509: "
            ) as caught:
                async with resolved(settings):
                    pass
            assert "secret" not in str(caught.value)
            (directory / "ca.crt").write_bytes(authority.certificate.read_bytes())
            async with resolved(settings) as found:
                assert found == target["digest"]
            assert set(proxy.asked) == {HOST}


async def test_an_insecure_registry_needs_no_known_authority(
    tmp_path: Path, server_certificate: Path
) -> None:
    async with HostileRegistry(server_side(server_certificate)) as server:
        target = server.image([b"layer"])
        async with (
            Proxy("http", server.port) as proxy,
            resolved(settings_for(proxy, tmp_path, insecure=("192.0.2.0/24",))) as found,
        ):
            assert found == target["digest"]


async def test_only_an_insecure_registry_may_speak_plain_http(tmp_path: Path) -> None:
    async with HostileRegistry() as server:
        target = server.image([b"layer"])
        async with Proxy("socks5", server.port) as proxy:
            with pytest.raises(ConnectionFailed):
                async with resolved(settings_for(proxy, tmp_path)):
                    pass
            assert server.seen == []
            async with resolved(settings_for(proxy, tmp_path, insecure=(HOST,))) as found:
                assert found == target["digest"]


async def test_client_certificates(
    tmp_path: Path, authority: Authority, server_certificate: Path, client_certificate: Path
) -> None:
    async with HostileRegistry(server_side(server_certificate, authority.certificate)) as server:
        target = server.image([b"layer"])
        directory = tmp_path / server.host
        directory.mkdir()
        settings = RegistrySettings(certificate_directories=(str(tmp_path),), attempts=1)
        with pytest.raises(SampanError):
            async with resolved(settings, f"{server.host}/app"):
                pass
        (directory / "me.cert").write_bytes((client_certificate / "cert.pem").read_bytes())
        with pytest.raises(InvalidParameter, match=r"missing key me.key for client certificate me.cert"):
            async with resolved(settings, f"{server.host}/app"):
                pass
        (directory / "me.key").write_bytes((client_certificate / "key.pem").read_bytes())
        async with resolved(settings, f"{server.host}/app") as found:
            assert found == target["digest"]


async def test_a_broken_certificate_file_is_named(tmp_path: Path) -> None:
    async with HostileRegistry() as server:
        directory = tmp_path / server.host
        directory.mkdir()
        (directory / "ca.crt").write_text("nonsense")
        settings = RegistrySettings(certificate_directories=(str(tmp_path),), attempts=1)
        with pytest.raises(InvalidParameter, match=r"cannot read .*ca\.crt"):
            async with resolved(settings, f"{server.host}/app"):
                pass


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_proxy_that_refuses_is_named_without_its_password(kind: str) -> None:
    async with HostileRegistry() as server, Proxy(kind, server.port, "me", "right") as proxy:
        wrong = ProxySettings(https=proxy.url.replace("right", "wrong"))
        settings = RegistrySettings(proxies=wrong, attempts=1)
        with pytest.raises(ConnectionFailed) as caught:
            async with resolved(settings):
                pass
        assert f"127.0.0.1:{proxy.port}" in str(caught.value)
        assert "wrong" not in str(caught.value)
