"""The types of the fields of fleet objects: each has its limits, and as its description the rule in words.

msgspec checks the limits where a fleet document is read (`steering/control/records/documents.py`), which also calls the
`check` of a type that has a rule beyond them.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Final

from msgspec import Meta

from steering.model.route import RouteClass

ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
ID_RULE: Final = "1 to 63 lower-case letters, digits and hyphens, the first no hyphen"
# RFC 1123 2.1; the last label holds a letter, so that an address does not pass for a name.
HOST: Final = (
    r"(?=.{1,253}\Z)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*"
    r"(?![0-9]+\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
# The characters of RFC 3986 but for braces, which mark the places to be filled.
PART: Final = r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*"
AUTHORITY: Final = r"[A-Za-z0-9._~:-]*"
BEFORE_TITLE: Final = rf"{PART}(\{{token\}}{PART})?"
URL: Final = rf"https?://{AUTHORITY}\{{host\}}{AUTHORITY}/{BEFORE_TITLE}\{{title\}}{PART}(\{{token\}}{PART})?"
LENGTHS: Final = re.compile(r"([0-9]{1,3})-([0-9]{1,3})")
FORMS: Final = ("path", "query", "secure_link")  # of tokens in URLs


def text(pattern: str, rule: str) -> Meta:
    """Return the limit that a text matches the whole pattern."""
    return Meta(pattern=rf"^(?:{pattern})\Z", description=rule)


def whole(low: int, high: int, rule: str = "") -> Meta:
    """Return the limit of a number from `low` to `high`."""
    check = {"check": lambda value: type(value) is int}  # msgspec takes 3.0 for 3
    return Meta(ge=low, le=high, description=rule or f"a number from {low} to {high}", extra=check)


def lengths(most: int) -> Meta:
    """Return the limit of a range of prefix lengths."""
    check = {"check": lambda value: value == "" or is_length_range(value, most)}
    return Meta(description=f"the least and most prefix length, as 8-24, within 0 and {most}", extra=check)


def is_length_range(value: Any, most: int) -> bool:
    """Return whether a value is a range of prefix lengths such as `8-24`."""
    match = LENGTHS.fullmatch(value) if isinstance(value, str) else None
    return match is not None and int(match[1]) <= int(match[2]) <= most


def is_address(value: str) -> bool:
    """Return whether a text is an IP address, written as the ipaddress module writes it; IPv4 as IPv4."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return "%" not in value and str(address) == value and getattr(address, "ipv4_mapped", None) is None


Id = Annotated[str, text(ID.pattern, ID_RULE)]
# Neither control characters nor invisible ones, such as those that change the direction of text.
LABEL: Final = r"[^\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]{1,200}"
Label = Annotated[str, text(LABEL, "1 to 200 characters without control or invisible characters")]
Flag = Annotated[bool, Meta(description="true or false")]
Country = Annotated[str, text("[A-Z]{2}", "a country is two capital letters (ISO 3166-1)")]
Subdivision = Annotated[
    str, text("([A-Z]{2}-[A-Z0-9]{1,3})?", "a part of its country (ISO 3166-2) such as IN-MH, or none")
]
Region = Annotated[
    str,
    text("[A-Z]{2}(-[A-Z0-9]{1,3})?", "a country (ISO 3166-1) or a part of one (ISO 3166-2), such as IN or IN-MH"),
]
Asn = Annotated[int, whole(1, 4294967294, "an ASN is a number from 1 to 4294967294")]
Address = Annotated[str, Meta(description="an IPv4 or IPv6 address in its shortest form", extra={"check": is_address})]
Host = Annotated[str, text(HOST, "a DNS name without a port")]
PlainUrl = Annotated[
    str,
    text(
        rf"(?=.{{0,500}}\Z)(https?://[A-Za-z0-9]{AUTHORITY}(/{PART})?)?",
        "an http(s) URL of at most 500 characters, or none",
    ),
]
UrlTemplate = Annotated[
    str,
    text(
        URL,
        "an http(s) URL with {host} once in the place of its host, {title} once behind it, and {token} where signed",
    ),
]
FallbackTemplate = Annotated[
    str,
    text(
        rf"https?://[A-Za-z0-9]{AUTHORITY}/{PART}\{{title\}}{PART}",
        "an http(s) URL with a host of its own, {title} once behind it, and no {host}",
    ),
]
TokenForm = Annotated[str, text(f"({'|'.join(FORMS)})?", f"one of {', '.join(FORMS)}, or none")]
ClassName = Annotated[str, text("|".join(RouteClass.__members__), f"one of {', '.join(RouteClass.__members__)}")]
