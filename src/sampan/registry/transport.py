"""HTTP as registries need it: one request, over the right proxy, with the right certificates; redirects without leaks.

Redirects are followed here and not by the HTTP library, because a credential must not go along: the Authorization header is
dropped at the first step to another origin and never comes back (CVE-2020-15157 is what happens otherwise). A step
from https to plain http is refused unless that host is listed as insecure.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import aiohttp
from yarl import URL

from sampan.registry.certificates import HostCertificates
from sampan.registry.endpoints import is_insecure
from sampan.registry.failures import BrokenAnswer, CertificateRefused, ConnectionFailed
from sampan.registry.hostsfile import Trust
from sampan.registry.lookups import RememberingResolver
from sampan.registry.settings import RegistrySettings

if TYPE_CHECKING:
    from sampan.errors import SampanError

REDIRECTS_MAX = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_PLAIN_REMEMBERED = 60.0
"""Seconds for which an insecure host that spoke plain HTTP is not asked for TLS again."""
_LINE_MAX = 64 << 10
"""Bytes of a header: storage services sign URLs of several kilobytes."""


class Body(NamedTuple):
    """What a request carries; `open` begins it anew each time, for another attempt."""

    open: Callable[[], AsyncIterator[bytes]]
    size: int
    content_type: str = "application/octet-stream"


def small_body(data: bytes, content_type: str) -> Body:
    """A body that is in memory."""

    async def once() -> AsyncIterator[bytes]:
        yield data

    return Body(once, len(data), content_type)


class Answer:
    """An answer whose body has not been read. Close it, or use it as a context."""

    def __init__(self, response: aiohttp.ClientResponse, method: str, secure: bool) -> None:
        self.status = response.status
        self.reason = response.reason or ""
        self.headers: Mapping[str, str] = response.headers
        self.url = response.url
        self.method = method
        self.secure = secure
        """Whether the server has proven with a certificate who it is."""
        self._response = response

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back, or up when the body was not read to its end."""
        self._response.release()

    def all(self, header: str) -> list[str]:
        """Every value of a header that may come several times."""
        return self._response.headers.getall(header, [])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `ConnectionFailed` when it breaks off."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _failure(self.method, self.url, error) from error

    async def read(self, limit: int) -> bytes:
        """A small body. Raises `BrokenAnswer` beyond `limit` bytes."""
        data = bytearray()
        async for chunk in self.chunks():
            data += chunk
            if len(data) > limit:
                self._response.close()
                raise BrokenAnswer(
                    f"{self.method} {shown(self.url)}: the answer has more than the {limit} bytes allowed for it"
                )
        return bytes(data)


class Transport:
    """All connections of one client. Made on the loop that uses it; `close` ends them."""

    def __init__(self, settings: RegistrySettings) -> None:
        self.settings = settings
        self._certificates = HostCertificates(settings.certificate_directories)
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._plain: dict[str, float] = {}

    async def close(self) -> None:
        """End every connection."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def trust(self, host: str, trust: Trust) -> None:
        """See `HostCertificates.trust`."""
        self._certificates.trust(host, trust)

    def is_plain(self, url: URL) -> bool:
        """Whether a host whose address says https was found to speak plain HTTP, being allowed to."""
        return self._plain.get(url.authority, 0) > time.monotonic()

    async def follow(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        redirects: bool = True,
    ) -> Answer:
        """Send a request and follow where the answer leads. Raises as `send`, and `BrokenAnswer` for a loop."""
        sent = dict(headers)
        for _ in range(REDIRECTS_MAX + 1):
            answer = await self.send(method, url, sent, body)
            location = answer.headers.get("Location", "")
            if answer.status not in _REDIRECTS or not redirects or not location:
                return answer
            answer.close()
            target = resolved_location(answer.url, location)
            await self._check_step(answer.url, target)
            if target.origin() not in (answer.url.origin(), url.origin()):
                sent.pop("Authorization", None)
            if answer.status == 303 or (answer.status in (301, 302) and method not in ("GET", "HEAD")):
                method, body = "GET", None
            url = target
        raise BrokenAnswer(f'{method.capitalize()} "{shown(url)}": stopped after {REDIRECTS_MAX} redirects')

    async def send(
        self, method: str, url: URL, headers: Mapping[str, str], body: Body | None = None
    ) -> Answer:
        """One request, one answer; an insecure host that does not speak TLS is asked again in plain HTTP.

        Raises `ConnectionFailed`, `CertificateRefused`.
        """
        if url.scheme != "https":
            return await self._send(method, url, headers, body, None)
        insecure = await is_insecure(url, self.settings)
        if insecure and self.is_plain(url):
            self._plain[url.authority] = time.monotonic() + _PLAIN_REMEMBERED
            return await self._send(method, plain(url), headers, body, None)
        host = url.authority
        context = await asyncio.to_thread(lambda: self._certificates.context(host, insecure=insecure))
        try:
            return await self._send(method, url, headers, body, context)
        except _NotTls:
            if not insecure:
                raise
        self._plain[url.authority] = time.monotonic() + _PLAIN_REMEMBERED
        return await self._send(method, plain(url), headers, body, None)

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], body: Body | None, tls: ssl.SSLContext | None
    ) -> Answer:
        proxy = self.settings.proxies.proxy_for(url)
        session, http_proxy = self._session(proxy)
        sent = {"User-Agent": self.settings.user_agent, "Accept-Encoding": "identity", **headers}
        if body is not None:
            sent["Content-Length"] = str(body.size)
            sent["Content-Type"] = body.content_type
        elif method in ("POST", "PUT", "PATCH"):
            sent["Content-Length"] = "0"
        try:
            response = await session.request(
                method,
                url,
                headers=sent,
                data=body.open() if body is not None else None,
                allow_redirects=False,
                proxy=http_proxy,
                ssl=tls if tls is not None else True,
            )
        except Exception as error:
            if not _is_of_the_network(error):
                raise
            raise _failure(method, url, error, proxy) from error
        return Answer(response, method, tls is not None and tls.verify_mode == ssl.CERT_REQUIRED)

    def _session(self, proxy: URL | None) -> tuple[aiohttp.ClientSession, URL | None]:
        """The connections through a proxy; SOCKS is another way to connect, an HTTP proxy a property of the request."""
        socks = proxy if proxy is not None and proxy.scheme.startswith("socks") else None
        key = str(socks or "")
        if key not in self._sessions:
            connector = _socks_connector(socks) if socks is not None else _connector()
            settings = self.settings
            self._sessions[key] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # digests are over the bytes that were sent
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=settings.connect_timeout, sock_read=settings.read_timeout
                ),
                read_bufsize=1 << 20,
                max_line_size=_LINE_MAX,
                max_field_size=_LINE_MAX,
            )
        return self._sessions[key], proxy if socks is None else None

    async def _check_step(self, source: URL, target: URL) -> None:
        if (
            target.scheme == "http"
            and source.scheme == "https"
            and not await is_insecure(target, self.settings)
        ):
            raise BrokenAnswer(
                f"{shown(source)} redirects to {shown(target)}: plain http is only followed to hosts listed in insecure-registries"
            )


def resolved_location(base: URL, location: str) -> URL:
    """Where a Location header leads, signatures in it left as they are. Raises `BrokenAnswer` for what is no http address."""
    try:
        target = base.join(URL(location, encoded=True))
        if target.scheme in ("http", "https") and target.host and target.user is None:
            return target
    except ValueError:
        pass
    raise BrokenAnswer(f"{shown(base)} redirects to an address that cannot be followed: {location[:200]!r}")


def shown(url: URL) -> str:
    """An address as messages show it: no user, and no query, which may be signed."""
    return str(url.with_user(None).with_query(None).with_fragment(None))


class _NotTls(ConnectionFailed):
    """The other side does not speak TLS."""


def plain(url: URL) -> URL:
    """The same address in plain HTTP, at the same port when one is given."""
    port = url.explicit_port
    return url.with_scheme("http").with_port(port) if port is not None else url.with_scheme("http")


def _connector() -> aiohttp.BaseConnector:
    return aiohttp.TCPConnector(limit=0, resolver=RememberingResolver())


def _socks_connector(proxy: URL) -> aiohttp.BaseConnector:
    from aiohttp_socks import ProxyConnector, ProxyType  # only who has such a proxy pays for the import

    kinds = {"socks5": ProxyType.SOCKS5, "socks5h": ProxyType.SOCKS5, "socks4": ProxyType.SOCKS4}
    if proxy.scheme not in kinds or not proxy.host:
        raise ConnectionFailed(f"proxy {shown(proxy)}: unsupported scheme {proxy.scheme}")
    return ProxyConnector(
        proxy_type=kinds[proxy.scheme],
        host=proxy.host,
        port=proxy.port or 1080,
        username=proxy.user,
        password=proxy.password,
        rdns=True,  # the proxy may know names that this machine does not
        limit=0,
    )


def _is_of_the_network(error: Exception) -> bool:
    """Whether an error came from the other side. The SOCKS library's errors are not imported for those who don't use it."""
    if isinstance(error, aiohttp.ClientError | OSError | TimeoutError | ValueError):
        return True
    return type(error).__module__.partition(".")[0] in ("aiohttp_socks", "python_socks")


def _failure(method: str, url: URL, error: BaseException, proxy: URL | None = None) -> SampanError:
    """A library's error as one of ours, in the words of Go's HTTP client."""
    where = f'{method.capitalize()} "{shown(url)}"'
    via = f" (through proxy {shown(proxy)})" if proxy is not None else ""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        return CertificateRefused(f"{where}: tls: failed to verify certificate: x509: {reason}{via}")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return _NotTls(f"{where}: {_tls_reason(error.os_error)}{via}")
    # A SOCKS connector reports the handshake's errors as they are, or within one of aiohttp's.
    handshake = error.__cause__ if isinstance(error, aiohttp.ClientOSError) else error
    if isinstance(handshake, ssl.SSLCertVerificationError):
        reason = handshake.verify_message
        return CertificateRefused(f"{where}: tls: failed to verify certificate: x509: {reason}{via}")
    if isinstance(handshake, ssl.SSLError):
        return _NotTls(f"{where}: {_tls_reason(handshake)}{via}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ConnectionFailed(f"{where}: dial tcp: lookup {error.host}: no such host{via}")
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        reason = os.strerror(number).lower() if number else str(error.os_error)
        if url.scheme == "https" and number in (104, None):  # reset in the midst of the handshake
            return _NotTls(f"{where}: tls: {reason}{via}")
        return ConnectionFailed(f"{where}: dial tcp {error.host}:{error.port}: connect: {reason}{via}")
    if isinstance(error, TimeoutError):
        return ConnectionFailed(f"{where}: no answer in time: {error or 'timeout'}{via}")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return ConnectionFailed(f"{where}: EOF{via}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return ConnectionFailed(f"{where}: unexpected EOF{via}")
    if isinstance(error, aiohttp.ClientResponseError):
        return ConnectionFailed(f"{where}: malformed HTTP response: {error.status} {error.message}{via}")
    return ConnectionFailed(f"{where}: {error or type(error).__name__}{via}")


def _tls_reason(error: OSError) -> str:
    reason = getattr(error, "reason", "") or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "http: server gave HTTP response to HTTPS client"
    return f"tls: {(reason or str(error)).lower().replace('_', ' ')}"
