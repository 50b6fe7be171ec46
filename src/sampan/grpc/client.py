"""The client's side: calls over a connection whose other end serves, as BuildKit's session does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from google.protobuf.message_factory import GetMessageClass
from grpclib.client import Channel, Stream
from grpclib.client import Handler as ClientHandler
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import ProtocolError

from sampan.errors import Unavailable
from sampan.grpc.connection import Http2Connection
from sampan.grpc.errors import DetailsCodec, from_grpc

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message
    from grpclib.protocol import H2Protocol

Metadata = Sequence[tuple[str, str]]


class GrpcClient:
    """Calls on one connection. Everything raises what the other end answers as an error of `sampan.errors`, and `Unavailable`
    once the connection is gone."""

    def __init__(self, transport: asyncio.Transport, received: bytes = b"") -> None:
        self._connection = Http2Connection(ClientHandler(), client_side=True, on_lost=lambda: None)
        self._connection.take(transport, received)
        self._channel = _Channel(self._connection)

    @property
    def protocol(self) -> asyncio.Protocol:
        """What the transport's events go to."""
        return self._connection

    async def wait_lost(self) -> None:
        """Return when the connection is gone."""
        await self._connection.lost.wait()

    async def call(self, method: MethodDescriptor, request: Message, *, timeout: float | None = None) -> Any:
        """One request, one answer. `timeout` in seconds."""
        async with self.stream(method, timeout=timeout) as stream:
            await stream.send_message(request, end=True)
            return await stream.recv_message()

    @asynccontextmanager
    async def stream(
        self,
        method: MethodDescriptor,
        metadata: Metadata = (),
        *,
        timeout: float | None = None,
        types: tuple[type[Message], type[Message]] | None = None,
    ) -> AsyncIterator[Stream[Any, Any]]:
        """A call as a conversation. The block's end is the end of what is sent; the other side's end is waited for then, except
        when the block fails, which cancels the call. `types`: of what is sent and received, where they are others than the
        service says."""
        service = method.containing_service
        assert service is not None
        opened = self._channel.request(
            f"/{service.full_name}/{method.name}",
            Cardinality[
                f"{'STREAM' if method.client_streaming else 'UNARY'}_{'STREAM' if method.server_streaming else 'UNARY'}"
            ],
            *(types or (GetMessageClass(method.input_type), GetMessageClass(method.output_type))),
            timeout=timeout,
            metadata=list(metadata),
        )
        try:
            async with opened as stream:
                yield stream
                await _end(stream)
        except GRPCError as error:
            raise from_grpc(error) from error
        except (StreamTerminatedError, ConnectionError, ProtocolError) as error:
            raise Unavailable(f"the client ended the call: {error}") from error

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


async def _end(stream: Stream[Any, Any]) -> None:
    if stream._send_request_done and not stream._end_done:
        try:
            await stream.end()
        except ProtocolError:
            stream._end_done = True  # the other side has closed the call altogether


class _Channel(Channel):
    """A channel that never connects: it was given its connection."""

    def __init__(self, connection: Http2Connection) -> None:
        super().__init__("localhost", 0, codec=None, status_details_codec=DetailsCodec())
        self._given = connection

    async def __connect__(self) -> H2Protocol:
        if self._given.lost.is_set() or self._given.connection.is_closing():
            raise ConnectionResetError("the connection is gone")
        return self._given
