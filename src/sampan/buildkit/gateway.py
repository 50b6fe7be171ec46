"""LLBBridge: what a frontend asks while a solve runs. buildx is such a frontend on the client's side, also for a plain build."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sampan.buildkit import caching, capabilities, details, frontends, resolving, trees, workers
from sampan.buildkit.bridge import Bridge
from sampan.buildkit.containers import FrontendContainer
from sampan.buildkit.jobs import Jobs, Ref, Result
from sampan.buildkit.processes import Conversation
from sampan.buildkit.protos import fsutil_pb2
from sampan.buildkit.protos import gateway_pb2 as pb
from sampan.errors import InvalidParameter, NotSupported
from sampan.grpc.server import metadata_of
from sampan.solver.progress import WarningEvent

if TYPE_CHECKING:
    from grpclib.server import Stream

    from sampan.buildkit.history import BuildHistory
    from sampan.engine.engine import Engine
    from sampan.grpc.server import Caller

T = TypeVar("T")

BUILD_ID = "buildkit-controlapi-buildid"


Find = Callable[[Mapping[str, str]], Awaitable[Bridge]]
"""Whose request it is that came with this metadata."""


def by_build(jobs: Jobs) -> Find:
    """For frontends on the clients' side, which say what build they are about in each request's metadata."""

    async def find(metadata: Mapping[str, str]) -> Bridge:
        id = metadata.get(BUILD_ID, "")
        if not id:
            raise InvalidParameter("no buildid found in context")
        return (await jobs.find(id)).bridge

    return find


class Gateway:
    """The service."""

    def __init__(self, engine: Engine, find: Find, history: BuildHistory) -> None:
        self._engine = engine
        self._find = find
        self._history = history

    async def _bridge(self, caller: Caller) -> Bridge:
        return await self._find(caller.metadata)

    async def ping(self, request: pb.PingRequest, caller: Caller) -> pb.PongResponse:
        """What the builder can do."""
        return pb.PongResponse(
            FrontendAPICaps=capabilities.messages(capabilities.FRONTEND),
            LLBCaps=capabilities.messages(capabilities.LLB),
            Workers=[await workers.worker(self._engine)],
        )

    async def solve(self, request: pb.SolveRequest, caller: Caller) -> pb.SolveResponse:
        """A definition, or a frontend's result, as references that are made when somebody looks at them."""
        bridge = await self._bridge(caller)
        job = bridge.job
        caching.add_imports(self._engine, job, [(each.Type, each.Attrs) for each in request.CacheImports])
        try:
            if request.Frontend:
                if bridge is job.bridge:  # and not a frontend's that another frontend asks
                    self._history.describe(job.ref, request.Frontend, request.FrontendOpt)
                result = await frontends.run(
                    job, request.Frontend, dict(request.FrontendOpt), request.FrontendInputs
                )
            else:
                result = await job.result_of(request.Definition, request.SourcePolicies)
            if request.Evaluate:
                await result.make()
        except Exception as error:
            raise details.as_grpc(error, bridge) from error
        message = _as_message(bridge, result)
        if request.Final:
            # Clients that know no `Return`: this is the result.
            metadata = {**json.loads(request.ExporterAttr or b"{}"), **result.metadata}
            bridge.give(Result(result.refs, metadata))
        response = pb.SolveResponse(result=message)
        if not request.allowResultReturn:
            response.ref = message.ref.id
        return response

    async def evaluate(self, request: pb.EvaluateRequest, caller: Caller) -> pb.EvaluateResponse:
        """Make a reference's files now."""
        bridge = await self._bridge(caller)
        ref = bridge.named(request.Ref)
        try:
            if ref is not None:
                await ref.tree()
        except Exception as error:
            raise details.as_grpc(error, bridge) from error
        return pb.EvaluateResponse()

    async def read_file(self, request: pb.ReadFileRequest, caller: Caller) -> pb.ReadFileResponse:
        """A file of a reference."""
        data = await self._look(request.Ref, caller, _file(request))
        return pb.ReadFileResponse(Data=data)

    async def read_dir(self, request: pb.ReadDirRequest, caller: Caller) -> pb.ReadDirResponse:
        """A directory of a reference."""
        entries = await self._look(request.Ref, caller, _directory(request))
        return pb.ReadDirResponse(entries=entries)

    async def stat_file(self, request: pb.StatFileRequest, caller: Caller) -> pb.StatFileResponse:
        """What a file of a reference is."""
        described = await self._look(request.Ref, caller, _status_of(request))
        return pb.StatFileResponse(stat=described)

    async def _look(self, id: str, caller: Caller, look: Callable[[int], T]) -> T:
        bridge = await self._bridge(caller)
        ref = bridge.named(id)
        if ref is None:
            raise InvalidParameter("an empty reference has no files")
        try:
            tree = await ref.tree()
        except Exception as error:
            raise details.as_grpc(error, bridge) from error
        async with trees.opened(bridge.job.solving.trees, tree) as root:
            return await asyncio.to_thread(look, root)

    async def return_(self, request: pb.ReturnRequest, caller: Caller) -> pb.ReturnResponse:
        """The frontend's result, or why there is none."""
        bridge = await self._bridge(caller)
        if request.HasField("error"):
            told = request.error
            bridge.give(GRPCError(_status(told.code), told.message, list(told.details) or None))
        elif request.HasField("result"):
            bridge.give(_from_message(bridge, request.result))
        else:
            raise InvalidParameter("result is required")
        return pb.ReturnResponse()

    async def inputs(self, request: pb.InputsRequest, caller: Caller) -> pb.InputsResponse:
        """The definitions that the client has given."""
        return pb.InputsResponse(Definitions=(await self._bridge(caller)).inputs)

    async def warn(self, request: pb.WarnRequest, caller: Caller) -> pb.WarnResponse:
        """A warning about a vertex."""
        job = (await self._bridge(caller)).job
        job.build.progress.publish(
            WarningEvent(
                vertex=request.digest,
                level=request.level,
                short=request.short.decode(errors="replace"),
                detail=tuple(each.decode(errors="replace") for each in request.detail),
                url=request.url,
                text=request.info if request.HasField("info") else None,
                places=tuple((each.start.line, each.end.line) for each in request.ranges),
            )
        )
        return pb.WarnResponse()

    async def resolve_image_config(
        self, request: pb.ResolveImageConfigRequest, caller: Caller
    ) -> pb.ResolveImageConfigResponse:
        """What an image's name means now, and its configuration."""
        return await resolving.image_config((await self._bridge(caller)).job, request)

    async def resolve_source_meta(
        self, request: pb.ResolveSourceMetaRequest, caller: Caller
    ) -> pb.ResolveSourceMetaResponse:
        """The same of any source; one of which nothing is known stays what it is."""
        return await resolving.source_meta((await self._bridge(caller)).job, request)

    async def new_container(self, request: pb.NewContainerRequest, caller: Caller) -> pb.NewContainerResponse:
        """A container of the frontend's own."""
        bridge = await self._bridge(caller)
        try:
            inputs = await asyncio.gather(*(bridge.tree(each.resultID) for each in request.Mounts))
        except Exception as error:
            raise details.as_grpc(error, bridge) from error
        container = FrontendContainer(bridge, request, inputs)
        await container.prepare()
        try:
            bridge.add(container)
        except BaseException:
            await asyncio.shield(container.release())
            raise
        return pb.NewContainerResponse()

    async def release_container(
        self, request: pb.ReleaseContainerRequest, caller: Caller
    ) -> pb.ReleaseContainerResponse:
        """Its end."""
        await (await self._bridge(caller)).release(request.ContainerID)
        return pb.ReleaseContainerResponse()

    async def exec_process(self, stream: Stream[Any, Any]) -> None:
        """Programs in such containers."""
        bridge = await self._find(metadata_of(stream))
        await Conversation(bridge, stream).run()

    async def read_file_container(self, request: pb.ReadFileRequest, caller: Caller) -> pb.ReadFileResponse:
        """A file of a container's mount."""
        container = (await self._bridge(caller)).container(request.Ref)
        data = await container.look(request.MountIndex, _file(request))
        return pb.ReadFileResponse(Data=data)

    async def read_dir_container(self, request: pb.ReadDirRequest, caller: Caller) -> pb.ReadDirResponse:
        """A directory of it."""
        container = (await self._bridge(caller)).container(request.Ref)
        entries = await container.look(request.MountIndex, _directory(request))
        return pb.ReadDirResponse(entries=entries)

    async def stat_file_container(self, request: pb.StatFileRequest, caller: Caller) -> pb.StatFileResponse:
        """What a file of it is."""
        container = (await self._bridge(caller)).container(request.Ref)
        described = await container.look(request.MountIndex, _status_of(request))
        return pb.StatFileResponse(stat=described)


def _file(request: pb.ReadFileRequest) -> Callable[[int], bytes]:
    part = request.Range
    return lambda root: trees.read_file(root, request.FilePath, part.Offset, part.Length)


def _directory(request: pb.ReadDirRequest) -> Callable[[int], list[fsutil_pb2.Stat]]:
    return lambda root: trees.read_directory(root, request.DirPath, request.IncludePattern)


def _status_of(request: pb.StatFileRequest) -> Callable[[int], fsutil_pb2.Stat]:
    return lambda root: trees.describe(root, request.Path)


def _as_message(bridge: Bridge, result: Result) -> pb.Result:
    message = pb.Result(metadata=result.metadata)
    if result.is_single:
        message.ref.CopyFrom(_ref(bridge, result.refs.get("")))
    else:
        for platform, ref in result.refs.items():
            message.refs.refs[platform].CopyFrom(_ref(bridge, ref))
    return message


def _ref(bridge: Bridge, ref: Ref | None) -> pb.Ref:
    return pb.Ref(id=bridge.register(ref), **{"def": ref.definition if ref is not None else None})


def _from_message(bridge: Bridge, message: pb.Result) -> Result:
    if message.attestations:
        raise NotSupported("attestations that a frontend makes are not in this version of Sampan's builder")
    metadata = dict(message.metadata)
    match message.WhichOneof("result"):
        case "ref":
            refs = {"": bridge.named(message.ref.id)}
        case "refs":
            refs = {platform: bridge.named(each.id) for platform, each in message.refs.refs.items()}
        case "refDeprecated":
            refs = {"": bridge.named(message.refDeprecated)}
        case "refsDeprecated":
            refs = {platform: bridge.named(each) for platform, each in message.refsDeprecated.refs.items()}
        case _:
            refs = {"": None}
    return Result(refs, metadata)


def _status(code: int) -> Status:
    try:
        return Status(code)
    except ValueError:
        return Status.UNKNOWN
