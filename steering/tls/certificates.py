"""The certificates of a process's TLS listeners: checked, chosen by the name that a client asks for, and followed.

All connections begin in one context, which has no certificate. When a client's hello has been read, the connection
moves to the context of the certificate that fits its name. So a change of certificates touches no open connection, and
the keys of session tickets stay: they belong to the first context, which is made before the workers are forked.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import ssl
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from steering.errors import SettingsError
from steering.state.folder import read_small, stamp_of

# For TLS 1.2, as Mozilla's "intermediate" recommends: forward secrecy and authenticated encryption. The client orders
# them by what its processor does best. Those of TLS 1.3 are all recommended.
CIPHERS: Final = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for signature in ("ECDSA", "RSA")
)
MAX_FILE: Final = 1 << 20
BLOCK: Final = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, x509_vfy.h

logger = logging.getLogger("steering.tls")

Pair = tuple[Path, Path]  # the files of a certificate chain and of its key


@dataclasses.dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that can be served; times are seconds since the epoch."""

    path: Path
    context: ssl.SSLContext
    names: frozenset[str]
    starts_at: float
    expires_at: float


class Certificates:
    """The certificates of (certificate, key) files in the order of the settings; the first is for unknown names.

    With `client_ca`, a client may bring a certificate of one of the CAs in this file. `refused` is called when files
    that have changed cannot be used; then the last good certificates serve on. Raises SettingsError.
    """

    def __init__(
        self, pairs: Sequence[Pair], client_ca: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.pairs = tuple(pairs)
        self.client_ca = client_ca
        self.clock = clock
        self.refused: Callable[[], None] = lambda: None
        self.context = make_context(client_ca)
        self.context.sni_callback = self.choose
        self.changed = self.stamp()
        self.seen: tuple[object, ...] | None = self.changed
        self.served = self.load()
        self.warned: set[Certificate] = set()
        self.warn()

    def load(self) -> list[Certificate]:
        """Return the certificates of the files. Raises SettingsError."""
        return [load_certificate(certificate, key, self.client_ca) for certificate, key in self.pairs]

    def stamp(self) -> tuple[object, ...]:
        """Return a value that changes with any of the files."""
        return tuple(
            stamp_of(path)
            for path in (*(path for pair in self.pairs for path in pair), *filter(None, [self.client_ca]))
        )

    def hurry(self, *_: object) -> None:
        """Load the files at the next look, changed or not. A signal handler may call it."""
        self.seen = None

    def step(self) -> None:
        """Look at the files once: load them when they have changed, and rested since the last look."""
        stamp = self.stamp()
        if self.seen is None or stamp == self.changed != self.seen:
            self.reload()
        self.changed = stamp
        self.warn()

    def reload(self) -> None:
        """Serve what the files have now; where they cannot be used, log it, and serve on what was served."""
        self.seen = self.changed = self.stamp()
        try:
            served = self.load()
            if self.client_ca:  # the certificates of clients are verified from the first message on
                context = make_context(self.client_ca)
                context.sni_callback = self.choose
                self.context = context
        except SettingsError as error:
            logger.error("%s; the old certificates serve on", error.message)
            self.refused()
            return
        self.served = served
        logger.info("%d certificates loaded", len(served))
        self.warn()

    def warn(self) -> None:
        """Log once of each certificate that it has expired, or is not valid yet."""
        now = self.clock()
        for each in self.served:
            if each not in self.warned and not each.starts_at <= now <= each.expires_at:
                self.warned.add(each)
                date = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(max(each.starts_at, min(now, each.expires_at))))
                what = "expired at" if now > each.expires_at else "is not valid before"
                logger.warning("tls_cert %s: %s %s; it is served, and clients refuse it", each.path, what, date)
        self.warned.intersection_update(self.served)

    def expires_at(self) -> float:
        """Return when the first of the certificates expires, in seconds since the epoch."""
        return min(each.expires_at for each in self.served)

    def find(self, name: str) -> Certificate:
        """Return the certificate for a host name: its own, that of its wildcard, or the first."""
        name = name.lower().rstrip(".")
        for wanted in (name, f"*.{name.partition('.')[2]}"):
            for each in self.served:
                if wanted in each.names:
                    return each
        return self.served[0]

    def choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Give a connection its certificate; OpenSSL calls this when a client's hello is read, without a name too."""
        connection.context = self.find(name or "").context


def make_context(client_ca: Path | None = None) -> ssl.SSLContext:
    """Return a server's context without a certificate: TLS 1.2 and 1.3. Raises SettingsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if client_ca:
        read_text("control_client_ca", client_ca)
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise SettingsError(
                f"control_client_ca {client_ca}: no PEM file of certificates: {error.reason}"
            ) from error
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def load_certificate(certificate: Path, key: Path, client_ca: Path | None = None) -> Certificate:
    """Return a certificate that has been tried in a handshake. Raises SettingsError naming the file and the rule."""
    chain, secret = read_text("tls_cert", certificate), read_text("tls_key", key)
    first = BLOCK.search(chain)
    if not first:
        raise SettingsError(f"tls_cert {certificate}: no PEM file of certificates")
    if "PRIVATE KEY-----" not in secret:
        raise SettingsError(f"tls_key {key}: no PEM file of a private key")

    def refuse_password() -> str:
        raise SettingsError(f"tls_key {key}: is encrypted; write it without a password, readable by the service alone")

    context = make_context(client_ca)
    try:
        context.load_cert_chain(certificate, key, refuse_password)
        served = try_handshake(context, first[0])
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"tls_key {key}: is not the key of the first certificate of {certificate}") from error
        reason = getattr(error, "verify_message", "") or error.reason or error
        raise SettingsError(f"tls_cert {certificate}, tls_key {key}: OpenSSL refuses them: {reason}") from error
    except OSError as error:
        raise SettingsError(f"tls_cert {certificate}, tls_key {key}: {error.strerror}") from error
    names = {value.lower() for kind, value in served.get("subjectAltName", ()) if kind == "DNS"}
    if "subjectAltName" not in served:
        names = {value.lower() for row in served["subject"] for kind, value in row if kind == "commonName"}
    times = (ssl.cert_time_to_seconds(served[field]) for field in ("notBefore", "notAfter"))
    return Certificate(certificate, context, frozenset(names), *times)


def read_text(setting: str, path: Path) -> str:
    """Return the text of a file of a setting. Raises SettingsError unless it is a readable file of at most MAX_FILE."""
    try:
        data, mode = read_small(path, MAX_FILE)
    except OSError as error:
        raise SettingsError(f"{setting} {path}: {error.strerror}") from error
    if data is None:
        raise SettingsError(f"{setting} {path}: no file of at most {MAX_FILE} bytes")
    if setting == "tls_key" and mode & stat.S_IROTH:
        logger.warning("tls_key %s: mode %04o lets everybody read it", path, stat.S_IMODE(mode))
    return data.decode("ascii", "replace")


def try_handshake(context: ssl.SSLContext, pem: str) -> dict[str, Any]:
    """Return a context's certificate as a client reads it that trusts this very certificate. Raises SSLError."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.load_verify_locations(cadata=pem)
    trusting.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
    served: dict[str, Any] = client.getpeercert() or {}
    return served
