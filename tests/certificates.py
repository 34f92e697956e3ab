"""Certificates for tests, made with the program that every Debian has."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from tests.programs import needs_program

_USES = "keyUsage=critical,digitalSignature,keyCertSign"


def make(folder: Path, name: str, *, password: str = "") -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that is its own root; return its file and the key's."""
    openssl = needs_program("openssl", package="openssl")
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", _USES]
    command += ["-passout", f"pass:{password}"] if password else ["-nodes"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def trusting(certificate: Path, shown: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts one certificate, and shows one of its own."""
    context = ssl.create_default_context(cafile=str(certificate))
    if shown:
        context.load_cert_chain(*shown)
    return context
