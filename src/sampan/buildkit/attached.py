"""Attestations with what exporters write: as manifests in an image's index, as files beside a result's own."""

from __future__ import annotations

import asyncio
import posixpath
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sampan.attestations.purl import image_purl
from sampan.attestations.statements import Subject, about, document
from sampan.buildkit import trees
from sampan.buildkit.directories import directory_of
from sampan.content.interface import content_resource
from sampan.errors import InvalidParameter
from sampan.exporters.forms import flag
from sampan.names.digest import digest_of

if TYPE_CHECKING:
    from sampan.buildkit.attesting import Attestation
    from sampan.buildkit.jobs import Job, Result
    from sampan.content.interface import ContentStore, Lease
    from sampan.exporters.results import PlatformResult, Results
    from sampan.exporters.writing import Attach, WrittenManifest
    from sampan.names.reference import Reference
    from sampan.oci.image import Descriptor
    from sampan.solver.interface import Tree

_HASH = "sampan.attestations.subject_jobs:subjects_job"
_MODE = 0o600


class Attached:
    """What an image's index carries beside its platforms: `attach` is an `exporters.writing.Attach`."""

    def __init__(
        self, by_platform: Mapping[str, Sequence[Attestation]], names: Sequence[Reference], *, artifact: bool
    ) -> None:
        self._by_platform = by_platform
        self._names = names
        self._artifact = artifact
        self.written: list[Descriptor] = []
        """So far."""

    def to(self, content: ContentStore) -> Attach:
        """What writes them there."""

        async def attach(manifest: WrittenManifest, lease: Lease) -> Sequence[Descriptor]:
            given = self._by_platform.get(manifest.result.id, ())
            if not given:
                return ()
            descriptor = await self._write(content, manifest, given, lease)
            self.written.append(descriptor)
            return (descriptor,)

        return attach

    async def _write(
        self, content: ContentStore, manifest: WrittenManifest, given: Sequence[Attestation], lease: Lease
    ) -> Descriptor:
        target, platform = manifest.descriptor, manifest.result.platform
        subjects = [Subject(image_purl(str(name), platform), target.digest) for name in self._names]
        statements = []
        for each in given:
            statement = await each.make()
            statements.append((statement.predicate_type, document(statement, subjects)))
        made = about(target, statements, artifact=self._artifact)
        # At the same time: each waits for the disk.
        await asyncio.gather(*(content.put(blob, lease=lease) for blob in dict.fromkeys(made.blobs)))
        needed = [content_resource(digest_of(blob)) for blob in made.blobs]
        await content.put(made.manifest, lease=lease, references=needed)
        return made.descriptor


def of_image(
    job: Job,
    result: Result,
    given: Results,
    names: Sequence[Reference],
    attributes: Mapping[str, str],
    *,
    always: bool,
) -> Attached | None:
    """Of an image with these names; None where there is nothing to be carried.

    What is for images only makes no index of one that would have none, unless `always` or the exporter's attributes say so. Raises
    `InvalidParameter` where Docker's media types are asked for: they know no such manifests.
    """
    found = _by_platform(job, result, given)
    if not given.several and not flag(attributes, "attestation-inline", always):
        found = {id: each for id, each in found.items() if not all(x.inline_only for x in each)}
    if not any(found.values()):
        return None
    oci_types = flag(attributes, "oci-mediatypes", True)
    if not oci_types:
        raise InvalidParameter('cannot export attestations with "oci-mediatypes=false"')
    return Attached(found, names, artifact=flag(attributes, "oci-artifact", True))


async def with_files(
    job: Job, result: Result, given: Results, attributes: Mapping[str, str], *, split: bool
) -> Results:
    """The results with their attestations as files at the top, each about all files of its platform."""
    found = _by_platform(job, result, given)
    platforms = []
    for each in given.platforms:
        wanted = [x for x in found.get(each.id, ()) if not x.inline_only]
        platforms.append(each._replace(tree=await _with_files(job, each, wanted, attributes, given, split)))
    return given._replace(platforms=platforms)


def _by_platform(job: Job, result: Result, given: Results) -> dict[str, list[Attestation]]:
    if job.attesting is None:
        return {}
    return {each.id: job.attesting.of(result, each.id) for each in given.platforms}


async def _with_files(
    job: Job,
    platform: PlatformResult,
    wanted: Sequence[Attestation],
    attributes: Mapping[str, str],
    given: Results,
    split: bool,
) -> Tree:
    if not wanted:
        return platform.tree
    subjects = await _subjects(job, platform.tree)
    files: dict[str, bytes] = {}
    for each in wanted:
        name = attributes.get("attestation-prefix", "") + posixpath.basename(each.name)
        if given.several and not split:
            stem, extension = posixpath.splitext(name)
            name = f"{stem}.{directory_of(platform.id)}{extension}"
        if name in files or name in ("", ".", "..") or "/" in name or "\0" in name:
            raise InvalidParameter(f"duplicate or invalid attestation path name {name}")
        files[name] = document(await each.make(), subjects, indent=2)
    return await _written(job, platform.tree, files)


async def _subjects(job: Job, tree: Tree) -> list[Subject]:
    async with trees.opened(job.solving.trees, tree) as root:
        found = await job.solving.trees.run(_HASH, {}, (root,))
    return [Subject(path, digest) for path, digest in found]


async def _written(job: Job, tree: Tree, files: Mapping[str, bytes]) -> Tree:
    """The files on top of a tree, in place of what has their names."""
    actions: list[dict[str, Any]] = []
    for name, data in files.items():
        actions.append({"kind": "rm", "path": f"/{name}", "missing_ok": True, "wildcard": False})
        actions.append(
            {
                "kind": "mkfile",
                "path": f"/{name}",
                "mode": _MODE,
                "data": b64encode(data).decode(),
                "owner": None,
                "time_ns": None,
            }
        )
    own = job.solving.trees
    async with own.growing(tree, job.build.lease) as growth:
        arguments = {"view": await own.view_of(growth), "sources": {}, "actions": actions}
        await own.run("sampan.ops.file_jobs:file_job", arguments)
        return await growth.commit()
