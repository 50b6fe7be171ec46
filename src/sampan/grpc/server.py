"""The server's side: services by their descriptors, and the connections that reach them."""

from __future__ import annotations

import asyncio
import keyword
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf.message_factory import GetMessageClass
from grpclib.const import Cardinality, Status
from grpclib.const import Handler as Method
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import _DispatchServerEvents
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Handler

from sampan.errors import SampanError
from sampan.grpc.connection import Http2Connection
from sampan.grpc.errors import DetailsCodec, as_grpc

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from grpclib.server import Stream

log = logging.getLogger(__name__)

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: what came with the request beside its message."""

    metadata: Mapping[str, str]
    """The last value of each key."""
    leading: dict[str, str] = field(default_factory=dict)
    """What is to go before the first of several answers."""


class Service:
    """A service of a `.proto` file, done by the methods of an object.

    `ResolveImageConfig` is done by `resolve_image_config(request, caller)`: a coroutine, an async generator where the answers
    are a stream, and `ForwardAgent(stream)` where both sides are, with grpclib's stream. Errors of Sampan become statuses.
    """

    def __init__(self, descriptor: ServiceDescriptor, implementation: object) -> None:
        """Raises `AttributeError` for a method that the object does not have."""
        self.name = descriptor.full_name
        self.methods = {
            f"/{descriptor.full_name}/{method.name}": _method(
                method, getattr(implementation, function_name(method.name))
            )
            for method in descriptor.methods
        }


class GrpcServer:
    """Connections to some services. `accept` one at a time; `close` ends them all."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._methods: dict[str, Method] = {}
        for service in services:
            self._methods.update(service.methods)
        self._connections: set[Http2Connection] = set()
        self._handlers: set[Handler] = set()

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def accept(self, transport: asyncio.Transport, received: bytes = b"") -> Http2Connection:
        """Serve a connection that is open already, whose first bytes were `received`. Returns its protocol."""
        handler = _Handler(self._methods, ProtoCodec(), DetailsCodec(), _DispatchServerEvents())

        def on_lost() -> None:
            self._connections.discard(connection)

        connection = Http2Connection(handler, client_side=False, on_lost=on_lost)
        self._connections.add(connection)
        self._handlers = {each for each in self._handlers if not (each.closing and each.check_closed())}
        self._handlers.add(handler)
        connection.take(transport, received)
        return connection

    async def close(self) -> None:
        """End every connection, and wait for the calls on them to end."""
        for connection in tuple(self._connections):
            connection.close()
        for handler in tuple(self._handlers):
            await handler.wait_closed()


class _Handler(Handler):
    """Cancels its calls once: what they do when they are cancelled is not cancelled again."""

    def close(self) -> None:
        if not self.closing:
            super().close()


def snake_case(name: str) -> str:
    """`GetTokenAuthority` → `get_token_authority`."""
    return _WORD.sub("_", name).lower()


def function_name(name: str) -> str:
    """The same, where it may be one of Python's words: `Return` → `return_`."""
    name = snake_case(name)
    return f"{name}_" if keyword.iskeyword(name) else name


def _method(descriptor: MethodDescriptor, function: Callable[..., Any]) -> Method:
    streams = (bool(descriptor.client_streaming), bool(descriptor.server_streaming))
    cardinality = Cardinality[f"{'STREAM' if streams[0] else 'UNARY'}_{'STREAM' if streams[1] else 'UNARY'}"]
    serve: Callable[[Callable[..., Any]], Callable[[Stream[Any, Any]], Awaitable[None]]]
    serve = _conversing if streams[0] else _answering if streams[1] else _unary
    return Method(
        serve(function),
        cardinality,
        GetMessageClass(descriptor.input_type),
        GetMessageClass(descriptor.output_type),
    )


def _unary(function: Callable[..., Awaitable[Any]]) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
    async def serve(stream: Stream[Any, Any]) -> None:
        request = await _request(stream)
        try:
            reply = await function(request, _caller(stream))
        except Exception as error:
            raise _told(error, stream) from error
        await stream.send_message(reply)

    return serve


def _answering(
    function: Callable[..., AsyncGenerator[Any, None]],
) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
    async def serve(stream: Stream[Any, Any]) -> None:
        request = await _request(stream)
        caller = _caller(stream)
        try:
            async with aclosing(function(request, caller)) as answers:
                async for message in answers:
                    await _send_leading(stream, caller)
                    await stream.send_message(message)
            await _send_leading(stream, caller)
        except Exception as error:
            raise _told(error, stream) from error

    return serve


async def _send_leading(stream: Stream[Any, Any], caller: Caller) -> None:
    """At the first call."""
    if caller.leading:
        await stream.send_initial_metadata(metadata=dict(caller.leading))
        caller.leading.clear()


def _conversing(function: Callable[..., Awaitable[None]]) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
    async def serve(stream: Stream[Any, Any]) -> None:
        try:
            await function(stream)
        except Exception as error:
            raise _told(error, stream) from error

    return serve


async def _request(stream: Stream[Any, Any]) -> Any:
    request = await stream.recv_message()
    if request is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "the call ended without its request")
    return request


def _caller(stream: Stream[Any, Any]) -> Caller:
    return Caller(metadata_of(stream))


def metadata_of(stream: Stream[Any, Any]) -> dict[str, str]:
    """What came with a call as text, the last value of each key."""
    return {key: value for key, value in (stream.metadata or {}).items() if isinstance(value, str)}


def _told(error: Exception, stream: Stream[Any, Any]) -> Exception:
    """The error in the form that the client gets."""
    if isinstance(error, (GRPCError, StreamTerminatedError, asyncio.TimeoutError)):
        return error  # what grpclib itself raises and understands
    if isinstance(error, SampanError):
        return as_grpc(error)
    log.error("unforeseen error in %s", stream._method_name, exc_info=error)
    return GRPCError(Status.UNKNOWN, f"{type(error).__name__}: {error}")
