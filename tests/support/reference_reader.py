"""The slow, obvious reader of requests: the judge of the compiled one. It shares no code with it.

A refusal is the tuple (parameter, value, rule, status), raised in `Refused`.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import string
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import unquote as unquote_percent
from urllib.parse import unquote_to_bytes

Headers = Sequence[tuple[bytes, bytes]]


class Refused(Exception):  # noqa: N818 (as the compiled one's)
    """What the reader refuses: parameter, value, rule and status."""


def refused(parameter: str, value: str, rule: str, status: int = 400) -> Refused:
    return Refused(parameter, value, rule, status)


# ---- the query of /v1/steer

NAMES: Final = ("title", "service", "session", "n", "family", "ip", "explain", "redirect", "failed")
WRONG_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def read_steer_query(query: bytes, default_service: str) -> tuple[Any, ...]:
    """Return the parameters of a raw query string. Raises Refused naming the first that is wrong."""
    result: dict[str, str] = {}
    for part in query.split(b"&"):
        name, _, raw = part.partition(b"=")
        known = name.decode("latin-1")
        if known in NAMES:
            value = decode(known, raw)
            if known in result:
                raise refused(known, value, "is given twice")
            result[known] = value
    if "title" not in result:
        raise refused("title", "", "is required")
    explain, redirect = flag(result, "explain"), flag(result, "redirect")
    if explain and redirect:
        raise refused("redirect", "1", "not together with explain=1")
    n, family = one_of(result, "n", "12345678", "a number from 1 to 8"), one_of(result, "family", "46", "4 or 6")
    failed: tuple[str, ...] = ()
    if "failed" in result:
        failed, wrong = failed_of(result["failed"])
        if wrong:
            rule = "1 to 8 ids or hosts of appliances, with commas between"
            raise refused("failed", result["failed"], rule)
    return (
        result["title"],
        result.get("service", default_service),
        result.get("session", ""),
        n,
        family,
        result.get("ip"),
        explain,
        redirect,
        failed,
    )


def failed_of(text: str) -> tuple[tuple[str, ...], bool]:
    """Return the names in a list as far as they are right, and whether one is wrong or too many."""
    names = listed(text)
    right: list[str] = []
    for name in names:
        if len(right) == MAX_FAILED or not (0 < len(name) <= MAX_HOST and ID_CHARACTERS.issuperset(name)):
            return tuple(right), True
        right.append(name)
    return tuple(right), not names


def decode(name: str, raw: bytes) -> str:
    """Return a value decoded."""
    if WRONG_ESCAPE.search(raw):
        raise refused(name, raw.decode("latin-1"), "a % is followed by two hexadecimal digits")
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise refused(name, raw.decode("latin-1"), "its bytes are UTF-8") from None


def one_of(result: dict[str, str], name: str, digits: str, rule: str) -> int:
    """Return a parameter of one digit, 0 where it is absent."""
    value = result.get(name)
    if value is None:
        return 0
    if len(value) != 1 or value not in digits:
        raise refused(name, value, rule)
    return int(value)


def flag(result: dict[str, str], name: str) -> bool:
    """Return a parameter that is 0 or 1."""
    value = result.get(name, "0")
    if value not in ("0", "1"):
        raise refused(name, value, "0 or 1")
    return value == "1"


# ---- hints of players, and the path

MANIFESTS: Final = {"hls": "master.m3u8", "dash": "manifest.mpd"}
ID_CHARACTERS: Final = frozenset(string.ascii_letters + string.digits + "._-")
SPACE: Final = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f "
MAX_ID: Final = 64
MAX_REPORTED: Final = 16
MAX_SESSION: Final = 256
MAX_FAILED: Final = 8
MAX_HOST: Final = 253
MAX_BPS: Final = 10**12


def read_hints(query: bytes, protocol: str) -> tuple[Any, ...]:
    """Return the hints of a raw query string for `hls` or `dash`. Nothing in it is an error.

    The last of a parameter that is repeated counts; values are percent-encoded, may stand in one pair of quotes, and
    may be lists with commas.
    """
    result: dict[str, str] = {}
    odd = 0
    for part in query.split(b"&"):
        name, _, raw = part.partition(b"=")
        result[name.decode("latin-1")] = unquote_to_bytes(raw.replace(b"+", b" ")).decode(errors="replace")
    prefix = f"_{protocol.upper()}_"
    names = listed(result.get(f"{prefix}pathway", ""))
    pathways = tuple(dict.fromkeys(name for name in names if is_id(name)))[:MAX_REPORTED]
    odd += any(name and not is_id(name) for name in names) + (len(names) > MAX_REPORTED)
    throughputs = []
    for value in listed(result.get(f"{prefix}throughput", ""))[:MAX_REPORTED]:
        known = value.isascii() and value.isdigit()
        throughputs.append(min(int(value[:20]), MAX_BPS) if known else None)
        odd += bool(value) and not known
    declared = tuple(dict.fromkeys(name for name in listed(result.get("declared", "")) if is_id(name)))[:MAX_REPORTED]
    failed: tuple[str, ...] = ()
    if result.get("failed"):
        failed, wrong = failed_of(result["failed"])
        odd += wrong
    session, player, family = result.get("session", ""), result.get("player", ""), result.get("family", "")
    if len(session) > MAX_SESSION:
        session, odd = "", odd + 1
    if family not in ("", "4", "6"):
        family, odd = "", odd + 1
    return (pathways, tuple(throughputs), session, player, declared, result.get("ip"), int(family or 0), odd, failed)


def listed(value: str) -> list[str]:
    """Return the items of a list with commas, which may stand in quotes; none of an empty text."""
    value = value.strip(SPACE)
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return [item.strip(SPACE) for item in value.split(",")] if value else []


def is_id(text: str) -> bool:
    """Tell whether a text can be a pathway's id."""
    return 0 < len(text) <= MAX_ID and ID_CHARACTERS.issuperset(text)


def read_path(raw_path: bytes) -> tuple[str, str, str, str]:
    """Return protocol, service, title and the name of the playlist."""
    protocol, *segments = (unquote_percent(part.decode("ascii"), errors="replace") for part in raw_path.split(b"/")[2:])
    name = ""
    if len(segments) == 3 and segments[2] == MANIFESTS[protocol]:
        name = segments.pop()
    service, title = segments if len(segments) == 2 else (segments[0] if segments else "", "")
    return protocol, service, title, name


# ---- the client

MAX_HEADER: Final = 4096
MAX_HOPS: Final = 32
UNKNOWN: Final = bytes(4)  # 0.0.0.0, which no route covers: a caller on a Unix socket that names no client

MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291
NAT64: Final = b"\x00\x64\xff\x9b" + bytes(8)  # 64:ff9b::/96, RFC 6052
SIX_TO_FOUR: Final = b"\x20\x02"  # 2002::/16, RFC 3056

PORT: Final = r"(?:\d{1,5}|_[0-9A-Za-z._-]+)"  # or an obfuscated one (RFC 7239, section 6.3)
# One parameter of a Forwarded element: a token, "=", and a token or a quoted string (RFC 7239, section 4).
PARAMETER: Final = re.compile(r"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s",;]*)\s*""")


class Networks:
    """The trusted networks."""

    def __init__(self, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> None:
        self.networks = [
            (network.max_prefixlen // 8, int(network.network_address), int(network.netmask)) for network in networks
        ]

    def __contains__(self, packed: bytes) -> bool:
        number, size = int.from_bytes(packed, "big"), len(packed)
        return any(size == width and number & mask == network for width, network, mask in self.networks)


def find_client(
    peer: str | None, headers: Sequence[tuple[bytes, bytes]], trust: Networks, header: str, ip: str | None = None
) -> tuple[bytes, bool]:
    """Return the client of a request, and whether every hop is trusted.

    `peer` is the socket's address, None on a Unix socket, which is trusted by its file permissions. `headers` are the
    request's, names in lower case; `header` is the one that is read. `ip` is the parameter of that name: it
    replaces the address where every hop is trusted. Raises Refused, 403 for an `ip` from anybody else.
    """
    packed = pack(peer) if peer is not None else UNKNOWN
    if packed is None:
        client = UNKNOWN, False
    elif peer is not None and packed not in trust:
        client = unwrap(packed), False
    else:
        name = header.encode()
        client = walk(packed, [value for key, value in headers if key == name], trust, header)
    return client if ip is None else asked_for(client, ip)


def asked_for(client: tuple[bytes, bool], ip: str) -> tuple[bytes, bool]:
    """Return the client that a caller asks for by the parameter `ip`. Raises Refused."""
    if not client[1]:
        raise refused("ip", ip, "only callers whose every hop is trusted may ask for others", 403)
    asked = pack(ip)
    if asked is None:
        raise refused("ip", ip, "an IPv4 or IPv6 address without a zone id")
    return unwrap(asked), True


def walk(packed: bytes, values: Sequence[bytes], trust: Networks, header: str) -> tuple[bytes, bool]:
    """Return the client at the end of the walk from a trusted peer through the header's lines."""
    joined = b",".join(values)
    if len(joined) > MAX_HEADER:
        return unwrap(packed), False
    text = joined.decode("latin-1")
    hops = list(split_forwarded(text) if header == "forwarded" else split_plain(text))
    for count, hop in enumerate(reversed(hops)):
        result = pack_hop(hop)
        if result is None or count == MAX_HOPS:
            return unwrap(packed), False
        packed = result
        if packed not in trust:
            return unwrap(packed), False
    return unwrap(packed), True


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
            while at < len(text) and text[at].isspace():
                at += 1
            if at < len(text) and text[at] not in ",;":  # else an empty pair
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
        return pack(address) if bracket and ":" in address and re.fullmatch(f"(:{PORT})?", port, re.ASCII) else None
    address, colon, port = hop.partition(":")
    if colon and "." in address:
        return pack(address) if re.fullmatch(PORT, port, re.ASCII) else None
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
