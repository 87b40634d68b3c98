"""The PROXY protocol, versions 1 and 2: the address of the client that a proxy relays, as a connection's first bytes.

As haproxy's proxy-protocol.txt specifies it. Only a trusted peer's header is read, and a trusted peer must send one:
guessing whether there is one would let clients write their own. A header that does not match exactly is an error, and
the connection is to be closed. Error messages name fields, not addresses: they may be logged.
"""

from __future__ import annotations

import dataclasses
import re
import socket
from typing import Final

from steering.playback.client import MAPPED

START: Final = b"PROXY "
MAX_LINE: Final = 107  # the longest line of version 1 with its CRLF, section 2.1

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
FIXED: Final = 16  # signature, version and command, family and protocol, length
# A sender's header is smaller than a segment (section 2.2). nginx takes as much: addresses and every TLV that proxies
# and load balancers of clouds are known to add stay under 1 kB.
MAX_HEADER: Final = 4096
ADDRESSES: Final = {1: 2 * 4 + 2 * 2, 2: 2 * 16 + 2 * 2, 3: 2 * 108}  # bytes of IPv4, IPv6 and Unix pairs
WIDTHS: Final = {1: 4, 2: 16}
MAX_PROTOCOL: Final = 2
CRC32C: Final = 3
CHECKSUM_SIZE: Final = 4

LOCAL: Final = SIGNATURE + b"\x20\x00\x00\x00"  # the header of a peer that relays no client


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """The first `size` bytes of a connection.

    `source` is the client's packed address, 4 or 16 bytes, an IPv4-mapped one as IPv4. Where it is None and `relayed`,
    the proxy does not know the client's address (UNKNOWN, a Unix socket), and the client is not trusted. Where no
    client is relayed (LOCAL, a health check), the proxy itself is the client, and the socket's address counts.
    """

    source: bytes | None
    relayed: bool
    size: int


def read_header(data: bytes) -> Header | None:
    """Return the header that a connection begins with, None if it is not whole yet.

    Never asks for more than MAX_HEADER bytes. Raises ValueError as soon as no further bytes can make it a header.
    """
    if data.startswith(START[: len(data)]):
        return read_line(data)
    if data.startswith(SIGNATURE[: len(data)]):
        return read_binary(data)
    raise ValueError("no PROXY protocol header: the connection begins with something else")


def read_line(data: bytes) -> Header | None:
    """Return the header of version 1: a line of text (section 2.1)."""
    end = data.find(b"\r\n", 0, MAX_LINE)
    if end < 0:
        if len(data) >= MAX_LINE:
            raise ValueError(f"PROXY v1: no CRLF within {MAX_LINE} bytes")
        return None
    family, *fields = data[len(START) : end].split(b" ")
    if family == b"UNKNOWN":
        if not re.fullmatch(rb"[ -~]*", data[:end]):
            raise ValueError("PROXY v1: not a line of US-ASCII text")
        return Header(None, relayed=True, size=end + 2)
    if family not in (b"TCP4", b"TCP6"):
        raise ValueError("PROXY v1: the protocol is none of TCP4, TCP6 and UNKNOWN")
    if len(fields) != 4:
        raise ValueError(f"PROXY v1: {len(fields)} fields after the protocol, not 4 with one space between")
    source = read_address(family, fields[0], "source")
    read_address(family, fields[1], "destination")
    for name, port in (("source", fields[2]), ("destination", fields[3])):
        if not re.fullmatch(rb"0|[1-9][0-9]{0,4}", port) or int(port) > 0xFFFF:
            raise ValueError(f"PROXY v1: the {name} port is no number from 0 to 65535 as it is written")
    return Header(unmapped(source), relayed=True, size=end + 2)


def read_address(family: bytes, text: bytes, name: str) -> bytes:
    """Return an address of version 1 packed."""
    allowed, number = (rb"[0-9.]+", socket.AF_INET) if family == b"TCP4" else (rb"[0-9A-Fa-f:.]+", socket.AF_INET6)
    try:
        if not re.fullmatch(allowed, text):
            raise OSError
        return socket.inet_pton(number, text.decode("ascii"))
    except OSError:
        raise ValueError(f"PROXY v1: the {name} address is none of {family.decode()}") from None


def read_binary(data: bytes) -> Header | None:
    """Return the header of version 2 (section 2.2). The addresses of a LOCAL or unspecified one are not read."""
    version, command = divmod(data[12], 16) if len(data) > 12 else (2, 0)
    if version != 2:
        raise ValueError(f"PROXY v2: version {version}")
    if command > 1:
        raise ValueError(f"PROXY v2: command {command} is neither LOCAL nor PROXY")
    family, protocol = divmod(data[13], 16) if len(data) > 13 else (0, 0)
    if command and (family not in (0, *ADDRESSES) or protocol > MAX_PROTOCOL):
        raise ValueError(f"PROXY v2: address family {family} with protocol {protocol} is not specified")
    if len(data) < FIXED:
        return None
    size = FIXED + int.from_bytes(data[14:FIXED], "big")
    if size > MAX_HEADER:
        raise ValueError(f"PROXY v2: a header of {size} bytes; at most {MAX_HEADER} are taken")
    specified = bool(command and family and protocol)
    first = FIXED + ADDRESSES[family] if specified else size
    if first > size:
        raise ValueError(f"PROXY v2: {size - FIXED} bytes are too few for addresses of family {family}")
    if len(data) < size:
        return None
    check_extras(data[:size], first)
    source = unmapped(data[FIXED : FIXED + WIDTHS[family]]) if specified and family in WIDTHS else None
    return Header(source, relayed=bool(command), size=size)


def check_extras(header: bytes, offset: int) -> None:
    """Walk the type-length-value vectors from an offset to the header's end, and verify a checksum (section 2.2.3)."""
    promised = None
    while offset < len(header):
        start = offset + 3
        offset = start + int.from_bytes(header[offset + 1 : start], "big")
        if start > len(header) or offset > len(header):
            raise ValueError("PROXY v2: a type-length-value vector leads beyond the header")
        if header[start - 3] == CRC32C:
            if offset - start != CHECKSUM_SIZE or promised is not None:
                raise ValueError("PROXY v2: CRC32c is given once, in 4 bytes")
            promised = int.from_bytes(header[start:offset], "big")
            blank = header[:start] + bytes(CHECKSUM_SIZE) + header[offset:]
    if promised is not None and crc32c(blank) != promised:
        raise ValueError("PROXY v2: the CRC32c does not match")


def unmapped(packed: bytes) -> bytes:
    """Return an IPv4-mapped address as IPv4: proxies on dual-stack sockets write their IPv4 clients mapped."""
    return packed[12:] if packed.startswith(MAPPED) else packed


def table_of(polynomial: int) -> tuple[int, ...]:
    """Return the CRC of each byte, for a polynomial written low bit first."""
    table = tuple(range(256))
    for _ in range(8):
        table = tuple(value >> 1 ^ polynomial * (value & 1) for value in table)
    return table


CASTAGNOLI: Final = table_of(0x82F63B78)


def crc32c(data: bytes) -> int:
    """Return the CRC-32 with Castagnoli's polynomial (RFC 4960, appendix B)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CASTAGNOLI[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
