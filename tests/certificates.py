"""A certificate authority for tests, by the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """Issues certificates for 127.0.0.1 and localhost."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = directory / "ca-key.pem"
        self.certificate = directory / "ca.pem"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Sampan tests"),
            *("-keyout", str(self._key), "-out", str(self.certificate)),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )

    def issue(
        self,
        name: str,
        *,
        server: bool = False,
        days: int = 2,
        names: str = "IP:127.0.0.1,DNS:localhost",
    ) -> Path:
        """A directory with ca.pem, cert.pem and key.pem, as DOCKER_CERT_PATH wants them. days < 0: expired."""
        directory = self._directory / name
        directory.mkdir()
        (directory / "ca.pem").write_bytes(self.certificate.read_bytes())
        extensions = directory / "extensions"
        extensions.write_text(
            f"subjectAltName={names}\nextendedKeyUsage={'server' if server else 'client'}Auth\n"
        )
        request = directory / "request.pem"
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(directory / "key.pem"), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key)),
            *(
                "-CAcreateserial",
                "-out",
                str(directory / "cert.pem"),
                "-extfile",
                str(extensions),
                "-days",
                str(days),
            ),
        )
        return directory


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
