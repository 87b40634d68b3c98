"""Addresses and prefixes as people write them.

A client with an IPv4-mapped, NAT64 or 6to4 address is answered by the IPv4 address inside it. So every address and
prefix that enters is unwrapped once; feeds do it in `_fastpath/prefix_rows.pyx: unwrap`.
"""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Final

from _fastpath.client import pack, unwrap
from steering.errors import RequestError

# RFC 4291, RFC 6052, RFC 3056; the IPv4 address begins behind the prefix.
UNWRAPPED: Final = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96", "2002::/16")))
SIX_TO_FOUR_RULE: Final = "a 6to4 prefix has a length up to 48, where the IPv4 address inside it ends"
WHOLE_RULE: Final = "a prefix is no whole range of translated addresses; for IPv4 clients write 0.0.0.0/0"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_prefix(text: str) -> Network:
    """Return a prefix in CIDR form, unwrapped. Raises RequestError with the rule that the text breaks."""
    try:
        if "%" not in text:
            return unwrap_prefix(ipaddress.ip_network(text))
        rule = "a prefix has no zone id"
    except ValueError as error:
        rule = str(error)
        with contextlib.suppress(ValueError):
            if ipaddress.ip_interface(text).network.with_prefixlen != text and "host bits" in rule:
                rule = f"has host bits set; write {ipaddress.ip_network(text, strict=False)}"
    raise RequestError.of_parameter("prefix", text, rule)


def unwrap_prefix(network: Network) -> Network:
    """Return the IPv4 network inside an IPv4-mapped, NAT64 or 6to4 network, else the network. ValueError: its rule."""
    for around in UNWRAPPED:
        if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(around):
            length = network.prefixlen - around.prefixlen
            if length > 32:
                raise ValueError(SIX_TO_FOUR_RULE)
            if not length and around != UNWRAPPED[0]:
                raise ValueError(WHOLE_RULE)
            number = int(network.network_address) >> (96 - around.prefixlen) & 0xFFFFFFFF
            return ipaddress.IPv4Network((number, length))
    return network


def unmapped(network: Network) -> Network:
    """Return the IPv4 network inside an IPv4-mapped one, else the network."""
    is_mapped = isinstance(network, ipaddress.IPv6Network) and network.subnet_of(UNWRAPPED[0])
    return unwrap_prefix(network) if is_mapped else network


def parse_address(text: str) -> bytes:
    """Return an address packed and unwrapped. Raises ValueError naming the text."""
    packed = pack(text)
    if packed is None:
        raise ValueError(f"{text[:64]!r} is no IPv4 or IPv6 address")
    return unwrap(packed)
