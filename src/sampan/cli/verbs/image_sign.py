"""`image sign` and `image verify`: signatures in the image's repository, as cosign keeps them, and simple signing, as skopeo's."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.cli.command import flag, listing, option, verb
from sampan.cli.repositories import open_repository
from sampan.cli.values import STRING
from sampan.errors import InvalidParameter
from sampan.names.reference import parse_normalized

if TYPE_CHECKING:
    from sampan.cli.session import Session
    from sampan.registry.simplesigning import Lookasides, SimpleSignature
    from sampan.registry.trust import Policy

_INSECURE = "Registry that may speak plain HTTP or show an unknown certificate"
_DIRECTORY = "Directory of the registry's simple signatures instead of what registries.d says"


@verb(
    "[OPTIONS] IMAGE",
    "Sign an image at its registry",
    arity=(1, 1),
    aliases=("image sign",),
    examples="$ sampan image sign --key private.pem registry.example.com/app:1     (cosign verify --key public.pem …)\n"
    "$ sampan image sign --sign-by me@example.com registry.example.com/app:1     (policy.json: signedBy)\n"
    "The password of a key in PEM is taken from SAMPAN_KEY_PASSWORD.",
)
@listing("--insecure-registry", kind=STRING, help=_INSECURE)
@option("--key", kind=STRING, default="", help="Private key in PEM (EC, RSA, Ed25519)")
@option("--lookaside", kind=STRING, default="", help=_DIRECTORY)
@option("--sign-by", kind=STRING, default="", help="Key in gpg's keyring: simple signing")
def sign(
    session: Session,
    args: tuple[str, ...],
    insecure_registry: tuple[str, ...],
    key: str,
    lookaside: str,
    sign_by: str,
) -> None:
    if bool(key) == bool(sign_by):
        raise InvalidParameter("give --key FILE or --sign-by KEY")
    reference = parse_normalized(args[0]).with_default_tag()
    named = str(reference.without_tag()._replace(digest="") if reference.digest else reference)

    async def run() -> str:
        from sampan.registry import claims, simplesigning
        from sampan.registry.signatures import Signature, attach
        from sampan.registry.signingkeys import SigningKey

        async with AsyncExitStack() as closing:
            repository = open_repository(closing, reference, insecure_registry)
            target = await repository.resolve(reference.digest or reference.tag)
            if sign_by:
                signature = simplesigning.sign(claims.simple_payload(named, target.digest), sign_by)
                _lookasides(lookaside).store(reference, target.checked_digest, signature)
            else:
                private = SigningKey(Path(key), os.environ.get("SAMPAN_KEY_PASSWORD", ""))
                payload = claims.cosign_payload(named, target.digest)
                await attach(repository, target, Signature(payload, private.sign(payload)))
            return target.digest

    print(f"{reference.name}@{asyncio.run(run())}: signed")


@verb(
    "[OPTIONS] IMAGE",
    "Say whether an image at its registry is signed by a key, or taken by a trust policy",
    arity=(1, 1),
    aliases=("image verify",),
    examples="$ sampan image verify --key public.pem registry.example.com/app:1\n"
    "$ sampan image verify --policy /etc/containers/policy.json registry.example.com/app:1",
)
@listing("--insecure-registry", kind=STRING, help=_INSECURE)
@listing("--key", kind=STRING, help="Public key in PEM; of several any one will do")
@flag("--any-name", help="Take a signature that was made under another tag of the repository")
@option("--policy", kind=STRING, default="", help="Policy in the form of containers-policy.json(5)")
def verify(
    session: Session,
    args: tuple[str, ...],
    insecure_registry: tuple[str, ...],
    key: tuple[str, ...],
    any_name: bool,
    policy: str,
) -> None:
    from sampan.registry import trust

    if bool(key) == bool(policy):
        raise InvalidParameter("give --key FILE or --policy FILE")
    reference = parse_normalized(args[0]).with_default_tag()
    rules = trust.Policy.of_file(policy) if policy else _policy_of_keys(key, any_name)

    async def run() -> str:
        async with AsyncExitStack() as closing:
            repository = open_repository(closing, reference, insecure_registry)
            target = await repository.resolve(reference.digest or reference.tag)
            await trust.check(rules, repository, reference, target, _openpgp)
            return target.digest

    print(f"{reference.name}@{asyncio.run(run())}: verified")


def _policy_of_keys(keys: tuple[str, ...], any_name: bool) -> Policy:
    from sampan.registry.trust import Policy

    identity = {"type": "matchRepository" if any_name else "matchRepoDigestOrExact"}
    requirement = {"type": "sigstoreSigned", "keyPaths": list(keys), "signedIdentity": identity}
    return Policy({"default": [requirement]})


async def _openpgp(
    signatures: list[SimpleSignature],
    keys: list[bytes],
    digest: str,
    reference: str,
    identity: dict[str, str],
) -> bool:
    from sampan.registry.simplesigning import is_signed

    return await asyncio.to_thread(is_signed, signatures, keys, digest, reference, identity)


def _lookasides(directory: str) -> Lookasides:
    from sampan.registry import simplesigning

    return (
        simplesigning.Lookasides(f"file://{os.path.abspath(directory)}", {})
        if directory
        else simplesigning.Lookasides.configured()
    )
