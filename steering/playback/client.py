"""Who is asking: the address a request comes from, and whether every hop that says so is trusted.

The socket's address counts. Only where it lies in a trusted CIDR is the one configured header believed: `Forwarded`
(RFC 7239) or `X-Forwarded-For`, walked from right to left, because each proxy appends the address it saw. The walk ends
at the first hop that is not trusted: that is the client. What a client wrote further left is never looked at.
A hop that is no address (`unknown`, `_hidden`, garbage) ends the walk too: the hop to its right is the client, and
the request is not trusted.

Trust is judged on addresses as they are, but for IPv4-mapped ones, which is how a dual-stack socket shows IPv4: a NAT64
or 6to4 address that embeds a trusted one is somebody else's. The client's own address is then unwrapped once.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import socket
from collections.abc import Iterator, Sequence
from typing import Final

from steering.errors import RequestError

MAX_HEADER: Final = 4096
MAX_HOPS: Final = 32
UNKNOWN: Final = bytes(4)  # 0.0.0.0, which no route covers: a caller on a Unix socket that names no client

MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291
NAT64: Final = b"\x00\x64\xff\x9b" + bytes(8)  # 64:ff9b::/96, RFC 6052
SIX_TO_FOUR: Final = b"\x20\x02"  # 2002::/16, RFC 3056

# One parameter of a Forwarded element: a token, "=", and a token or a quoted string (RFC 7239, section 4).
PARAMETER: Final = re.compile(r"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s",;]*)\s*""")


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """The client's packed address, 4 or 16 bytes, and whether every hop on the way is trusted."""

    packed: bytes
    trusted: bool


class Trust:
    """The CIDRs whose word is believed."""

    def __init__(self, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> None:
        self.networks = [
            (network.max_prefixlen // 8, int(network.network_address), int(network.netmask)) for network in networks
        ]

    def __contains__(self, packed: bytes) -> bool:
        number, size = int.from_bytes(packed, "big"), len(packed)
        return any(size == width and number & mask == network for width, network, mask in self.networks)


def find_client(
    peer: str | None, headers: Sequence[tuple[bytes, bytes]], trust: Trust, header: str, ip: str | None = None
) -> Client:
    """Return who is asking.

    `peer` is the socket's address, None on a Unix socket, whose file permissions are its trust. `headers` are the
    request's, names in lower case; `header` is the one that is believed. `ip` is the parameter of that name: it
    replaces the address where every hop is trusted. Raises RequestError, 403 for an `ip` from anybody else.
    """
    packed = pack(peer) if peer is not None else UNKNOWN
    if packed is None:
        return Client(UNKNOWN, trusted=False)
    if peer is not None and packed not in trust:
        client = Client(unwrap(packed), trusted=False)
    else:
        name = header.encode()
        client = walk(packed, [value for key, value in headers if key == name], trust, header)
    return client if ip is None else asked_for(client, ip)


def asked_for(client: Client, ip: str) -> Client:
    """Return the client that a caller asks for by the parameter `ip`. Raises RequestError."""
    if not client.trusted:
        raise RequestError.of_parameter("ip", ip, "only callers whose every hop is trusted may ask for others", 403)
    asked = pack(ip)
    if asked is None:
        raise RequestError.of_parameter("ip", ip, "an IPv4 or IPv6 address without a zone id")
    return Client(unwrap(asked), trusted=True)


def walk(packed: bytes, values: Sequence[bytes], trust: Trust, header: str) -> Client:
    """Return the client at the end of the walk from a trusted peer through the header's lines."""
    joined = b",".join(values)
    if len(joined) > MAX_HEADER:
        return Client(unwrap(packed), trusted=False)
    text = joined.decode("latin-1")
    hops = list(split_forwarded(text) if header == "forwarded" else split_plain(text))
    for count, hop in enumerate(reversed(hops)):
        found = pack_hop(hop)
        if found is None or count == MAX_HOPS:
            return Client(unwrap(packed), trusted=False)
        packed = found
        if packed not in trust:
            return Client(unwrap(packed), trusted=False)
    return Client(unwrap(packed), trusted=True)


def split_plain(text: str) -> Iterator[str]:
    """Yield the hops of X-Forwarded-For, left to right; empty elements are passed over (RFC 9110, 5.6.1)."""
    return (hop for hop in (part.strip() for part in text.split(",")) if hop)


def split_forwarded(text: str) -> Iterator[str]:
    """Yield the `for` of each element of Forwarded, left to right; "" where an element names none or is malformed."""
    at = 0
    while at < len(text):
        if text[at] in " \t,":
            at += 1
            continue
        hop, named = "", 0
        while True:
            match = PARAMETER.match(text, at)
            if match is None:
                yield ""  # what follows cannot be cut into elements
                return
            at = match.end()
            if match[1].lower() == "for":
                hop, named = unquote(match[2]), named + 1
            if at == len(text) or text[at] == ",":
                break
            if text[at] != ";":
                yield ""
                return
            at += 1
        yield hop if named == 1 else ""


def unquote(value: str) -> str:
    """Return a token or what a quoted string quotes."""
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def pack_hop(hop: str) -> bytes | None:
    """Return a hop's packed address: IPv4, IPv6 or IPv6 in brackets, with a port or without; None for anything else."""
    if hop.startswith("["):
        address, bracket, port = hop[1:].partition("]")
        return pack(address) if bracket and ":" in address and re.fullmatch(r"(:\d{1,5})?", port, re.ASCII) else None
    address, colon, port = hop.partition(":")
    if colon and "." in address:
        return pack(address) if re.fullmatch(r"\d{1,5}", port, re.ASCII) else None
    return pack(hop)


def pack(text: str) -> bytes | None:
    """Return a text address packed, an IPv4-mapped one as IPv4; None where it is none. Zone ids are refused."""
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(MAPPED) else packed


def unwrap(packed: bytes) -> bytes:
    """Return the IPv4 address inside a NAT64 or 6to4 address, else the address itself."""
    if len(packed) == 16:
        if packed.startswith(NAT64):
            return packed[12:]
        if packed.startswith(SIX_TO_FOUR):
            return packed[2:6]
    return packed
