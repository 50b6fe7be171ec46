"""The engine's trust policy: which images may come in; OpenPGP signatures are verified in a worker process."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sampan.errors import Forbidden, SampanError
from sampan.images.remote import unresolved
from sampan.oci.image import INDEX_TYPES, Descriptor, parse_index
from sampan.registry.trust import Policy, check, check_archive

if TYPE_CHECKING:
    from sampan.images.parts import WorkerPool
    from sampan.names.reference import Reference
    from sampan.registry.client import RegistryClient
    from sampan.registry.credentials import Credentials
    from sampan.registry.repository import Repository
    from sampan.registry.simplesigning import SimpleSignature

Admission = Callable[[str, list[Descriptor]], Awaitable[None]]
"""Told the form of an archive (`docker-archive`, `oci-archive`) and its images; raises `Forbidden` unless they may be loaded."""


class Trust:
    """Asks the policy that the configuration names, which is read anew each time; without one everything is taken.

    Each raises `Forbidden` for what the policy does not take, and `InvalidParameter` for a policy that is broken.
    """

    def __init__(self, client: RegistryClient, workers: WorkerPool) -> None:
        self._client = client
        self._workers = workers

    async def pulled(self, repository: Repository, reference: Reference, target: Descriptor) -> None:
        """Ask about an image of a repository, before any of it is fetched."""
        if policy := await self._policy():
            await check(policy, repository, reference, target, self._openpgp)

    async def archived(self, form: str, images: list[Descriptor]) -> None:
        """Ask about an archive whose origin nobody tells: an `Admission`."""
        if policy := await self._policy():
            check_archive(policy, form)

    def copied(self, reference: Reference, credentials: Credentials) -> Admission:
        """For an archive that is said to hold what a reference means at its registry: asked as a pull, once that has been seen."""

        async def ask(form: str, images: list[Descriptor]) -> None:
            policy = await self._policy()
            if policy is None:
                return
            repository = self._client.repository(reference, credentials)
            try:
                target = await repository.resolve(reference.digest or reference.tag)
                parts = {target.digest}
                if target.media_type in INDEX_TYPES:
                    index = parse_index(await repository.manifest(target), target.digest)
                    parts |= {each.digest for each in index.manifests}
            except SampanError as error:
                raise unresolved(error, reference, repository.mirrors_report()) from error
            for image in images:
                if image.digest not in parts:
                    raise Forbidden(
                        f"Source image rejected: {image.digest} is not what {reference} is at its registry"
                    )
            await check(policy, repository, reference, target, self._openpgp)

        return ask

    async def _policy(self) -> Policy | None:
        file = self._client.settings.signature_policy
        return await asyncio.to_thread(Policy.of_file, file) if file else None

    async def _openpgp(
        self,
        signatures: list[SimpleSignature],
        keys: list[bytes],
        digest: str,
        reference: str,
        identity: dict[str, str],
    ) -> bool:
        args = {
            "signatures": [base64.b64encode(each.data).decode() for each in signatures],
            "keys": [base64.b64encode(each).decode() for each in keys],
            "digest": digest,
            "reference": reference,
            "identity": identity,
        }
        return bool(await self._workers.run("sampan.registry.simplesigning:is_signed_in_worker", args))


async def anything(form: str, images: list[Descriptor]) -> None:
    """An `Admission` for what was made on this machine: it is nobody else's image."""
