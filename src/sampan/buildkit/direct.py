"""A build for a client of Sampan's own: `sampan build` and `sampan.build()`, which speak neither gRPC nor protobuf.

One connection (`POST /build/direct`) carries it all (`frames`). What is built is what BuildKit's clients ask for in a
`SolveRequest`, and it goes the same way from here: there is one `Control.solve`.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from sampan.attestations.predicates import as_v02
from sampan.buildkit.details import cause_of
from sampan.buildkit.direct_session import DirectSession, Places
from sampan.buildkit.frames import Channel
from sampan.buildkit.protos import control_pb2 as pb
from sampan.errors import InvalidParameter, SampanError
from sampan.grpc.server import Caller
from sampan.names.names import new_id
from sampan.solver.progress import Event, LogEvent, described, described_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.api.frontdoor import HijackedStream
    from sampan.buildkit.control import Control
    from sampan.buildkit.history import BuildHistory
    from sampan.buildkit.jobs import Jobs
    from sampan.buildkit.waiting import SessionDirectory
    from sampan.engine.engine import Engine

_NOBODY = Caller({})
_PROVENANCE = "buildx.build.provenance"


class Wish(msgspec.Struct):
    """What a client asks for: the members of a `SolveRequest` that it needs."""

    options: dict[str, str] = {}
    """Of the Dockerfile's frontend."""
    exporters: list[tuple[str, dict[str, str]]] = []
    cache_imports: list[tuple[str, dict[str, str]]] = []
    cache_exports: list[tuple[str, dict[str, str]]] = []
    entitlements: list[str] = []
    shared_key: str = ""
    """Names this client's directories over several builds."""
    provenance: Literal["", "min", "max"] = ""
    """How much of it the answer has, as buildx writes it into its metadata file."""


class DirectBuilds:
    """See the module. One per engine."""

    def __init__(
        self,
        engine: Engine,
        control: Control,
        sessions: SessionDirectory,
        jobs: Jobs,
        history: BuildHistory,
    ) -> None:
        self._engine = engine
        self._control = control
        self._sessions = sessions
        self._jobs = jobs
        self._history = history
        self._places = Places()

    async def serve(self, stream: HijackedStream) -> None:
        """One build, on a connection that is open already. A client that goes ends it."""
        channel = Channel(stream)
        try:
            wish = msgspec.convert(await channel.begin(), Wish)
        except msgspec.ValidationError as error:
            await _end(channel, InvalidParameter(f"what is to be built: {error}"))
            return
        trees = self._engine.builds.graphs.solving.trees
        session = DirectSession(new_id(), wish.shared_key, channel, self._places, trees)
        request = _request(wish, session.id)
        async with self._sessions.listed(session):
            reading = asyncio.create_task(channel.read())
            following = asyncio.create_task(self._follow(request.Ref, channel))
            solving = asyncio.create_task(self._control.solve(request, _NOBODY))
            try:
                await asyncio.wait((reading, solving), return_when=asyncio.FIRST_COMPLETED)
                if solving.done():
                    await following
                    await self._tell(channel, solving, request.Ref, wish)
            finally:
                for task in (solving, following, reading):
                    task.cancel()
                await asyncio.gather(solving, following, reading, return_exceptions=True)

    async def _follow(self, ref: str, channel: Channel) -> None:
        try:
            progress = await self._jobs.progress(ref)
            async for events in progress.follow():
                await channel.send(
                    b"E", 0, msgspec.json.encode([described(each) for each in _joined(events)])
                )
        except SampanError:
            pass  # refused before it began, or nobody listens

    async def _tell(
        self, channel: Channel, solving: asyncio.Task[pb.SolveResponse], ref: str, wish: Wish
    ) -> None:
        error = solving.exception()
        if error is not None:
            await _end(channel, error)
            return
        response = dict(solving.result().ExporterResponse)
        if wish.provenance:
            response["buildx.build.ref"] = f"default/default/{ref}"
            for platform, data in (await self._history.provenance(ref)).items():
                name = f"{_PROVENANCE}/{platform}" if platform else _PROVENANCE
                response[name] = _shortened(data, wish.provenance)
        await channel.send(b"R", 0, msgspec.json.encode({"response": response}))


def _shortened(data: bytes, mode: str) -> str:
    """Provenance as buildx's metadata file has it: in SLSA's older form, without graph and circumstances unless `mode` is `max`."""
    told = as_v02(msgspec.json.decode(data))
    if mode == "min":
        told.pop("buildConfig", None)
        told.pop("metadata", None)
    return b64encode(msgspec.json.encode(told)).decode()


def _request(wish: Wish, session: str) -> pb.SolveRequest:
    return pb.SolveRequest(
        Ref=new_id(),
        Session=session,
        Frontend="dockerfile.v0",
        FrontendAttrs=wish.options,
        Exporters=[pb.Exporter(Type=kind, Attrs=attributes) for kind, attributes in wish.exporters],
        Cache=pb.CacheOptions(
            Imports=[pb.CacheOptionsEntry(Type=kind, Attrs=each) for kind, each in wish.cache_imports],
            Exports=[pb.CacheOptionsEntry(Type=kind, Attrs=each) for kind, each in wish.cache_exports],
        ),
        Entitlements=wish.entitlements,
    )


def _joined(events: Sequence[Event]) -> list[Event]:
    """Output of one vertex that came in pieces, as one piece: a program that writes letter by letter is no thousand events."""
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if (
            isinstance(event, LogEvent)
            and isinstance(last, LogEvent)
            and (event.vertex, event.stream) == (last.vertex, last.stream)
        ):
            joined[-1] = LogEvent(
                vertex=last.vertex, stream=last.stream, data=last.data + event.data, at=last.at
            )
        else:
            joined.append(event)
    return joined


async def _end(channel: Channel, error: BaseException) -> None:
    """Say what it failed with: the kind of error by its name, the message, and of a step where it stands."""
    failure = None
    if isinstance(error, Exception):
        error = cause_of(error)
        failure = described_failure(error)
    kind = next((each.__name__ for each in type(error).__mro__ if each.__module__ == "sampan.errors"), "")
    told: dict[str, Any] = {"error": str(error), "kind": kind, "failure": failure}
    await channel.send(b"R", 0, msgspec.json.encode(told))
