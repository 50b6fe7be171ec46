"""containerd's `hosts.toml`: mirrors of any registry, and whom they get to see."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from certificates import Authority
from hostile_registry import HostileRegistry, digest
from sampan.errors import InvalidParameter, SampanError
from sampan.names.reference import parse_normalized
from sampan.oci.image import OCI_LAYER, Descriptor
from sampan.registry.client import RegistryClient
from sampan.registry.credentials import Credentials
from sampan.registry.endpoints import endpoints_of
from sampan.registry.hostsfile import listed_hosts
from sampan.registry.settings import RegistrySettings


def written(directory: Path, domain: str, text: str) -> RegistrySettings:
    folder = directory / domain
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(text)
    return RegistrySettings(certificate_directories=(str(directory),), attempts=1, retry_delay=0.01)


async def test_a_mirror_of_any_registry(tmp_path: Path) -> None:
    """It is asked first and told which registry is meant; it gets no credentials; by digest alone when it may not resolve."""
    async with HostileRegistry() as origin, HostileRegistry() as mirror:
        target = origin.image([b"layer"])
        mirror.image([b"layer"])
        text = f'[host."{mirror.url}"]\ncapabilities = ["pull"]\n'
        client = RegistryClient(written(tmp_path, origin.host, text))
        try:
            mine = Credentials(username="me", password="secret", server=origin.host)
            repository = client.repository(parse_normalized(f"{origin.host}/app"), mine)
            found = await repository.resolve("latest")
            assert found.digest == target["digest"]
            assert mirror.seen == []
            await repository.manifest(found)
            layer = Descriptor(media_type=OCI_LAYER, digest=digest(b"layer"), size=5)
            async with repository.blob(layer, 0) as blob:
                assert await blob.read(100) == b"layer"
            assert [each.query for each in mirror.seen] == [f"ns={origin.host}"] * 2
            assert {each.authorization for each in mirror.seen} == {""}
            mirror.manifests.clear()
            await repository.manifest(found)  # the registry itself serves what the mirror has not
            assert f"the file is {tmp_path}" in repository.mirrors_report()
        finally:
            await client.close()


async def test_its_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, mine = authority.issue("mirror", server=True), authority.issue("client")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    async with HostileRegistry() as origin, HostileRegistry(context) as mirror:
        target = mirror.image([b"layer"])
        pair = f'client = [["{mine}/cert.pem", "{mine}/key.pem"]]\n'
        for name, text in (("without", ""), ("with", f'ca = "{authority.certificate}"\n{pair}')):
            settings = written(tmp_path / name, origin.host, f'[host."{mirror.url}"]\n{text}')
            client = RegistryClient(settings)
            try:
                repository = client.repository(parse_normalized(f"{origin.host}/app"), Credentials())
                if text:
                    assert (await repository.resolve("latest")).digest == target["digest"]
                else:
                    with pytest.raises(SampanError):
                        await repository.resolve("latest")
            finally:
                await client.close()


def test_which_file_counts(tmp_path: Path) -> None:
    written(tmp_path, "_default", '[host."https://for-all.example"]\n')
    written(
        tmp_path,
        "r.example_5000_",
        '[host."https://for-one.example"]\ncapabilities = ["pull", "resolve", "push"]\n',
    )
    settings = written(
        tmp_path,
        "docker.io",
        '[host."http://hub.example"]\n[host."https://push.example"]\ncapabilities = ["push"]\n',
    )

    def urls(domain: str) -> list[str]:
        return [str(each.url) for each in endpoints_of(domain, settings)]

    assert urls("r.example:5000") == ["https://for-one.example", "https://r.example:5000"]
    assert urls("other.example") == ["https://for-all.example", "https://other.example"]
    assert urls("docker.io") == ["http://hub.example", "https://registry-1.docker.io"]
    assert listed_hosts("../etc", (str(tmp_path),)) == []


@pytest.mark.parametrize(
    "text",
    [
        "host = 1",
        "[host",
        '[host."ftp://x"]',
        '[host."https://u:p@x"]',
        '[host."https://x/deep/path"]',
        '[host."https://x"]\ncapabilities = "pull"',
        '[host."https://x"]\nca = [1]',
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str) -> None:
    settings = written(tmp_path, "r.example", text)
    with pytest.raises(InvalidParameter, match=r"hosts\.toml"):
        endpoints_of("r.example", settings)
