"""The engine's trust policy: whether an image may be pulled, its OpenPGP signatures verified by gpg in a worker process."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

from sampan.registry.trust import Policy, check

if TYPE_CHECKING:
    from sampan.images.parts import WorkerPool
    from sampan.names.reference import Reference
    from sampan.oci.image import Descriptor
    from sampan.registry.repository import Repository
    from sampan.registry.simplesigning import SimpleSignature


async def check_policy(
    file: str, workers: WorkerPool, repository: Repository, reference: Reference, target: Descriptor
) -> None:
    """Raise `Forbidden` unless the policy in the file, as it is now, takes an image; `InvalidParameter` for a broken file."""

    async def openpgp(
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
        return bool(await workers.run("sampan.registry.simplesigning:is_signed_in_worker", args))

    policy = await asyncio.to_thread(Policy.of_file, file)
    await check(policy, repository, reference, target, openpgp)
