"""Signed URLs: an appliance that has the key serves a client only with a token, until the token expires.

There are three forms of token; a service uses one. In the first two the code is HMAC-SHA256 (RFC 2104) with the
key's secret, cut to 18 bytes, in base64url (RFC 4648, 5):

    path         /~k1~1767225600~2~<code>/v/80100172/seg-1.ts       the code is of
                 "path\n" key "\n" expiry "\n" network "\n" prefix
    query        /v/80100172?k=k1&e=1767225600&b=0&t=<code>
                 "query\n" key "\n" expiry "\n" network "\n" path
    secure_link  /v/80100172?md5=<code>&expires=1767225600&k=k1     as stock nginx checks it: MD5 in base64url of
                 expiry [network] path " " secret

A token of form `path` is the first part of the path. It covers the number of further parts that it names, and all that
lies below them: so it also covers the relative URLs of a playlist. A token of another form covers one path. Paths are
as they stand in the request, percent-encoded; in `secure_link` they are as in nginx's $uri. Hosts are not covered: the
targets of an answer share one token. Because of the first words, a token of one form is invalid as another.

`network` is the client's: the first three bytes of an IPv4 address, the first six of an IPv6 address, in hexadecimal;
`-` where any client may use the token. In `secure_link` it is " 4" or " 6" and the bytes themselves, marked by `&b=1`.

An expiry is a whole number of five minutes, so that the same request is answered with the same bytes for a while.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
import math
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from steering.model.service import Service

STEP_S: Final = 300
CODE_BYTES: Final = 18  # 144 bits, a whole number of base64 characters: no spare bits that could be changed
BYTES_OF_NETWORK: Final = {4: 3, 16: 6}  # a /24 and a /48, by the length of an address
ANY_CLIENT: Final = b"-"


class SigningKey:
    """A secret, ready to sign with; tokens name it by `id`."""

    __slots__ = ("id", "secret", "started")

    def __init__(self, name: str, secret: str) -> None:
        self.id = name
        self.secret = secret.encode("ascii")
        self.started = hmac.new(self.secret, digestmod="sha256")

    def code(self, form: bytes, expiry: int, network: bytes, covered: bytes) -> str:
        """Return the code that only a holder of the key can make."""
        mac = self.started.copy()
        mac.update(b"%b\n%b\n%d\n%b\n%b" % (form, self.id.encode(), expiry, network, covered))
        return base64.urlsafe_b64encode(mac.digest()[:CODE_BYTES]).decode()

    def nginx_code(self, expiry: int, network: bytes, uri: bytes) -> str:
        """Return the code as nginx's secure_link module makes it."""
        message = b"%d%b%b %b" % (expiry, network, uri, self.secret)
        digest = hashlib.md5(message, usedforsecurity=False).digest()  # nginx has no other; the flag is for FIPS
        return base64.urlsafe_b64encode(digest)[:22].decode()


@dataclasses.dataclass(frozen=True, slots=True)
class Signing:
    """How the URLs of a service are signed; `parts` is how many parts of a path a token of form `path` covers."""

    form: str
    ttl_s: int
    binds: bool
    keys: tuple[str, ...]
    before_title: str
    after_title: str
    parts: int = 0

    @classmethod
    def of(cls, service: Service) -> Signing | None:
        """Return how a service signs, None where its URLs are not signed."""
        if not service.token:
            return None
        parts = 0
        path = "/" + service.url.partition("?")[0].split("/", 3)[3].removeprefix("{token}/")
        before, _, after = path.partition("{title}")
        if service.token == "path":  # noqa: S105 (no password)
            parts = before.count("/") - {"title": 0, "service": 1}[service.token_covers]
        return cls(service.token, service.token_ttl_s, service.token_bind, service.keys, before, after, parts)

    def path_of(self, title: str) -> str:
        """Return the path of a title's URL without the token; the title is percent-encoded as in answers."""
        return f"{self.before_title}{title}{self.after_title}"


def token_for(signing: Signing, keys: Mapping[str, SigningKey], path: str, client: bytes, now: float) -> str | None:
    """Return the text for `{token}` in a URL, None where none of the service's keys is known.

    `path` is the URL's, percent-encoded, without the token and the query. `client` is a packed address. The first
    known key of the service signs.
    """
    key = next((keys[name] for name in signing.keys if name in keys), None)
    if key is None:
        return None
    expiry = math.ceil((now + signing.ttl_s) / STEP_S) * STEP_S
    if signing.form == "secure_link":
        bound = "&b=1" if signing.binds else ""
        code = key.nginx_code(expiry, nginx_network(client) if signing.binds else b"", uri_of(path))
        return f"md5={code}&expires={expiry}&k={key.id}{bound}"
    network = network_of(client) if signing.binds else ANY_CLIENT
    if signing.form == "query":
        code = key.code(b"query", expiry, network, path.encode())
        return f"k={key.id}&e={expiry}&b={signing.binds:d}&t={code}"
    parts = min(signing.parts, path.count("/"))
    code = key.code(b"path", expiry, network, prefix_of(path, parts).encode())
    return f"~{key.id}~{expiry}~{parts}{'b' * signing.binds}~{code}"


def prefix_of(path: str, parts: int) -> str:
    """Return a path's first parts: `/v/1` of `/v/1/x` for two, nothing for none."""
    return "/".join(path.split("/", parts + 1)[: parts + 1])


def network_of(client: bytes) -> bytes:
    """Return the network of a packed address: its /24 or /48 in hexadecimal."""
    return binascii.hexlify(client[: BYTES_OF_NETWORK[len(client)]])


def nginx_network(client: bytes) -> bytes:
    """Return the network of a packed address as the example configuration takes it from $binary_remote_addr."""
    return (b" 4" if len(client) == 4 else b" 6") + client[: BYTES_OF_NETWORK[len(client)]]


def uri_of(path: str) -> bytes:
    """Return nginx's $uri of a path without dot segments: decoded, slashes in a row as one."""
    return re.sub(b"/+", b"/", unquote_to_bytes(path))
