"""What is read from headers and settings: challenges, rate limits, credentials, proxies, endpoints."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from sampan.errors import InvalidParameter, NotFound
from sampan.registry.challenges import parse_challenges
from sampan.registry.credentials import Credentials, all_credentials_of, credentials_of
from sampan.registry.endpoints import endpoints_of, host_of, is_insecure
from sampan.registry.failures import RateLimited, failure_of
from sampan.registry.proxies import ProxySettings, proxies_from
from sampan.registry.ratelimit import RateLimit
from sampan.registry.settings import RegistrySettings


def test_challenges() -> None:
    header = 'Bearer realm="https://auth.example/token",service="a \\"b\\"",scope="repository:x:pull,push", Basic realm=plain'
    bearer, basic = parse_challenges([header])
    assert bearer.scheme == "bearer"
    assert bearer.parameters == {
        "realm": "https://auth.example/token",
        "service": 'a "b"',
        "scope": "repository:x:pull,push",
    }
    assert basic == ("basic", {"realm": "plain"})
    assert [each.scheme for each in parse_challenges(["Basic", "Bearer realm=x"])] == ["basic", "bearer"]


@given(st.text(max_size=200))
def test_any_header_can_be_read(text: str) -> None:
    parse_challenges([text])
    RateLimit.of({"Retry-After": text, "RateLimit-Limit": text, "RateLimit-Remaining": text}).describe()


def test_rate_limits_are_told() -> None:
    headers = {"Retry-After": "3600", "RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'
    error = failure_of("GET", "https://r/v2/x", 429, "Too Many Requests", headers, body)
    assert isinstance(error, RateLimited)
    text = str(error)
    assert "You have reached your pull rate limit." in text
    assert "0 of 100 pulls per 6h0m0s remaining" in text
    assert "in 3600s" in text
    assert error.limit.retry_after == 3600


def test_errors_of_registries_are_read() -> None:
    body = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}'
    error = failure_of("GET", "https://r/v2/x", 404, "Not Found", {}, body)
    assert isinstance(error, NotFound)
    assert str(error) == "manifest unknown: manifest unknown"


def test_credentials_in_both_alphabets() -> None:
    # A password whose base64 has characters in which the alphabets differ.
    document = {"username": "me", "password": "??>>~~", "serveraddress": "host:5000"}
    data = json.dumps(document).encode()
    for encoded in (
        base64.b64encode(data),
        base64.urlsafe_b64encode(data),
        base64.urlsafe_b64encode(data).rstrip(b"="),
    ):
        found = credentials_of(encoded.decode())
        assert (found.username, found.password, found.server) == ("me", "??>>~~", "host:5000")
    folded = base64.b64encode(
        json.dumps({"auth": base64.b64encode(b"you:pass:word").decode()}).encode()
    ).decode()
    assert credentials_of(folded).password == "pass:word"
    assert credentials_of("").is_anonymous
    assert credentials_of(base64.b64encode(b"null").decode()).is_anonymous
    several = base64.b64encode(json.dumps({"https://index.docker.io/v1/": document}).encode()).decode()
    assert list(all_credentials_of(several)) == ["docker.io"]


@pytest.mark.parametrize(
    "header",
    ["!", "abcde", base64.b64encode(b'["secret"]').decode(), base64.b64encode(b'{"username":1}').decode()],
)
def test_malformed_credentials_are_refused_without_being_shown(header: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        credentials_of(header)
    assert "secret" not in str(caught.value)


def test_credentials_are_not_shown() -> None:
    assert "secret" not in repr(Credentials(username="me", password="secret"))


def test_credentials_are_of_their_registry() -> None:
    mine = Credentials(username="me", password="secret", server="https://host:5000/v1/")
    assert mine.for_registry("host:5000") is mine
    assert mine.for_registry("host").is_anonymous
    assert mine.for_registry("docker.io").is_anonymous
    hub = Credentials(username="me", server="https://index.docker.io/v1/")
    assert hub.for_registry("docker.io") is hub
    assert [
        host_of(text) for text in ("host", "https://host/x", "registry-1.docker.io", "http://[::1]:5000/v2/")
    ] == [
        "host",
        "host",
        "docker.io",
        "[::1]:5000",
    ]


@pytest.mark.parametrize(
    ("rules", "url", "direct"),
    [
        ("example.com", "https://example.com/x", True),
        ("example.com", "https://a.example.com/x", True),
        (".example.com", "https://example.com/x", False),
        (".example.com", "https://a.example.com/x", True),
        ("*.example.com", "https://a.example.com/x", True),
        ("ample.com", "https://example.com/x", False),
        ("example.com:8443", "https://example.com/x", False),
        ("example.com:8443", "https://example.com:8443/x", True),
        ("10.0.0.0/8", "https://10.1.2.3/x", True),
        ("10.0.0.0/8", "https://11.1.2.3/x", False),
        ("fd00::/8", "https://[fd00::1]:5000/x", True),
        ("10.1.2.3", "https://10.1.2.3:5000/x", True),
        ("10.1.2.3:1", "https://10.1.2.3:5000/x", False),
        ("*", "https://anything/x", True),
        ("", "https://127.0.0.1:5000/x", True),
        ("", "https://localhost/x", True),
        (" a , example.com ", "https://example.com/x", True),
        ("", "https://example.com/x", False),
    ],
)
def test_no_proxy(rules: str, url: str, direct: bool) -> None:
    settings = ProxySettings(https="proxy:3128", exceptions=rules)
    assert settings.proxy_for(URL(url)) == (None if direct else URL("http://proxy:3128"))


def test_proxies_by_scheme() -> None:
    settings = proxies_from({"http_proxy": "http://a:1", "HTTPS_PROXY": "socks5://b:2"})
    assert settings.proxy_for(URL("http://x/")) == URL("http://a:1")
    assert settings.proxy_for(URL("https://x/")) == URL("socks5://b:2")


def test_endpoints() -> None:
    settings = RegistrySettings(mirrors=("http://m:5000/", "https://n"))
    assert [str(each.url) for each in endpoints_of("docker.io", settings)] == [
        "http://m:5000",
        "https://n",
        "https://registry-1.docker.io",
    ]
    assert [str(each.url) for each in endpoints_of("[::1]:5000", settings)] == ["https://[::1]:5000"]
    for wrong in ("m:5000", "ftp://m", "https://m/path", "https://u:p@m"):
        with pytest.raises(InvalidParameter, match="invalid mirror") as caught:
            endpoints_of("docker.io", RegistrySettings(mirrors=(wrong,)))
        assert ":p@" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "insecure"),
    [
        ("https://127.0.0.1:5000", True),
        ("https://localhost:5000", True),
        ("https://[::1]:5000", True),
        ("https://10.9.0.1", True),
        ("https://10.10.0.1", False),
        ("https://192.0.2.1:5000", True),
        ("https://192.0.2.1:5001", False),
        ("https://192.0.2.2", True),
        ("http://192.0.2.2", True),
        ("https://192.0.2.2:5000", False),  # another port is another registry, as for dockerd
    ],
)
def test_insecure_registries(url: str, insecure: bool) -> None:
    settings = RegistrySettings(insecure=("10.9.0.0/16", "192.0.2.1:5000", "http://192.0.2.2"))
    assert asyncio.run(is_insecure(URL(url), settings)) is insecure
