"""Pull and push through the docker CLI, against Debian's docker-registry."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from image_archives import Layout, digest, tar
from image_engine import ImageEngine
from registry_peer import DockerRegistry
from sampan.registry.settings import RegistrySettings

pytestmark = pytest.mark.root

MakeEngine = Callable[..., ImageEngine]


def sent(engine: ImageEngine, image: bytes, name: str) -> str:
    """Load the image and push it under a name; the digest that docker printed."""
    engine.docker("load", stdin=image)
    engine.docker("tag", "source:1", name)
    found = re.search(r"digest: (sha256:\w+)", engine.docker("push", name))
    assert found is not None
    return found[1]


def test_what_is_pushed_is_pulled_with_the_same_digest(
    docker_registry: DockerRegistry, make_image_engine: MakeEngine, image: bytes
) -> None:
    sender, receiver = make_image_engine(), make_image_engine()
    name = f"{docker_registry.host}/team/app:1"
    pushed = sent(sender, image, name)
    output = receiver.docker("pull", name)
    assert f"Digest: {pushed}" in output
    assert f"Status: Downloaded newer image for {name}" in output
    assert len(re.findall(r"^\w{12}: Pulling fs layer$", output, re.M)) == 3
    assert len(re.findall(r"^\w{12}: Download complete$", output, re.M)) == 3
    assert len(re.findall(r"^\w{12}: Pull complete$", output, re.M)) == 3
    assert output.splitlines()[0] == "1: Pulling from team/app"
    assert output.splitlines()[-1] == name
    again = receiver.docker("pull", name)
    assert f"Status: Image is up to date for {name}" in again
    assert "fs layer" not in again
    assert json.loads(receiver.docker("image", "inspect", name))[0]["Id"] == pushed
    saved = receiver.docker_raw("save", name)
    assert saved.returncode == 0


def test_pull_quietly_and_by_digest(
    docker_registry: DockerRegistry, make_image_engine: MakeEngine, image: bytes
) -> None:
    sender, receiver = make_image_engine(), make_image_engine()
    pushed = sent(sender, image, f"{docker_registry.host}/app:1")
    name = f"{docker_registry.host}/app@{pushed}"
    assert receiver.docker("pull", "-q", name).strip() == name
    (shown,) = json.loads(receiver.docker("image", "inspect", name))
    assert shown["RepoDigests"] == [name]
    assert shown["RepoTags"] == []


def test_pull_and_push_all_tags(
    docker_registry: DockerRegistry, make_image_engine: MakeEngine, image: bytes
) -> None:
    sender, receiver = make_image_engine(), make_image_engine()
    repository = f"{docker_registry.host}/many"
    sender.docker("load", stdin=image)
    for tag in ("a", "b", "c"):
        sender.docker("tag", "source:1", f"{repository}:{tag}")
    output = sender.docker("push", "-a", repository)
    assert [line[0] for line in output.splitlines() if "digest: sha256" in line] == ["a", "b", "c"]
    receiver.docker("pull", "-a", repository)
    assert sorted(receiver.docker("images", "--format", "{{.Tag}}", repository).split()) == ["a", "b", "c"]


def test_push_sends_nothing_twice(
    docker_registry: DockerRegistry, make_image_engine: MakeEngine, image: bytes
) -> None:
    engine = make_image_engine()
    sent(engine, image, f"{docker_registry.host}/one:1")
    again = engine.docker("push", f"{docker_registry.host}/one:1")
    assert len(re.findall(r"^\w{12}: Layer already exists$", again, re.M)) == 3
    engine.docker("tag", "source:1", f"{docker_registry.host}/two:1")
    mounted = engine.docker("push", f"{docker_registry.host}/two:1")
    assert len(re.findall(r"^\w{12}: Mounted from one$", mounted, re.M)) == 3
    uploads = re.findall(r'"(?:PATCH|PUT) /v2/two/blobs/uploads', docker_registry.log)
    assert uploads == []


def test_platforms_of_an_index(docker_registry: DockerRegistry, make_image_engine: MakeEngine) -> None:
    layout = Layout()
    parts = []
    for architecture in ("amd64", "arm64"):
        fields = {"architecture": architecture}
        target = layout.image([tar({"arch": architecture.encode()})], **fields)
        parts.append({**target, "platform": {"os": "linux", "architecture": architecture}})
    layout.name(layout.nested_index(parts), "docker.io/library/both:1")
    sender, receiver = make_image_engine(), make_image_engine()
    name = f"{docker_registry.host}/both:1"
    sender.docker("load", stdin=layout.archive())
    sender.docker("tag", "both:1", name)
    sender.docker("push", name)
    receiver.docker("pull", "--platform", "linux/arm64", name)
    (shown,) = json.loads(receiver.docker("image", "inspect", name))
    assert shown["Architecture"] == "arm64"
    missing = receiver.docker("pull", "--platform", "linux/s390x", name, ok=False)
    assert "no matching manifest for linux/s390x in the manifest list entries" in missing
    # One platform is here; the registry has the other, so the index goes back as it was.
    assert "digest: " + shown["Id"] in receiver.docker("push", name)
    elsewhere = receiver.docker("tag", name, f"{docker_registry.host}/other:1")
    assert elsewhere == ""
    alone = receiver.docker("push", f"{docker_registry.host}/other:1")
    assert "digest: " + parts[1]["digest"] in alone


def test_what_is_not_there(docker_registry: DockerRegistry, make_image_engine: MakeEngine) -> None:
    engine = make_image_engine()
    name = f"{docker_registry.host}/nosuch"
    assert engine.docker("pull", name, ok=False) == (
        f'Error response from daemon: failed to resolve reference "{name}:latest": {name}:latest: not found\n'
    )
    refused = engine.docker("pull", "127.0.0.1:1/nosuch", ok=False)
    assert refused == (
        'Error response from daemon: failed to resolve reference "127.0.0.1:1/nosuch:latest": failed to do request: '
        'Head "https://127.0.0.1:1/v2/nosuch/manifests/latest": dial tcp 127.0.0.1:1: connect: connection refused\n'
    )
    assert "tag does not exist: nosuch:latest" in engine.docker("push", "nosuch", ok=False)
    assert engine.docker("images", "-aq") == ""


def test_login(locked_registry: DockerRegistry, make_image_engine: MakeEngine, image: bytes) -> None:
    engine = make_image_engine()
    host = locked_registry.host
    name = f"{host}/mine:1"
    engine.docker("load", stdin=image)
    engine.docker("tag", "source:1", name)
    assert "no basic auth credentials" in engine.docker("push", name, ok=False)
    assert "401 Unauthorized" in engine.docker("login", "-u", "me", "-p", "wrong", host, ok=False)
    assert "Login Succeeded" in engine.docker("login", "-u", "me", "--password-stdin", host, stdin=b"secret")
    engine.docker("push", name)
    engine.docker("rmi", name)
    engine.docker("pull", name)
    assert "Removing login credentials" in engine.docker("logout", host)
    assert "no basic auth credentials" in engine.docker("pull", name, ok=False)


def test_manifest_inspect_and_distribution(
    docker_registry: DockerRegistry, make_image_engine: MakeEngine, image: bytes
) -> None:
    engine = make_image_engine()
    name = f"{docker_registry.host}/app:1"
    pushed = sent(engine, image, name)
    document = json.loads(engine.docker("manifest", "inspect", "--insecure", name))
    assert document["schemaVersion"] == 2
    found = engine.run(_distribution(engine, name))
    assert found["Descriptor"]["digest"] == pushed
    assert found["Platforms"] == [{"architecture": "amd64", "os": "linux"}]


async def _distribution(engine: ImageEngine, name: str) -> dict[str, object]:
    import aiohttp

    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(engine.socket))) as session,
        session.get(f"http://engine/v1.47/distribution/{name}/json") as response,
    ):
        assert response.status == 200
        found: dict[str, object] = await response.json()
        return found


def test_simultaneous_pulls_share_their_layers(
    docker_registry: DockerRegistry, make_image_engine: MakeEngine, image: bytes
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    sent(make_image_engine(), image, f"{docker_registry.host}/app:1")
    receiver = make_image_engine()
    before = len(re.findall(r'"GET /v2/app/blobs/', docker_registry.log))
    with ThreadPoolExecutor(6) as pool:
        outputs = list(pool.map(lambda _: receiver.docker("pull", f"{docker_registry.host}/app:1"), range(6)))
    assert all("Status: " in output for output in outputs)
    fetched = re.findall(r'"GET /v2/app/blobs/(sha256:\w+)', docker_registry.log)[before:]
    layers = json.loads(receiver.docker("image", "inspect", f"{docker_registry.host}/app:1"))[0]["RootFS"][
        "Layers"
    ]
    for layer in layers:
        assert fetched.count(layer) == 1  # layers are plain tars here, so diff id and digest agree


def test_a_damaged_blob_is_refused_and_nothing_is_stored(
    docker_registry: DockerRegistry, make_image_engine: MakeEngine, image: bytes
) -> None:
    name = f"{docker_registry.host}/app:1"
    sender = make_image_engine()
    sent(sender, image, name)
    layer = json.loads(sender.docker("image", "inspect", name))[0]["RootFS"]["Layers"][0]
    path = docker_registry.blob_path(layer)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    receiver = make_image_engine(RegistrySettings(retry_delay=0.01))
    refused = receiver.docker("pull", name, ok=False)
    assert f"filesystem layer verification failed for digest {layer}" in refused
    assert receiver.docker("images", "-aq") == ""
    assert layer not in [each.expected for each in receiver.run(receiver.content.ingests())]
    assert layer not in [each.digest for each in receiver.run(receiver.content.walk())]


def test_mirrors_are_tried_first_and_named_when_all_fails(
    docker_registry: DockerRegistry, make_image_engine: MakeEngine, image: bytes
) -> None:
    pushed = sent(make_image_engine(), image, f"{docker_registry.host}/library/source:1")
    mirrors = ("http://127.0.0.1:1", f"http://{docker_registry.host}")
    receiver = make_image_engine(RegistrySettings(mirrors=mirrors, attempts=1))
    assert f"Digest: {pushed}" in receiver.docker("pull", "source:1")
    assert json.loads(receiver.docker("image", "inspect", "source:1"))[0]["Id"] == pushed
    failed = receiver.docker("pull", "absent:1", ok=False)
    assert "mirrors tried first: http://127.0.0.1:1: " in failed
    assert "connection refused" in failed
    assert f'"registry-mirrors": ["http://127.0.0.1:1", "http://{docker_registry.host}"]' in failed


def test_digest_of_the_archive_helper_is_the_registrys(
    docker_registry: DockerRegistry, make_image_engine: MakeEngine
) -> None:
    """An image whose layers are compressed keeps its bytes on the way there and back."""
    import gzip

    layout = Layout()
    layer = tar({"file": b"content"})
    packed = gzip.compress(layer, mtime=0)
    target = layout.image([layer])
    manifest = json.loads(layout.blobs[target["digest"]])
    manifest["layers"] = [layout.blob(packed, "application/vnd.oci.image.layer.v1.tar+gzip")]
    layout.name(layout.blob(json.dumps(manifest).encode(), target["mediaType"]), "docker.io/library/z:1")
    engine = make_image_engine()
    engine.docker("load", stdin=layout.archive())
    engine.docker("tag", "z:1", f"{docker_registry.host}/z:1")
    engine.docker("push", f"{docker_registry.host}/z:1")
    assert docker_registry.blob_path(digest(packed)).read_bytes() == packed
