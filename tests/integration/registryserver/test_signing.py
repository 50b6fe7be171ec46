"""Signatures: made and verified, by Sampan, skopeo and (in the clients' suite) cosign; a policy that pulls and loads obey."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_archives import tar
from image_engine import ImageEngine
from registry_peer import SampanRegistry
from sampan.registry import simplesigning
from sampan.registry.settings import RegistrySettings

pytestmark = pytest.mark.root


def run(*command: str, ok: bool = True, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )
    assert (done.returncode == 0) is ok, (command, done.stdout, done.stderr)
    return done.stdout if ok else done.stderr


@pytest.fixture
def sampan(tmp_path: Path) -> Callable[..., str]:
    def command(*words: str, ok: bool = True, **environment: str) -> str:
        configuration = {"DOCKER_CONFIG": str(tmp_path / "config"), **environment}
        return run(sys.executable, "-m", "sampan.cli", *words, ok=ok, **configuration)

    return command


@pytest.fixture
def name(server: SampanRegistry, make_image_engine: Callable[..., ImageEngine], image: bytes) -> str:
    """An image at a registry."""
    engine = make_image_engine()
    engine.docker("load", stdin=image)
    name = f"{server.host}/team/app:1"
    engine.docker("tag", "source:1", name)
    engine.docker("push", name)
    return name


def key_pair(directory: Path, name: str, *kind: str) -> tuple[str, str]:
    private, public = str(directory / f"{name}.pem"), str(directory / f"{name}.pub")
    run("openssl", "genpkey", *kind, "-out", private)
    run("openssl", "pkey", "-in", private, "-pubout", "-out", public)
    return private, public


EC = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def policy(directory: Path, scopes: dict[str, list[dict[str, Any]]]) -> str:
    file = directory / "policy.json"
    file.write_text(json.dumps({"default": [{"type": "reject"}], "transports": {"docker": scopes}}))
    return str(file)


def signed_by(public: str) -> list[dict[str, Any]]:
    """The requirement of a signature by a key."""
    return [{"type": "sigstoreSigned", "keyData": base64.b64encode(Path(public).read_bytes()).decode()}]


def test_sign_and_verify(sampan: Callable[..., str], name: str, tmp_path: Path) -> None:
    (private, public), (other_private, other_public) = (key_pair(tmp_path, each, *EC) for each in "ab")
    sampan("image", "sign", "--key", private, name)
    assert "A signature was required" in sampan("image", "verify", "--key", other_public, name, ok=False)
    sampan("image", "sign", "--key", other_private, name)
    sampan("image", "verify", "--key", public, name)  # a new signature keeps those of others
    other = name.replace(":1", ":2")
    sampan("image", "copy", name, other)
    sampan("image", "verify", "--key", public, other, ok=False)  # the same image, whom nobody has called that
    assert ": verified" in sampan("image", "verify", "--any-name", "--key", public, other)


def test_pulls_obey_a_policy(
    sampan: Callable[..., str],
    name: str,
    tmp_path: Path,
    make_image_engine: Callable[..., ImageEngine],
) -> None:
    private, public = key_pair(tmp_path, "key", *EC)
    file = policy(tmp_path, {name.rpartition("/")[0]: signed_by(public)})
    engine = make_image_engine(RegistrySettings(signature_policy=file))
    refused = engine.docker("pull", name, ok=False)
    assert "Source image rejected: A signature was required" in refused
    assert engine.docker("images", "-aq") == ""
    sampan("image", "sign", "--key", private, name)
    digest = engine.docker("pull", name).partition("Digest: ")[2].split()[0]
    engine.docker("rmi", name)
    engine.docker("pull", f"{name.rpartition(':')[0]}@{digest}")
    policy(tmp_path, {name.rpartition("/")[0]: [{"type": "insecureAcceptAnything"}, {"type": "reject"}]})
    assert "is rejected by policy" in engine.docker("pull", name, ok=False)
    Path(file).write_text("{")
    assert "signature policy" in engine.docker("pull", name, ok=False)


def add_line(file: str, refusal: str) -> None:
    """Do what a refusal says: add its line to the policy's object that it names."""
    where, _, line = refusal.partition("to take it, add to transports")[2].strip().partition(": ")
    document = json.loads(Path(file).read_text())
    place = document["transports"]
    for each in filter(None, where.split(".")):
        place = place[each]
    place |= json.loads("{" + line.rpartition(")")[0] + "}")
    Path(file).write_text(json.dumps(document))


def test_loading_obeys_the_policy_and_what_is_here_is_not_asked_about(
    image: bytes,
    tmp_path: Path,
    make_image_engine: Callable[..., ImageEngine],
) -> None:
    file = policy(tmp_path, {})
    engine = make_image_engine(RegistrySettings(signature_policy=file))
    refused = engine.docker("load", stdin=image, ok=False)
    assert "Source image rejected" in refused and file in refused
    assert engine.docker("images", "-aq") == ""
    add_line(file, refused)
    engine.docker("load", stdin=image)
    policy(tmp_path, {})
    engine.docker("tag", "source:1", "other:1")
    engine.docker("image", "inspect", "other:1")


def test_what_is_made_here_is_nobody_elses(
    sampan: Callable[..., str], image: bytes, tmp_path: Path, make_image_engine: Callable[..., ImageEngine]
) -> None:
    engine = make_image_engine(RegistrySettings(signature_policy=policy(tmp_path, {})))
    host = {"DOCKER_HOST": f"unix://{engine.socket}"}
    sampan("image", "bootstrap", "busybox", **host)
    engine.docker("import", "-", "imported:1", stdin=tar({"file": b"text"}))
    assert len(engine.docker("images", "-q").split()) == 2


def test_a_copy_into_the_store_is_asked_about_as_a_pull(
    sampan: Callable[..., str],
    name: str,
    tmp_path: Path,
    make_image_engine: Callable[..., ImageEngine],
) -> None:
    file = policy(tmp_path, {"elsewhere.example.com": [{"type": "insecureAcceptAnything"}]})
    engine = make_image_engine(RegistrySettings(signature_policy=file))
    host = {"DOCKER_HOST": f"unix://{engine.socket}"}
    copy = ("image", "copy", f"docker://{name}", "store:copied:1")
    refused = sampan(*copy, ok=False, **host)
    assert f"Running image {name} is rejected by policy" in refused
    add_line(file, refused)
    sampan(*copy, **host)
    # Nobody passes an archive off as what a trusted name means.
    other = tmp_path / "other.tar"
    sampan("image", "bootstrap", "busybox", "-o", str(other))
    load = ("curl", "-s", "--unix-socket", str(engine.socket), "--data-binary", f"@{other}")
    said = run(*load, f"http://engine/images/load?origin=docker://{name}")
    assert f"is not what {name} is at its registry" in said
    assert engine.docker("images", "-q", "busybox") == ""


def test_signatures_of_what_is_copied_into_the_store(
    sampan: Callable[..., str],
    name: str,
    tmp_path: Path,
    make_image_engine: Callable[..., ImageEngine],
) -> None:
    private, public = key_pair(tmp_path, "key", *EC)
    file = policy(tmp_path, {name.rpartition("/")[0]: signed_by(public)})
    engine = make_image_engine(RegistrySettings(signature_policy=file))
    host = {"DOCKER_HOST": f"unix://{engine.socket}"}
    copy = ("image", "copy", f"docker://{name}", "store:copied:1")
    assert "A signature was required" in sampan(*copy, ok=False, **host)
    sampan("image", "sign", "--key", private, name)
    sampan(*copy, **host)


@pytest.fixture
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A gpg keyring with one key, whose public half is in `key.gpg`."""
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    environment = {"GNUPGHOME": str(home)}
    run(
        "gpg",
        "--batch",
        "--passphrase",
        "",
        "--quick-gen-key",
        "me@example.com",
        "rsa2048",
        "sign",
        "never",
        **environment,
    )
    run("gpg", "--batch", "--output", str(home / "key.gpg"), "--export", "me@example.com", **environment)
    yield environment
    run("gpgconf", "--kill", "all", **environment)


def test_simple_signing_as_skopeo_does_it(
    sampan: Callable[..., str],
    name: str,
    tmp_path: Path,
    keyring: dict[str, str],
    make_image_engine: Callable[..., ImageEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "lookaside"
    registries = tmp_path / "registries.d"
    registries.mkdir()
    host = name.partition("/")[0]
    (registries / "here.yaml").write_text(f"docker:\n  {host}:\n    lookaside: file://{place}\n")
    key = f"{keyring['GNUPGHOME']}/key.gpg"
    file = policy(tmp_path, {host: [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": key}]})
    skopeo = ("skopeo", "--policy", file, "--registries.d", str(registries), "copy", "--src-tls-verify=false")
    run(*skopeo, f"docker://{name}", f"dir:{tmp_path}/a", ok=False)
    sampan("image", "sign", "--sign-by", "me@example.com", "--lookaside", str(place), name, **keyring)
    run(*skopeo, f"docker://{name}", f"dir:{tmp_path}/a")
    # The other way round: skopeo signs, Sampan's engine verifies.
    (tmp_path / "accept.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    other = f"{host}/other/app:1"
    run(
        *("skopeo", "--policy", f"{tmp_path}/accept.json", "--registries.d", str(registries), "copy"),
        *("--src-tls-verify=false", "--dest-tls-verify=false", "--sign-by", "me@example.com"),
        *(f"docker://{name}", f"docker://{other}"),
        **keyring,
    )
    monkeypatch.setattr(simplesigning.Lookasides.configured.__func__, "__defaults__", ((str(registries),),))
    engine = make_image_engine(RegistrySettings(signature_policy=file))
    engine.docker("pull", other)
    engine.docker("pull", name)
    unsigned = f"{host}/other/app:2"
    sampan("image", "copy", other, unsigned)
    assert "A signature was required" in engine.docker("pull", unsigned, ok=False)
    signatures = list((place / "other").glob("*/signature-*"))
    assert len(signatures) == 2  # skopeo has copied ours, which is for another name, and added its own
    for signature in signatures:
        signature.write_bytes(signature.read_bytes()[:-10] + b"0123456789")
    assert "A signature was required" in engine.docker("pull", other, ok=False)
