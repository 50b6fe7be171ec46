"""Simple signing, as skopeo and podman do it: OpenPGP-signed payloads in a place beside the registry (a *lookaside*).

Where that is, `registries.d/*.yaml` says per registry or namespace (containers-registries.d(5)); a signature's address there is
`…/PATH@sha256=HEX/signature-N`. OpenPGP is gpg's.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from yarl import URL

from sampan.errors import InvalidParameter, SystemFailure
from sampan.names.digest import Digest, algorithm_of, encoded_of
from sampan.names.reference import Reference, parse_normalized
from sampan.registry.claims import CLAIM_MAX, SIMPLE_TYPE, is_named, parse_claim

if TYPE_CHECKING:
    from sampan.registry.transport import Transport

DIRECTORIES = ("/etc/containers/registries.d",)
BUILT_IN = "file:///var/lib/containers/sigstore"
"""Where root's signatures are when nothing is configured."""
_SIGNATURES_MAX = 32
_GPG_SECONDS = 60
_VALID = re.compile(r"\[GNUPG:\] VALIDSIG ([0-9A-F]+)")
_BAD = re.compile(r"\[GNUPG:\] (?:BADSIG|EXPSIG|EXPKEYSIG|REVKEYSIG|ERRSIG)")


class SimpleSignature(NamedTuple):
    """An OpenPGP message: the payload and its signature in one."""

    data: bytes


class Lookasides:
    """Where signatures are kept, by registry and namespace."""

    def __init__(self, default: str, scopes: dict[str, str]) -> None:
        self._default = default
        self._scopes = scopes

    @classmethod
    def configured(cls, directories: tuple[str, ...] = DIRECTORIES) -> Lookasides:
        """As `registries.d` says. Blocks. Raises `InvalidParameter` naming a file that cannot be read."""
        import yaml

        default = ""
        scopes: dict[str, str] = {}
        for directory in directories:
            for file in sorted(Path(directory).glob("*.yaml")):
                try:
                    document = yaml.safe_load(file.read_text()) or {}
                    default = _place(document.get("default-docker")) or default
                    found = {key: _place(value) for key, value in (document.get("docker") or {}).items()}
                except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
                    raise InvalidParameter(f"{file}: {error}") from None
                scopes |= {key: value for key, value in found.items() if value}
        return cls(default or BUILT_IN, scopes)

    def address(self, reference: Reference, digest: Digest, number: int) -> URL:
        """Of a signature, counted from 1."""
        name = reference.name
        base = self._default
        while name:
            if name in self._scopes:
                base = self._scopes[name]
                break
            name = name.rpartition("/")[0]
        path = f"{reference.path}@{algorithm_of(digest)}={encoded_of(digest)}/signature-{number}"
        return URL(f"{base.rstrip('/')}/{path}")

    async def signatures(
        self, transport: Transport, reference: Reference, digest: Digest
    ) -> list[SimpleSignature]:
        """All that are there, not verified."""
        import asyncio

        found: list[SimpleSignature] = []
        for number in range(1, _SIGNATURES_MAX + 1):
            url = self.address(reference, digest, number)
            if url.scheme == "file":
                data = await asyncio.to_thread(_read, Path(url.path))
            else:
                async with await transport.follow("GET", url, {}) as answer:
                    data = await answer.read(CLAIM_MAX) if answer.status == 200 else None
            if data is None:
                break
            found.append(SimpleSignature(data))
        return found

    def store(self, reference: Reference, digest: Digest, signature: SimpleSignature) -> Path:
        """Add a signature. Blocks. Raises `InvalidParameter` when the place is not on this machine."""
        for number in range(1, _SIGNATURES_MAX + 1):
            url = self.address(reference, digest, number)
            if url.scheme != "file":
                raise InvalidParameter(f"signatures are only written to directories, not to {url.origin()}")
            path = Path(url.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("xb") as file:
                    file.write(signature.data)
            except FileExistsError:
                continue
            return path
        raise InvalidParameter(f"{reference}: there are {_SIGNATURES_MAX} signatures already")


def sign(payload: bytes, key: str) -> SimpleSignature:
    """Sign as the owner of a key in gpg's keyring. Blocks. Raises `SystemFailure` with gpg's words."""
    done = _gpg([*(("--local-user", key)), "--sign"], payload)
    if done.returncode:
        raise SystemFailure(f"gpg cannot sign: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return SimpleSignature(done.stdout)


def is_signed(
    signatures: list[SimpleSignature],
    keys: list[bytes],
    digest: str,
    reference: str,
    identity: dict[str, str],
) -> bool:
    """Whether one of the signatures is of one of the keys, and says that this is the image of that name. Blocks."""
    pulled = parse_normalized(reference)
    with tempfile.TemporaryDirectory(prefix="sampan-gpg-") as home:
        for key in keys:
            _gpg(["--import"], key, home)
        for signature in signatures:
            payload = _verified(signature, home)
            claim = parse_claim(payload) if payload is not None else None
            wanted = claim is not None and (claim.kind, claim.digest) == (SIMPLE_TYPE, digest)
            if claim is not None and wanted and is_named(claim.reference, pulled, identity):
                return True
    return False


def is_signed_in_worker(args: dict[str, Any], fds: list[int], report: object) -> bool:
    """The same for a worker process; what is bytes comes in base64."""
    import base64

    signatures = [SimpleSignature(base64.b64decode(each)) for each in args["signatures"]]
    keys = [base64.b64decode(each) for each in args["keys"]]
    return is_signed(signatures, keys, args["digest"], args["reference"], args["identity"])


def _verified(signature: SimpleSignature, home: str) -> bytes | None:
    """The payload, when a key of the keyring in `home` has signed all of it."""
    done = _gpg(["--trust-model", "always", "--status-fd", "2", "--decrypt"], signature.data, home)
    status = done.stderr.decode(errors="replace")
    if done.returncode or len(_VALID.findall(status)) != 1 or _BAD.search(status):
        return None
    return done.stdout


def _gpg(arguments: list[str], data: bytes, home: str = "") -> subprocess.CompletedProcess[bytes]:
    command = [
        "gpg",
        "--batch",
        "--no-tty",
        *(["--homedir", home, "--no-autostart"] if home else []),
        *arguments,
    ]
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "GNUPGHOME") if key in os.environ}
    try:
        return subprocess.run(
            command, input=data, capture_output=True, timeout=_GPG_SECONDS, check=False, env=environment
        )
    except FileNotFoundError:
        raise SystemFailure("simple signing needs gpg: install gnupg") from None
    except subprocess.TimeoutExpired:
        raise SystemFailure(f"gpg did not end within {_GPG_SECONDS} seconds") from None


def _place(section: object) -> str:
    if not isinstance(section, dict):
        return ""
    return str(section.get("lookaside") or section.get("sigstore") or "")


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(CLAIM_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return None
