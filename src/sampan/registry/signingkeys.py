"""Keys that images are signed with: EC, RSA and Ed25519 in PEM, as openssl and cosign write public ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes


class SigningKey:
    """A private key."""

    def __init__(self, file: Path, password: str = "") -> None:
        """Read a PEM file. Raises `InvalidParameter` naming it."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        data = _read(file)
        if b"ENCRYPTED SIGSTORE PRIVATE KEY" in data or b"ENCRYPTED COSIGN PRIVATE KEY" in data:
            raise InvalidParameter(
                f"{file}: cosign's own encrypted form is not read: give the key in PKCS #8"
            )
        try:
            self._key: PrivateKeyTypes = load_pem_private_key(data, password.encode() or None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidParameter(f"{file}: no usable private key: {error}") from None

    def sign(self, data: bytes) -> bytes:
        """A signature over the SHA-256 of the data (Ed25519: over the data), as cosign makes it."""
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
        from cryptography.hazmat.primitives.hashes import SHA256

        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(data, ec.ECDSA(SHA256()))
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, padding.PKCS1v15(), SHA256())
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        raise InvalidParameter("images are signed with EC, RSA or Ed25519 keys")


class VerifyingKey:
    """A public key."""

    def __init__(self, data: bytes, name: str) -> None:
        """Read PEM. Raises `InvalidParameter` naming `name`."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            self._key: PublicKeyTypes = load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidParameter(f"{name}: no usable public key: {error}") from None

    @classmethod
    def of_file(cls, file: Path) -> VerifyingKey:
        """Read a PEM file."""
        return cls(_read(file), str(file))

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature is this key's over the data."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            if isinstance(self._key, ec.EllipticCurvePublicKey):
                self._key.verify(signature, data, ec.ECDSA(SHA256()))
            elif isinstance(self._key, rsa.RSAPublicKey):
                self._key.verify(signature, data, padding.PKCS1v15(), SHA256())
            elif isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(signature, data)
            else:
                return False
        except InvalidSignature:
            return False
        return True


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidParameter(f"cannot read {file}: {(error.strerror or '').lower()}") from None
