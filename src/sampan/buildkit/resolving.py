"""What sources are now, for a frontend that wants to know before it makes a graph: images, repositories, files of the web."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sampan.attestations.captures import ImageSource
from sampan.buildkit.policies import IMAGE
from sampan.buildkit.protos import gateway_pb2 as pb
from sampan.errors import InvalidParameter, NotSupported
from sampan.llb import ops_pb2
from sampan.llb.graph import Vertex, digest_of
from sampan.names import platform as platforms
from sampan.names.reference import parse_normalized
from sampan.ops import layouts
from sampan.ops.fetching import FetchOperation
from sampan.ops.repositories import GitOperation

if TYPE_CHECKING:
    from sampan.buildkit.jobs import Job
    from sampan.names.platform import Platform

_ALGORITHMS = {
    pb.ChecksumRequest.CHECKSUM_ALGO_SHA256: "sha256",
    pb.ChecksumRequest.CHECKSUM_ALGO_SHA384: "sha384",
    pb.ChecksumRequest.CHECKSUM_ALGO_SHA512: "sha512",
}
_LONGEST_SUFFIX = 1 << 20


async def image_config(job: Job, request: pb.ResolveImageConfigRequest) -> pb.ResolveImageConfigResponse:
    """What an image's name means now, and its configuration."""
    if request.ResolverType:
        digest, config = await _layout(job, request.Ref, request.SessionID, request.StoreID, request.Platform)
        return pb.ResolveImageConfigResponse(Ref=request.Ref, Digest=digest, Config=config)
    trees = job.solving.trees
    name = await job.policies.and_also(request.SourcePolicies).image(request.Ref, trees)
    reference, digest, config = await _image(job, name, request.Platform, request.ResolveMode)
    return pb.ResolveImageConfigResponse(Ref=reference, Digest=digest, Config=config)


async def source_meta(job: Job, request: pb.ResolveSourceMetaRequest) -> pb.ResolveSourceMetaResponse:
    """The same of any source, after the policies; one of which nothing is known stays what it is."""
    if not request.HasField("Source"):
        raise InvalidParameter("source is required")
    policies = job.policies.and_also(request.SourcePolicies)
    source = await policies.source(request.Source, job.solving.trees)
    response = pb.ResolveSourceMetaResponse(Source=source)
    scheme = source.identifier.partition("://")[0]
    if source.identifier.startswith(IMAGE):
        await _add_image(job, request, response)
    elif scheme == "oci-layout":
        store, session = (source.attrs.get(f"oci.{name}", "") for name in ("store", "session"))
        name = source.identifier.removeprefix(layouts.SCHEME)
        digest, config = await _layout(job, name, session, store, request.Platform)
        response.Image.Digest = digest
        if not request.Image.NoConfig:
            response.Image.Config = config
    elif scheme == "git":
        await _add_git(job, request, response)
    elif scheme in ("http", "https"):
        await _add_file(job, request, response)
    return response


async def _add_image(
    job: Job, request: pb.ResolveSourceMetaRequest, response: pb.ResolveSourceMetaResponse
) -> None:
    if request.Image.AttestationChain or request.Image.ResolveAttestations:
        raise NotSupported("attestations of images are not in this version of Sampan's builder")
    name = response.Source.identifier.removeprefix(IMAGE)
    reference, digest, config = await _image(job, name, request.Platform, request.ResolveMode)
    response.Source.identifier = IMAGE + reference
    response.Image.Digest = digest
    if not request.Image.NoConfig:
        response.Image.Config = config


async def _layout(
    job: Job, reference: str, session: str, store: str, platform: ops_pb2.Platform
) -> tuple[str, bytes]:
    """The digest of an image in a client's store, and its configuration for a platform."""
    name, _, digest = reference.partition("@")
    if not digest:
        raise InvalidParameter(f'reference "{reference}" must have digest')
    store = store or name
    source = job.build.client(session, f"{layouts.SCHEME}{store}").image(store, digest)
    found = await layouts.find(source, _platform(platform), job.solving.trust)
    return digest, msgspec.json.encode(found.config)


async def _add_git(
    job: Job, request: pb.ResolveSourceMetaRequest, response: pb.ResolveSourceMetaResponse
) -> None:
    if request.Git.ReturnObject:
        raise NotSupported("a commit's own bytes are not in this version of Sampan's builder")
    operation = job.solving.operations.of(_vertex(response.Source), job.build)
    assert isinstance(operation, GitOperation)
    response.Git.Checksum, response.Git.Ref = await operation.resolved()


async def _add_file(
    job: Job, request: pb.ResolveSourceMetaRequest, response: pb.ResolveSourceMetaResponse
) -> None:
    operation = job.solving.operations.of(_vertex(response.Source), job.build)
    assert isinstance(operation, FetchOperation)
    fetched = await operation.fetched()
    response.HTTP.Checksum, response.HTTP.Filename = fetched.digest, fetched.name
    if fetched.modified_ns:
        response.HTTP.LastModified.FromNanoseconds(fetched.modified_ns)
    if request.HTTP.HasField("ChecksumRequest"):
        wanted = request.HTTP.ChecksumRequest
        algorithm = _ALGORITHMS.get(wanted.Algo)
        if algorithm is None or len(wanted.Suffix) > _LONGEST_SUFFIX:
            raise InvalidParameter("invalid request for the checksum of a file")
        path = fetched.directory / fetched.name
        response.HTTP.ChecksumResponse.Digest = await asyncio.to_thread(
            _hashed, path, algorithm, wanted.Suffix
        )
        response.HTTP.ChecksumResponse.Suffix = wanted.Suffix


def _hashed(path: Path, algorithm: str, suffix: bytes) -> str:
    with path.open("rb") as file:
        hasher = hashlib.file_digest(file, algorithm)
    hasher.update(suffix)
    return f"{algorithm}:{hasher.hexdigest()}"


def _vertex(source: ops_pb2.SourceOp) -> Vertex:
    op = ops_pb2.Op(source=source)
    return Vertex(digest_of(op.SerializeToString(deterministic=True)), op, (), ops_pb2.OpMetadata())


async def _image(job: Job, name: str, platform: ops_pb2.Platform, mode: str) -> tuple[str, str, bytes]:
    wanted = _platform(platform)
    image = await job.solving.operations.finder.find(name, wanted, job.build, fresh=mode == "pull")
    reference = parse_normalized(name).with_default_tag()
    job.images.append(ImageSource(str(reference), wanted, image.target.digest))
    return str(reference), image.target.digest, msgspec.json.encode(image.config)


def _platform(message: ops_pb2.Platform) -> Platform:
    if not message.OS or not message.Architecture:
        return platforms.local()
    return platforms.parse("/".join(filter(None, (message.OS, message.Architecture, message.Variant))))
