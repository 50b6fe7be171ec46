"""distribution's config.yml and variables, and the file of passwords."""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path

import bcrypt
import pytest

from sampan.errors import InvalidParameter
from sampan.registryserver.access import Passwords
from sampan.registryserver.configuration import load, seconds
from sampan.registryserver.failures import Refused

DEBIAN = """
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/docker-registry
  delete:
    enabled: true
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.yml"
    file.write_text(text)
    return file


def test_debians_configuration(tmp_path: Path) -> None:
    config = load(written(tmp_path, DEBIAN), {}, tmp_path)
    assert (config.root, config.address, config.delete) == ("/var/lib/docker-registry", ":5000", True)
    assert config.headers == {"X-Content-Type-Options": ["nosniff"]}
    assert [each.partition(" ")[0] for each in config.warnings] == ["health"]


def test_no_key_is_passed_over_in_silence(tmp_path: Path) -> None:
    text = (
        DEBIAN
        + "http2: {}\npolicy: {repository: {classes: [image]}}\nproxy: {exec: {command: x}, remoturl: y}\n"
    )
    config = load(written(tmp_path, text), {"REGISTRY_PORT_5000_TCP": "tcp://10.0.0.1:5000"}, tmp_path)
    assert [each.partition(" ")[0] for each in config.warnings] == [
        "health",
        "http2",
        "policy",
        "proxy.exec",
        "proxy.remoturl",
    ]


def test_what_tls_logs_and_purging_are_told(tmp_path: Path) -> None:
    variables = {
        "REGISTRY_HTTP_TLS_MINIMUMTLS": "tls1.3",
        "REGISTRY_HTTP_TLS_CLIENTAUTH": "verify-client-cert-if-given",
        "REGISTRY_HTTP_PREFIX": "/a/b/",
        "REGISTRY_HTTP_NET": "unix",
        "REGISTRY_LOG_ACCESSLOG_DISABLED": "true",
        "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_DRYRUN": "true",
    }
    config = load(written(tmp_path, DEBIAN), variables, tmp_path)
    assert (config.minimum_tls, config.client_auth) == ("tls1.3", "verify-client-cert-if-given")
    assert (config.prefix, config.network, config.access_log) == ("/a/b", "unix", False)
    assert config.log_fields == {"service": "registry"}
    assert config.upload_age == 0 and "dryrun" in config.warnings[-1]


def test_variables_win(tmp_path: Path) -> None:
    environment = {
        "REGISTRY_HTTP_ADDR": "127.0.0.1:6000",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/srv",
        "REGISTRY_STORAGE_DELETE_ENABLED": "false",
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_PATH": "/passwords",
        "REGISTRY_AUTH_HTPASSWD_REALM": "here",
        "REGISTRY_STORAGE_MAINTENANCE_READONLY": "{enabled: true}",
        "REGISTRY_HTTP_TLS_CERTIFICATE": "/c",
        "REGISTRY_HTTP_TLS_KEY": "/k",
        "OTHER": "x",
    }
    config = load(written(tmp_path, DEBIAN), environment, tmp_path)
    assert (config.address, config.root, config.delete, config.read_only) == (
        "127.0.0.1:6000",
        "/srv",
        False,
        True,
    )
    assert (config.htpasswd, config.realm, config.certificate, config.key) == (
        "/passwords",
        "here",
        "/c",
        "/k",
    )


def test_secrets_stay_as_they_are_written(tmp_path: Path) -> None:
    """YAML makes 83 of 0123 and true of yes."""
    proxy = "proxy:\n  remoteurl: https://up\n  username: yes\n  password: 0123\n"
    for environment in ({}, {"REGISTRY_PROXY_PASSWORD": "0123"}):
        (upstream,) = load(written(tmp_path, DEBIAN + proxy), environment, tmp_path).upstreams
        assert (upstream["username"], upstream["password"]) == ("yes", "0123")


def test_without_a_file_it_is_for_this_machine_alone(tmp_path: Path) -> None:
    config = load(None, {}, tmp_path)
    assert (config.root, config.address) == (str(tmp_path), "127.0.0.1:5000")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "it must hold a mapping"),
        ("version: 0.2", "unsupported version"),
        ("version: 0.1", "storage needs one driver"),
        ("version: 0.1\nstorage: {s3: {}}", "storage.s3 needs a bucket"),
        ("version: 0.1\nstorage: {azure: {}}", "storage.azure is not supported"),
        ("version: 0.1\nstorage: {filesystem: {}, inmemory: {}}", "storage needs one driver"),
        ("version: 0.1\nstorage: [x]", "storage must be a mapping"),
        ("version: 0.1\nstorage: {filesystem: {}}\nauth: {silly: {}}", "auth.silly is not supported"),
        ("version: 0.1\nstorage: {filesystem: {}}\nauth: htpasswd", "auth.htpasswd needs a path"),
        ("version: 0.1\nstorage: {filesystem: {}}\nhttp: {tls: {key: x}}", "both certificate and key"),
        (
            "version: 0.1\nstorage: {filesystem: {}, maintenance: {uploadpurging: {age: soon}}}",
            "invalid duration 'soon'",
        ),
        ("a: {b", "error parsing"),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nhttp: {tls: {clientauth: request-client-cert}}",
            "http.tls.clientauth: 'request-client-cert' is not supported",
        ),
        (
            "version: 0.1\nstorage: {filesystem: {}}\nvalidation: {manifests: {urls: {allow: ['x*[']}}}",
            "validation.manifests.urls: 'x*['",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(message)):
        load(written(tmp_path, text), {}, tmp_path)


def test_durations() -> None:
    assert [seconds(each) for each in ("168h", "1m30s", "250ms", 5_000_000_000)] == [604800, 90, 0.25, 5]


def test_passwords(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    stored = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")
    file.write_text(f"# users\nme:{stored}\nold:{{SHA}}xyz\n")

    def header(user: str, password: str) -> str:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    async def run() -> None:
        access = Passwords(str(file), 'quo"ted')
        assert await access.check(header("me", "secret")) == "me"
        assert await access.check(header("me", "secret")) == "me"
        for wrong in (
            "",
            "Bearer x",
            "Basic ???",
            header("me", "wrong"),
            header("old", "xyz"),
            header("nobody", "secret"),
            header("", ""),
        ):
            with pytest.raises(Refused) as caught:
                await access.check(wrong)
            assert caught.value.headers == {"WWW-Authenticate": 'Basic realm="quoted"'}
        file.write_text("# nobody any more, and a longer line than before\n" + "#" * 100)
        with pytest.raises(Refused):
            await access.check(header("me", "secret"))
        assert await Passwords("", "").check("") == ""

    asyncio.run(run())
