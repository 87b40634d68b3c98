"""Certificates for tests, made by openssl(1), and clients that trust them."""

from __future__ import annotations

import base64
import hashlib
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

Pair = tuple[Path, Path]  # the files of a certificate and of its key


def openssl(*arguments: str, given: bytes = b"") -> bytes:
    program = shutil.which("openssl")
    if not program:
        pytest.skip("openssl is not installed")
    return subprocess.run([program, *arguments], input=given, capture_output=True, check=True).stdout


def fingerprint(certificate: Path) -> str:
    """Return the SHA-256 of a certificate's public key in base64, as browsers take it."""
    public = openssl("x509", "-in", str(certificate), "-pubkey", "-noout")
    return base64.b64encode(
        hashlib.sha256(openssl("pkey", "-pubin", "-outform", "der", given=public)).digest()
    ).decode()


def make_certificate(
    folder: Path, name: str, *names: str, days: int = 30, ca: Pair | None = None, key: str = "ec", file: str = ""
) -> Pair:
    """Return a certificate for a common name and DNS names, its own or a CA's; with `days` below 0 it has expired."""
    start = folder / (file or name)
    certificate, secret, request = (start.with_suffix(f"{start.suffix}.{end}") for end in ("pem", "key", "csr"))
    kinds = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["rsa:2048"], "weak": ["rsa:512"]}
    openssl(
        "req",
        "-new",
        "-nodes",
        "-newkey",
        *kinds[key],
        "-keyout",
        str(secret),
        "-out",
        str(request),
        "-subj",
        f"/CN={name}",
    )
    extra = folder / "extensions"
    extra.write_text(f"subjectAltName={','.join(f'DNS:{each}' for each in names)}\n" if names else "")
    signer = ["-CA", str(ca[0]), "-CAkey", str(ca[1]), "-CAcreateserial"] if ca else ["-signkey", str(secret)]
    openssl(
        "x509",
        "-req",
        "-in",
        str(request),
        "-out",
        str(certificate),
        "-days",
        str(days),
        "-extfile",
        str(extra),
        *signer,
    )
    return certificate, secret


def client_context(*trusted: Path, pair: Pair | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts these certificates alone, and may have one of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for path in trusted:
        context.load_verify_locations(path)
    if pair:
        context.load_cert_chain(*pair)
    return context
