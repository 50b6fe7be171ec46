"""aiohttp's HTTP server with the limits and the refusals of Go's, which Docker's clients were written against."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler

LONGEST_LINE = 1 << 20
"""Bytes of a request's line, or of one header, as `net/http` has it: the names of images to save, `commit --change` and a
build's arguments come in the query, the credentials of every registry in one header."""
MOST_HEADERS = 4096


class HttpServer(web.Server):
    """aiohttp's server with Docker's limits; a call makes the protocol of one connection."""

    def __call__(self) -> RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # none is written
            tcp_keepalive=False,
            auto_decompress=False,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_HEADERS,
        )


class _Connection(RequestHandler):
    """One connection's requests. What is not HTTP is refused in one line, without a trace in the log."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):
            raise exc  # the client is gone, which is no error of ours
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        refusal = HTTPStatus.BAD_REQUEST
        if isinstance(exc, LineTooLong):
            refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        response = web.Response(status=refusal, text=f"{refusal.value} {refusal.phrase}")
        response.force_close()
        return response
