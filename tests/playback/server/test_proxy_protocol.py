"""The PROXY protocol: what a proxy says of its client, byte for byte, and nothing that comes near it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.playback.server.proxy_protocol import (
    LOCAL,
    MAX_HEADER,
    MAX_LINE,
    SIGNATURE,
    START,
    Header,
    crc32c,
    read_header,
)

REQUEST = b"GET /v1/steer?title=t HTTP/1.1\r\nHost: example\r\n\r\n"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def line(source: Address, destination: Address, ports: tuple[int, int]) -> bytes:
    """Return a header of version 1."""
    return f"PROXY TCP{source.version} {source} {destination} {ports[0]} {ports[1]}\r\n".encode()


def block(first: int, second: int, payload: bytes = b"", size: int | None = None) -> bytes:
    """Return a header of version 2; `first` is version and command, `second` family and protocol."""
    return SIGNATURE + bytes([first, second]) + (len(payload) if size is None else size).to_bytes(2, "big") + payload


def binary(source: Address, destination: Address, ports: tuple[int, int], extras: bytes = b"") -> bytes:
    """Return a header of version 2 for a relayed TCP connection."""
    numbers = b"".join(port.to_bytes(2, "big") for port in ports)
    second = 0x11 if source.version == 4 else 0x21
    return block(0x21, second, source.packed + destination.packed + numbers + extras)


def extra(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def checked(header: bytes) -> bytes:
    """Return a header of version 2 whose last four bytes, zeros so far, are its CRC32c."""
    return header[:-4] + crc32c(header).to_bytes(4, "big")


V4 = (ipaddress.ip_address("203.0.113.7"), ipaddress.ip_address("192.0.2.1"), (56324, 443))
V6 = (ipaddress.ip_address("2001:db8::7"), ipaddress.ip_address("2001:db8::1"), (56324, 443))
MAPPED = (ipaddress.ip_address("::ffff:203.0.113.7"), ipaddress.ip_address("::ffff:192.0.2.1"), (1, 2))
ANY_EXTRAS = extra(4, b"") + extra(2, b"www.example") + extra(0xEA, bytes(24)) + extra(5, b"id")
SUMMED = checked(binary(*V4, extra(2, b"www.example") + extra(3, bytes(4))))

TAKEN = [
    # name, header, source, relayed
    ("v1, IPv4", line(*V4), "203.0.113.7", True),
    ("v1, IPv6", line(*V6), "2001:db8::7", True),
    ("v1, IPv6 in capitals", b"PROXY TCP6 2001:DB8::7 2001:DB8::1 1 2\r\n", "2001:db8::7", True),
    ("v1, IPv6 written out", b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", True),
    ("v1, ports 0 and 65535", b"PROXY TCP4 203.0.113.7 192.0.2.1 0 65535\r\n", "203.0.113.7", True),
    ("v1, IPv4-mapped is IPv4", b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:192.0.2.1 1 2\r\n", "203.0.113.7", True),
    ("v1, unknown", b"PROXY UNKNOWN\r\n", None, True),
    ("v1, unknown with what is to be ignored", b"PROXY UNKNOWN banana 1 2 3 4 5\r\n", None, True),
    ("v1, the longest line", b"PROXY UNKNOWN " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n", None, True),
    ("v2, IPv4", binary(*V4), "203.0.113.7", True),
    ("v2, IPv6", binary(*V6), "2001:db8::7", True),
    ("v2, IPv4-mapped is IPv4", binary(*MAPPED), "203.0.113.7", True),
    ("v2, UDP, as a proxy of HTTP/3 says", block(0x21, 0x12, binary(*V4)[16:]), "203.0.113.7", True),
    ("v2, a Unix socket", block(0x21, 0x31, bytes(216)), None, True),
    ("v2, unspecified", block(0x21, 0x00), None, True),
    ("v2, unspecified, with a payload", block(0x21, 0x00, b"any"), None, True),
    ("v2, a family without a protocol", block(0x21, 0x10), None, True),
    ("v2, a protocol without a family", block(0x21, 0x01), None, True),
    ("v2, local", LOCAL, None, False),
    ("v2, local, with addresses that are to be skipped", block(0x20, 0x11, binary(*V4)[16:]), None, False),
    ("v2, local, of a family that is to be ignored", block(0x20, 0xFF, b"any"), None, False),
    ("v2, with extras", binary(*V4, ANY_EXTRAS), "203.0.113.7", True),
    ("v2, a Unix socket with extras", block(0x21, 0x32, bytes(216) + ANY_EXTRAS), None, True),
    ("v2, with a checksum", SUMMED, "203.0.113.7", True),
    ("v2, the longest that is taken", binary(*V4, extra(4, bytes(MAX_HEADER - 16 - 12 - 3))), "203.0.113.7", True),
]  # fmt: skip

REFUSED = [
    # name, bytes, part of the message
    ("a request", REQUEST, "begins with something else"),
    ("one wrong byte", b"Q", "begins with something else"),
    ("in small letters", b"proxy TCP4 203.0.113.7 192.0.2.1 1 2\r\n", "begins with something else"),
    ("TLS", b"\x16\x03\x01", "begins with something else"),
    ("v1, two spaces", b"PROXY  TCP4 203.0.113.7 192.0.2.1 1 2\r\n", "none of TCP4, TCP6 and UNKNOWN"),
    ("v1, two spaces further on", b"PROXY TCP4 203.0.113.7  192.0.2.1 1 2\r\n", "5 fields"),
    ("v1, a space at the end", b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 \r\n", "5 fields"),
    ("v1, no ports", b"PROXY TCP4 203.0.113.7 192.0.2.1\r\n", "2 fields"),
    ("v1, nothing", b"PROXY \r\n", "none of TCP4, TCP6 and UNKNOWN"),
    ("v1, UDP", b"PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n", "none of TCP4, TCP6 and UNKNOWN"),
    ("v1, unknown run together", b"PROXY UNKNOWNS\r\n", "none of TCP4, TCP6 and UNKNOWN"),
    ("v1, ended by LF alone", b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\nGET / HTTP/1.1\r\n", "6 fields"),
    ("v1, unknown, ended by LF alone", b"PROXY UNKNOWN x\nGET / HTTP/1.1\r\n", "US-ASCII"),
    ("v1, unknown, beyond US-ASCII", "PROXY UNKNOWN é\r\n".encode(), "US-ASCII"),
    ("v1, no end", b"PROXY UNKNOWN " + b"x" * MAX_LINE, "no CRLF within 107 bytes"),
    ("v1, an end one byte too late", b"PROXY UNKNOWN " + b"x" * (MAX_LINE - 15) + b"\r\n", "no CRLF within 107"),
    ("v1, leading zeros", b"PROXY TCP4 203.0.113.007 192.0.2.1 1 2\r\n", "source address is none of TCP4"),
    ("v1, three numbers", b"PROXY TCP4 203.0.113 192.0.2.1 1 2\r\n", "source address is none of TCP4"),
    ("v1, the other family", b"PROXY TCP4 2001:db8::7 192.0.2.1 1 2\r\n", "source address is none of TCP4"),
    ("v1, the other family too", b"PROXY TCP6 2001:db8::7 192.0.2.1 1 2\r\n", "destination address is none of TCP6"),
    ("v1, brackets", b"PROXY TCP6 [2001:db8::7] ::1 1 2\r\n", "source address is none of TCP6"),
    ("v1, a zone id", b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "source address is none of TCP6"),
    ("v1, a zero byte", b"PROXY TCP4 203.0.113.7\x00 192.0.2.1 1 2\r\n", "source address is none of TCP4"),
    ("v1, a port of zeros", b"PROXY TCP4 203.0.113.7 192.0.2.1 00 2\r\n", "source port"),
    ("v1, a port too large", b"PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n", "destination port"),
    ("v1, a signed port", b"PROXY TCP4 203.0.113.7 192.0.2.1 +1 2\r\n", "source port"),
    ("v1, a port in other digits", "PROXY TCP4 203.0.113.7 192.0.2.1 ١ 2\r\n".encode(), "source port"),
    ("v2, version 1", block(0x11, 0x11), "version 1"),
    ("v2, version 3", SIGNATURE + b"\x31", "version 3"),
    ("v2, command 2", SIGNATURE + b"\x22", "command 2"),
    ("v2, family 4", SIGNATURE + b"\x21\x41", "family 4 with protocol 1"),
    ("v2, protocol 3", SIGNATURE + b"\x21\x13", "family 1 with protocol 3"),
    ("v2, too long", block(0x21, 0x11, size=MAX_HEADER - 15), "4097 bytes; at most 4096"),
    ("v2, local, too long", block(0x20, 0x00, size=0xFFFF), "at most 4096"),
    ("v2, too few for IPv4", block(0x21, 0x11, size=11), "11 bytes are too few"),
    ("v2, too few for IPv6", block(0x21, 0x21, size=35), "35 bytes are too few"),
    ("v2, too few for Unix", block(0x21, 0x31, size=215), "215 bytes are too few"),
    ("v2, an extra cut in its length", binary(*V4, b"\x04\x00"), "leads beyond the header"),
    ("v2, an extra cut in its value", binary(*V4, b"\x04\x00\x02x"), "leads beyond the header"),
    ("v2, a wrong checksum", SUMMED[:-1] + bytes([SUMMED[-1] ^ 1]), "CRC32c does not match"),
    ("v2, a checksum of a changed address", SUMMED.replace(packed("203.0.113.7"), packed("203.0.113.8")), "CRC32c does not match"),
    ("v2, a checksum of 3 bytes", binary(*V4, extra(3, bytes(3))), "once, in 4 bytes"),
    ("v2, two checksums", binary(*V4, extra(3, bytes(4)) * 2), "once, in 4 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "header", "source", "relayed"), TAKEN, ids=[row[0] for row in TAKEN])
def test_a_header_is_taken_when_its_last_byte_is_there_and_the_request_behind_it_is_left(
    name: str, header: bytes, source: str | None, relayed: bool
) -> None:
    result = Header(packed(source) if source else None, relayed, len(header))
    assert read_header(header) == result
    assert read_header(header + REQUEST) == result
    assert read_header(header + header) == result
    assert {read_header(header[:cut]) for cut in range(len(header))} == {None}


@pytest.mark.parametrize(("name", "data", "rule"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_no_header_is_refused_with_its_rule(name: str, data: bytes, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        read_header(data)
    assert "203.0.113" not in str(caught.value)  # it may be logged


def test_the_longest_headers_are_as_long_as_the_limits() -> None:
    lengths = {name: len(header) for name, header, _, _ in TAKEN}
    assert lengths["v1, the longest line"] == MAX_LINE
    assert lengths["v2, the longest that is taken"] == MAX_HEADER


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4
    assert crc32c(bytes(range(32))) == 0x46DD794E


ports = st.integers(0, 0xFFFF)
pairs = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4), st.tuples(ports, ports)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6), st.tuples(ports, ports)),
)
extras = st.lists(
    st.builds(extra, st.integers(0, 255).filter(lambda kind: kind != 3), st.binary(max_size=300)), max_size=4
).map(b"".join)
headers = st.one_of(
    st.builds(lambda pair: line(*pair), pairs),
    st.builds(lambda pair, more: binary(*pair, more), pairs, extras),
    st.builds(lambda pair, more: checked(binary(*pair, more + extra(3, bytes(4)))), pairs, extras),
    st.sampled_from([row[1] for row in TAKEN]),
)
# Bytes that come near a header: a true one with a few bytes changed, cut or added, or what follows a true beginning.
near = st.builds(
    lambda header, at, new, cut: header[: at % len(header)] + new + header[at % len(header) + cut :],
    headers, st.integers(0, 5000), st.binary(max_size=4), st.integers(0, 4),
)  # fmt: skip
beginnings = st.builds(lambda start, rest: start + rest, st.sampled_from([START, SIGNATURE, SIGNATURE + b"\x21", b"PROXY TCP4 "]), st.binary(max_size=300))  # fmt: skip
garbage = st.one_of(st.binary(max_size=200), near, beginnings)


def outcome(data: bytes) -> Header | type[ValueError] | None:
    try:
        return read_header(data)
    except ValueError:
        return ValueError


@given(pairs, extras)
def test_both_versions_give_what_was_written(pair: tuple[Address, Address, tuple[int, int]], more: bytes) -> None:
    source = getattr(pair[0], "ipv4_mapped", None) or pair[0]
    for header in (line(*pair), binary(*pair, more)):
        assert read_header(header) == Header(source.packed, relayed=True, size=len(header))


@given(headers, st.binary(max_size=60), st.data())
def test_any_split_of_the_bytes_gives_the_same_header(header: bytes, behind: bytes, data: st.DataObject) -> None:
    stream = header + behind
    arrived, result = 0, None
    while result is None:
        arrived = data.draw(st.integers(arrived + 1, len(stream)))
        result = read_header(stream[:arrived])
        assert (result is None) == (arrived < len(header))
    assert result == read_header(header)


@given(garbage)
def test_whatever_comes_is_a_header_or_a_value_error_and_more_bytes_never_change_that(data: bytes) -> None:
    result = [outcome(data[:cut]) for cut in range(len(data) + 1)]
    decided = next((cut for cut, one in enumerate(result) if one is not None), len(result))
    assert all(one == result[decided] for one in result[decided:])
    if decided < len(result) and isinstance(result[decided], Header):
        assert result[decided].size == decided


@given(st.binary(max_size=300))
def test_no_header_needs_more_bytes_than_the_limit(data: bytes) -> None:
    for start in (START, SIGNATURE, SIGNATURE + b"\x21\x11", SIGNATURE + b"\x20\x00\x0f\xf0"):
        assert outcome((start + data).ljust(MAX_HEADER, b"x")) is not None
