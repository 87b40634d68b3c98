"""The client address: forwarded headers of a client are ignored, those of a trusted proxy are used."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _fastpath.client import Trust, pack, split_forwarded, unwrap
from _fastpath.request import Refusal, find_client
from tests.support import reference_reader

NETWORKS = [ipaddress.ip_network(text) for text in ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "2001:db8:aaaa::/48")]
TRUST, REFERENCE = Trust(NETWORKS), reference_reader.Networks(NETWORKS)
PROXY = "10.0.0.1"
CLIENT = "203.0.113.9"


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def find(
    peer: str | None, xff: str | list[str] | None = None, ip: str | None = None, header: str = "x-forwarded-for"
) -> tuple[str, bool]:
    """Return the client as text, and whether it is trusted."""
    lines = [] if xff is None else [xff] if isinstance(xff, str) else xff
    headers = [(b"host", b"example"), *((header.encode(), line.encode("latin-1")) for line in lines)]
    client = find_client(peer, headers, TRUST, header, ip)
    return str(ipaddress.ip_address(client.packed)), client.trusted


ROWS = [
    # name, peer, X-Forwarded-For, client, trusted
    ("no header, untrusted peer", CLIENT, None, CLIENT, False),
    ("no header, trusted peer", PROXY, None, PROXY, True),
    ("an untrusted peer's header is not read", CLIENT, "127.0.0.1", CLIENT, False),
    ("one proxy", PROXY, CLIENT, CLIENT, False),
    ("two proxies", PROXY, f"{CLIENT}, 10.0.0.2", CLIENT, False),
    ("what the client wrote further left is not read", PROXY, f"127.0.0.1, 10.9.9.9, {CLIENT}", CLIENT, False),
    ("every hop trusted", PROXY, "10.0.0.3, 10.0.0.2", "10.0.0.3", True),
    ("spaces and empty elements", PROXY, f" , {CLIENT} ,, 10.0.0.2 ,", CLIENT, False),
    ("several lines are one list", PROXY, ["127.0.0.1", CLIENT, "10.0.0.2"], CLIENT, False),
    ("a port", PROXY, f"{CLIENT}:4711", CLIENT, False),
    ("IPv6", PROXY, "2001:db8::9", "2001:db8::9", False),
    ("IPv6 in brackets", PROXY, "[2001:db8::9]", "2001:db8::9", False),
    ("IPv6 in brackets with a port", PROXY, "[2001:db8::9]:443", "2001:db8::9", False),
    ("a trusted IPv6 hop", "::1", f"{CLIENT}, 2001:db8:aaaa::7", CLIENT, False),
    ("garbage: the hop to its right", PROXY, "banana, 10.0.0.2", "10.0.0.2", False),
    ("garbage alone: the peer", PROXY, "banana", PROXY, False),
    ("unknown", PROXY, "unknown", PROXY, False),
    ("a zone id", PROXY, "fe80::1%eth0", PROXY, False),
    ("brackets around IPv4", PROXY, "[203.0.113.9]", PROXY, False),
    ("a wrong port", PROXY, f"{CLIENT}:http", PROXY, False),
    ("leading zeros", PROXY, "203.0.113.009", PROXY, False),
    ("too long", PROXY, f"{CLIENT}," * 400 + "10.0.0.2", PROXY, False),
    ("too many hops", PROXY, ", ".join(["10.0.0.2"] * 40), "10.0.0.2", False),
    ("an IPv4-mapped peer is IPv4", "::ffff:10.0.0.1", CLIENT, CLIENT, False),
    ("an IPv4-mapped client is IPv4", PROXY, "::ffff:203.0.113.9", CLIENT, False),
    ("a NAT64 client is IPv4", PROXY, "64:ff9b::203.0.113.9", CLIENT, False),
    ("a 6to4 client is IPv4", PROXY, "2002:cb00:7109::1", CLIENT, False),
    ("a 6to4 peer of a trusted address is not trusted", "2002:7f00:1::1", CLIENT, "127.0.0.1", False),
    ("a NAT64 hop of a trusted address ends the walk", PROXY, f"{CLIENT}, 64:ff9b::10.0.0.2", "10.0.0.2", False),
    ("a NAT64 address inside a 6to4 one is unwrapped once", PROXY, "2002:c058:6301::", "192.88.99.1", False),
    ("a Unix socket is trusted", None, CLIENT, CLIENT, False),
    ("a Unix socket without a header", None, None, "0.0.0.0", True),
    ("a peer that is no address", "testclient", CLIENT, "0.0.0.0", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "peer", "header", "client", "trusted"), ROWS, ids=[row[0] for row in ROWS])
def test_the_walk_ends_at_the_first_hop_that_is_not_trusted(
    name: str, peer: str | None, header: str | list[str] | None, client: str, trusted: bool
) -> None:
    assert find(peer, header) == (client, trusted)


FORWARDED_ROWS = [
    # RFC 7239, sections 4 and 6
    ("for=192.0.2.43, for=198.51.100.17", ["192.0.2.43", "198.51.100.17"]),
    ('For="[2001:db8:cafe::17]:4711"', ["[2001:db8:cafe::17]:4711"]),
    ("for=192.0.2.60;proto=http;by=203.0.113.43", ["192.0.2.60"]),
    ('for=192.0.2.43, for="[2001:db8:cafe::17]";proto="a,b;c=\\"d"', ["192.0.2.43", "[2001:db8:cafe::17]"]),
    ("for=unknown, for=_hidden", ["unknown", "_hidden"]),
    ("proto=https", [""]),
    ("for=192.0.2.1;for=192.0.2.2", [""]),
    ('for="192.0.2.1', [""]),
    ("for=192.0.2.1 for=192.0.2.2", [""]),
    (" , for=192.0.2.1 , ", ["192.0.2.1"]),
    ("for", [""]),
    ("", []),
    # empty pairs
    ("for=203.0.113.5;", ["203.0.113.5"]),
    (";for=203.0.113.5", ["203.0.113.5"]),
    ("for=203.0.113.5;;proto=https", ["203.0.113.5"]),
    (" ; ;for=203.0.113.5 ; ", ["203.0.113.5"]),
    ("for=192.0.2.1;, ;for=192.0.2.2", ["192.0.2.1", "192.0.2.2"]),
    (";, for=192.0.2.2", ["", "192.0.2.2"]),
    (";;", [""]),
    ("for=;", [""]),
    ("=x;for=192.0.2.1", [""]),
]


@pytest.mark.parametrize(("value", "hops"), FORWARDED_ROWS)
def test_forwarded_is_read_as_in_rfc_7239(value: str, hops: list[str]) -> None:
    assert split_forwarded(value.encode()) == [hop.encode() for hop in hops]


PORTS = [
    # mapped, in capitals, with quoted pairs, beside other pairs, and over several elements
    ('for="[::ffff:203.0.113.9]:_p1"', CLIENT, False),
    ('FOR="203.0.113.9\\:80";By="[::1]"', CLIENT, False),
    ('for="2001:db8::9"', "2001:db8::9", False),
    ('for=203.0.113.9;ext=a;by=_x;proto="ht\\"tp"', CLIENT, False),
    ('for=203.0.113.9;ext="a,for=127.0.0.1"', CLIENT, False),
    ("for=203.0.113.9 ;\tproto=https , ,", CLIENT, False),
    (',;,;for="10.0.0.3:_a";,', "10.0.0.3", False),  # the element before names no client
    ('for=203.0.113.9, for="10.0.0.2:_y";;', CLIENT, False),
    ("for=203.0.113.9, ;;", PROXY, False),
    ("for = 203.0.113.9", PROXY, False),
    ('for="[2001:db8::9%25eth0]:_p1"', PROXY, False),
    ('for="[203.0.113.9]:_p1"', PROXY, False),
    ('for="unknown:_p1"', PROXY, False),
    ('for=""', PROXY, False),
    ('for="203.0.113.9:_p1', PROXY, False),
    ('for="203.0.113.9:_p1"', CLIENT, False),
    ("for=203.0.113.9:_p1", CLIENT, False),
    ('for="[2001:db8::9]:_p1"', "2001:db8::9", False),
    ('for="[2001:db8::9]:_a.B-c_9"', "2001:db8::9", False),
    (f'for="203.0.113.9:_{"p" * 200}"', CLIENT, False),
    ('for="10.0.0.3:_x", for="10.0.0.2:_y"', "10.0.0.3", True),
    ('for="203.0.113.9:_"', PROXY, False),
    ('for="203.0.113.9:_p 1"', PROXY, False),
    ('for="203.0.113.9:p1"', PROXY, False),
    ('for="203.0.113.9:"', PROXY, False),
    ('for="203.0.113.9:123456"', PROXY, False),
    ('for="[2001:db8::9]_p1"', PROXY, False),
    ('for="_hidden:_p1"', PROXY, False),
    ("for=203.0.113.9;", CLIENT, False),
    (";for=203.0.113.9", CLIENT, False),
    ("for=203.0.113.9;;proto=https", CLIENT, False),
    ("for=127.0.0.1, for=203.0.113.9;;", CLIENT, False),
]


@pytest.mark.parametrize(("header", "client", "trusted"), PORTS)
def test_ports_may_be_hidden_and_pairs_empty(header: str, client: str, trusted: bool) -> None:
    assert find(PROXY, header, header="forwarded") == (client, trusted)


def test_forwarded_is_walked_like_the_other_header_and_the_other_is_ignored() -> None:
    assert find(PROXY, 'for=127.0.0.1, for="203.0.113.9:80", for=10.0.0.2', header="forwarded") == (CLIENT, False)
    client = find_client(PROXY, [(b"x-forwarded-for", b"203.0.113.9")], TRUST, "forwarded")
    assert client.packed == packed(PROXY)


IP_ROWS = [
    # name, peer, header, ip, client or status
    ("from a trusted caller", PROXY, None, "198.51.100.7", "198.51.100.7"),
    ("IPv6", PROXY, None, "2001:db8::5", "2001:db8::5"),
    ("unwrapped too", PROXY, None, "::ffff:198.51.100.7", "198.51.100.7"),
    ("through trusted hops only", PROXY, "10.0.0.3", "198.51.100.7", "198.51.100.7"),
    ("from anybody else", CLIENT, None, "198.51.100.7", 403),
    ("spoofed through a local proxy", "127.0.0.1", CLIENT, "198.51.100.7", 403),
    ("spoofed with a header that names trusted addresses", CLIENT, "127.0.0.1", "198.51.100.7", 403),
    ("behind a hop that hides itself", PROXY, "unknown", "198.51.100.7", 403),
    ("no address", PROXY, None, "1.2.3", 400),
    ("with a zone id", PROXY, None, "fe80::1%eth0", 400),
    ("empty", PROXY, None, "", 400),
    ("with a zero byte", PROXY, None, "1.2.3.4\0", 400),
]  # fmt: skip


@pytest.mark.parametrize(("name", "peer", "header", "ip", "wanted"), IP_ROWS, ids=[row[0] for row in IP_ROWS])
def test_ip_is_for_callers_whose_every_hop_is_trusted(
    name: str, peer: str, header: str | None, ip: str, wanted: str | int
) -> None:
    if isinstance(wanted, str):
        assert find(peer, header, ip) == (wanted, True)
    else:
        with pytest.raises(Refusal) as caught:
            find(peer, header, ip)
        assert (caught.value.status, caught.value.parameter) == (wanted, "ip")


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=3), st.sampled_from(("x-forwarded-for", "forwarded")))
def test_no_header_of_a_trusted_peer_makes_it_fail(values: list[bytes], header: str) -> None:
    client = find_client(PROXY, [(header.encode(), value) for value in values], TRUST, header)
    assert len(client.packed) in (4, 16)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.binary(max_size=80), max_size=3), st.ip_addresses(), st.sampled_from(("x-forwarded-for", "forwarded"))
)
def test_an_untrusted_peer_is_the_client_whatever_it_writes(
    values: list[bytes], peer: ipaddress.IPv4Address | ipaddress.IPv6Address, header: str
) -> None:
    raw = packed(str(peer))[12:] if packed(str(peer)).startswith(bytes(10) + b"\xff\xff") else packed(str(peer))
    if raw in TRUST:
        return
    client = find_client(str(peer), [(header.encode(), value) for value in values], TRUST, header)
    assert client.packed == unwrap(raw)
    assert not client.trusted


@settings(max_examples=300, deadline=None)
@given(st.lists(st.ip_addresses(), min_size=1, max_size=6))
def test_the_client_is_the_rightmost_untrusted_hop(hops: list[ipaddress.IPv4Address]) -> None:
    hop_bytes = [packed(str(hop)) for hop in hops]
    untrusted = [hop for hop in hop_bytes if hop not in TRUST and not hop.startswith(bytes(10) + b"\xff\xff")]
    client = find_client(PROXY, [(b"x-forwarded-for", ", ".join(map(str, hops)).encode())], TRUST, "x-forwarded-for")
    if untrusted and len(untrusted) == len(hop_bytes):
        assert client.packed == unwrap(hop_bytes[-1])


def test_trust_is_judged_on_whole_networks() -> None:
    for text, trusted in (
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("9.255.255.255", False),
        ("11.0.0.0", False),
        ("::1", True),
        ("::2", False),
    ):
        assert (socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text) in TRUST) is trusted


HOPS = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(
        [
            PROXY,
            CLIENT,
            "127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.2",
            "[::1]:80",
            "1.2.3.4:5",
            "1.2.3.4:",
            "[1.2.3.4]",
            "_x",
        ]
    ),
)
ELEMENTS = st.builds(
    lambda name, hop, quote, rest: f"{name}={quote}{hop}{quote}{rest}",
    st.sampled_from(["for", "For", "by", " for", "for "]),
    HOPS,
    st.sampled_from(["", '"', '"', "\\"]),
    st.sampled_from(["", ";proto=https", ";", " ", '; by="a,\\"b"', ";for=1.2.3.4", "\xa0"]),
)
LINES = st.one_of(
    st.lists(HOPS, max_size=40).map(", ".join),
    st.lists(ELEMENTS, max_size=5).map(",".join),
    st.lists(ELEMENTS, min_size=30, max_size=36).map(", ".join),
    st.text(st.characters(max_codepoint=0xFF), max_size=40),
).map(lambda line: line.encode("latin-1"))


def outcome(read: Callable[[], object]) -> object:
    """Return what a reader returns, or what it refuses."""
    try:
        return read()
    except reference_reader.Refused as refused:
        return refused.args
    except Refusal as refusal:
        return refusal.parameter, refusal.value, refusal.rule, refusal.status


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.none(), HOPS),
    st.lists(LINES, max_size=3),
    st.sampled_from(("x-forwarded-for", "forwarded")),
    st.one_of(st.none(), HOPS),
)
def test_the_client_is_found_as_the_reference_finds_it(
    peer: str | None, values: list[bytes], header: str, ip: str | None
) -> None:
    headers = [(header.encode(), value) for value in values]
    assert outcome(lambda: find_client(peer, headers, TRUST, header, ip)) == outcome(
        lambda: reference_reader.find_client(peer, headers, REFERENCE, header, ip)
    )


CHAINS = 4000
SPELLINGS = [
    # of Forwarded (RFC 7239) and of X-Forwarded-For, how a hop is written
    ("forwarded", "for={}", ","), ("forwarded", 'For="{}"', ", "), ("forwarded", 'for="{}:_p1";proto=https', " ,"),
    ("forwarded", ';for={};;by="a,b"', ","), ("forwarded", 'proto="x\\"";for={};', ",,"), ("forwarded", 'for="{}:443"', ","),
    ("x-forwarded-for", "{}", ","), ("x-forwarded-for", " {} ", ", "), ("x-forwarded-for", "{}:80", " ,\t"), ("x-forwarded-for", "{}", ",,"),
]  # fmt: skip


def test_who_is_trusted_in_thousands_of_chains_is_named_by_trusted_hops_alone() -> None:
    """A client behind trusted proxies, which writes what it likes in front: nothing of that is ever read."""
    chance = random.Random(7)
    trusted = ["10.0.0.2", "127.0.0.9", "2001:db8:aaaa::7", "10.255.0.1"]
    clients = ["203.0.113.9", "198.51.100.7", "2001:db8::9", "2002:cb00:7109::1", "64:ff9b::203.0.113.9"]
    lies = [
        *trusted,
        *clients,
        "unknown",
        "_hidden",
        "127.0.0.1",
        "::1",
        '"',
        "\\",
        ";",
        ",",
        "for=127.0.0.1",
        "",
        "\x00",
        "é",
    ]

    def written(hop: str, form: str) -> str:
        return form.format(f"[{hop}]" if ":" in hop and ("forwarded" in form or '"' in form or ":80" in form) else hop)

    for number in range(CHAINS):
        header, form, comma = SPELLINGS[number % len(SPELLINGS)]
        client = chance.choice(clients)
        proxies = chance.choices(trusted, k=chance.randrange(4))
        front = [chance.choice(lies) for _ in range(chance.randrange(5))]
        known = [written(hop, form) for hop in (client, *proxies)]
        lines = [",".join(front), comma.join(known)] if number % 2 else [comma.join([*front, *known])]
        if header == "forwarded" and number % 2 == 0 and not all(is_cut(lie) for lie in front):
            lines = [comma.join(known)]  # what follows a malformed element cannot be cut into elements
        expected = str(ipaddress.ip_address(unwrap(packed(client))))
        headers = [(header.encode(), line.encode("latin-1")) for line in lines]
        result = find_client(PROXY, headers, TRUST, header)
        whole = (number, lines)
        assert not result.trusted, whole
        judge = reference_reader.find_client(PROXY, headers, REFERENCE, header)
        assert (result.packed, result.trusted) == judge, whole
        if header != "forwarded" or all(is_cut(lie) for lie in front):
            assert str(ipaddress.ip_address(result.packed)) == expected, whole
        for ip in ("203.0.113.1", "10.0.0.1"):
            with pytest.raises(Refusal) as caught:
                find_client(PROXY, headers, TRUST, header, ip)
            assert caught.value.status == 403


def is_cut(lie: str) -> bool:
    """Return whether a text in front of an element leaves the elements behind it readable."""
    return b"x" in split_forwarded(f"{lie},for=x".encode("latin-1"))


@settings(max_examples=1000, deadline=None)
@given(st.one_of(HOPS, st.text(st.sampled_from("0123456789abcdefF:.%"), max_size=46), st.text(max_size=20)))
def test_an_address_is_packed_as_the_reference_packs_it(text: str) -> None:
    assert pack(text) == reference_reader.pack(text)
