"""The public shape of `client.pyx`."""

import ipaddress
from collections.abc import Sequence

MAPPED: bytes
UNKNOWN: bytes

class Trust:
    """The networks whose reports of other addresses are trusted; at most 256."""

    def __init__(self, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> None: ...
    def __contains__(self, packed: bytes) -> bool: ...

def pack(text: str) -> bytes | None:
    """Return a text address packed, an IPv4-mapped one as IPv4; None for anything else, zone ids too."""

def unwrap(packed: bytes) -> bytes:
    """Return the IPv4 address inside a NAT64 or 6to4 address, else the address itself."""

def split_forwarded(value: bytes) -> list[bytes]:
    """Return the `for` of each element of Forwarded, without quotes; empty where it has none or is malformed."""
