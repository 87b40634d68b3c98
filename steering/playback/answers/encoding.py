"""The content encoding of large answers: gzip, where Accept-Encoding asks for it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Final

GZIP_FROM: Final = 1024  # bytes; below, the header lines cost more than gzip saves
GZIP_LEVEL: Final = 1
ZERO_WEIGHT: Final = re.compile(rb"0(\.0{0,3})?")


def encode(body: bytes, accepts: Sequence[bytes]) -> tuple[bytes, bool]:
    """Return the body to send, and whether it is gzip; `accepts` are the lines of Accept-Encoding."""
    if len(body) < GZIP_FROM or not accepts or not takes_gzip(b",".join(accepts)):
        return body, False
    return zlib.compress(body, GZIP_LEVEL, zlib.MAX_WBITS | 16), True  # with a time of 0


def takes_gzip(accepts: bytes) -> bool:
    """Return whether Accept-Encoding asks for gzip (RFC 9110, 12.5.3), by name or else by `*`, and not with q=0."""
    accepted: dict[bytes, bool] = {}
    for part in accepts.lower().split(b","):
        coding, _, weight = part.partition(b";")
        name, _, value = weight.partition(b"=")
        accepted[coding.strip()] = name.strip() != b"q" or not ZERO_WEIGHT.fullmatch(value.strip())
    return accepted.get(b"gzip", accepted.get(b"*", False))
