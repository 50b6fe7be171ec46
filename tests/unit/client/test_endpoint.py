"""Which engine a client talks to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sampan.client import endpoint
from sampan.errors import InvalidParameter, NotFound, NotSupported


def test_an_explicit_host_wins_over_the_environment() -> None:
    found = endpoint.resolve("unix:///a", environ={"DOCKER_HOST": "unix:///b"})
    assert found.socket_path == "/a"
    assert not found.is_default


def test_nothing_chosen_is_the_engine_that_may_be_started() -> None:
    assert endpoint.resolve(environ={}).is_default
    assert endpoint.resolve(environ={"DOCKER_HOST": endpoint.default_host()}).is_default
    assert endpoint.resolve(environ={"DOCKER_CONTEXT": "default"}).is_default


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("tcp://h:1", ("h", 1)),
        ("tcp://[::1]:9", ("::1", 9)),
        ("h:2375", ("h", 2375)),
        ("https://h", ("h", 2376)),
        ("tcp://", ("127.0.0.1", 2375)),
    ],
)
def test_addresses(host: str, address: tuple[str, int]) -> None:
    assert endpoint.parse(host).address == address


@pytest.mark.parametrize(
    ("host", "error"),
    [("ssh://h", NotSupported), ("ftp://h", InvalidParameter), ("tcp://h:99999", InvalidParameter)],
)
def test_hosts_that_are_none(host: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        endpoint.parse(host)


def test_a_context_names_host_and_certificates(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"far").hexdigest()
    meta = tmp_path / "contexts/meta" / digest
    tls = tmp_path / "contexts/tls" / digest / "docker"
    meta.mkdir(parents=True)
    tls.mkdir(parents=True)
    (tls / "ca.pem").touch()
    (meta / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": "tcp://far:2376"}}}))
    found = endpoint.resolve(environ={"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "far"})
    assert found.address == ("far", 2376)
    assert found.tls == endpoint.TlsFiles(str(tls / "ca.pem"), "", "", True)
    with pytest.raises(NotFound, match="near"):
        endpoint.resolve(context="near", environ={"DOCKER_CONFIG": str(tmp_path)})
