"""Prefixes as people write them."""

from __future__ import annotations

import contextlib
import ipaddress

from steering.errors import RequestError


def parse_prefix(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Parse a prefix in CIDR form. Raises RequestError with the rule that the text breaks."""
    try:
        if "%" not in text:
            return ipaddress.ip_network(text)
        rule = "a prefix has no zone id"
    except ValueError as error:
        rule = str(error)
        with contextlib.suppress(ValueError):
            rule = f"has host bits set; write {ipaddress.ip_network(text, strict=False)}"
    raise RequestError.of_parameter("prefix", text, rule)
