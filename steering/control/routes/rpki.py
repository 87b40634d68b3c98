"""Validates the origins of routes (RFC 6811) by the payloads that an RPKI validator exports as JSON.

    {"roas": [{"asn": "AS64500", "prefix": "203.0.113.0/24", "maxLength": 24, "ta": "apnic"}]}

as Routinator, rpki-client and OctoRPKI write it. A route is valid if a payload covers its prefix, names its origin and
allows its length; invalid if payloads cover it and none allows it; else not found. Invalid routes are refused. A route
with an unknown origin, or one that keeps its cluster away from its prefix, is not validated.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import json
from array import array
from pathlib import Path
from typing import Any, Final

from _fastpath import prefix_rows, rib
from steering.control.feed_files import MAX_LISTED, listed, read_json
from steering.control.routes.feeds import PREFIX_RULE, CheckedRows, Feed, RowCollector
from steering.control.routes.feeds.asn import parse_asn
from steering.errors import FeedError, syntax_fault
from steering.model.prefix import UNWRAPPED
from steering.model.route import Refusal, Rpki
from steering.state.routes import prefix_at

MAX_ASN: Final = 2**32 - 1
UNWRAPPED_BEGIN: Final = (":", "0", "64:", "2002:")  # how the text of a prefix inside one of UNWRAPPED begins
INVALID: Final = "RPKI invalid (RFC 6811)"


@dataclasses.dataclass(frozen=True)
class Payloads(CheckedRows):
    """A validator's payloads: sorted columns, whose values are indices into `asns` and `longest`."""

    asns: array[int]
    longest: array[int]

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "refusals": listed(self.refusals)}


def read_payloads(path: Path) -> Payloads:
    """Return the payloads of a validator's JSON; a wrong payload is refused. Raises FeedError."""
    data, digest = read_json(path)
    try:
        payloads = json.loads(data)["roas"]
        if not isinstance(payloads, list):
            raise TypeError
    except (ValueError, RecursionError) as error:
        raise FeedError(f"{path.name}: not JSON: {syntax_fault(error)}") from error
    except (TypeError, KeyError) as error:
        raise FeedError(f"{path.name}: has no list of roas", hint="export the validator's payloads as JSON") from error
    numbers: dict[tuple[int, int], int] = {}
    rows = RowCollector()
    for item in payloads:
        try:
            prefix, asn, longest = read_payload(item)
            rows.add(prefix, numbers.setdefault((asn, longest), len(numbers)))
        except ValueError as error:
            rows.refuse(json.dumps(item)[:80] if rows.lists else "", str(error))
    builder = rows.builder(path.name)
    if not builder.rows:
        first = f"; the first of {builder.refused_by.total()} refused: {rows.refusals[0][2]}" if rows.refusals else ""
        raise FeedError(
            f"{path.name}: holds no payload that can be used{first}", hint="is the validator still starting?"
        )
    asns, longest_of = (array("I", values) for values in zip(*numbers, strict=True))
    builder.columns = {family: prefix_rows.sort(columns) for family, columns in builder.columns.items()}
    return Payloads(*builder.checked(digest), asns, longest_of)


def read_payload(item: Any) -> tuple[str, int, int]:
    """Return prefix, ASN and longest allowed length of a payload. ValueError names the rule that it breaks."""
    if not isinstance(item, dict):
        raise ValueError("a payload is an object")
    asn, prefix = parse_asn(item.get("asn"), MAX_ASN), item.get("prefix")
    if asn is None:
        raise ValueError(f"asn is a number from 0 to {MAX_ASN}, or AS and one")
    if not isinstance(prefix, str):
        raise ValueError(PREFIX_RULE)
    if prefix.startswith(UNWRAPPED_BEGIN) and is_unwrapped(prefix):
        raise ValueError("a payload for IPv4 is written as IPv4")
    length = prefix.rpartition("/")[2]
    least = int(length) if length.isdigit() and len(length) <= 3 else 0
    most = 128 if ":" in prefix else 32
    longest = item.get("maxLength", least)
    if type(longest) is not int or not least <= longest <= most:
        raise ValueError("maxLength is a number from the prefix's length to that of an address")
    return prefix, asn, longest


def is_unwrapped(prefix: str) -> bool:
    """Return whether a prefix is an IPv4-mapped, NAT64 or 6to4 one, however it is written."""
    try:
        network = ipaddress.IPv6Network(prefix, strict=False)
    except ValueError:
        return False
    return any(network.subnet_of(around) for around in UNWRAPPED)


def origins_to_validate(feed: Feed) -> array[int]:
    """Return the origin of each attributes number, 0 where it is not validated.

    A route that keeps its cluster away from a prefix takes no traffic, so anybody may announce it.
    """
    excluding = {index for index, members in enumerate(feed.sets) if members and all(item.excludes for item in members)}
    if not excluding:
        return feed.origin_of
    return array(
        "I", (0 if index in excluding else asn for index, asn in zip(feed.set_of, feed.origin_of, strict=True))
    )


def validated(feed: Feed, payloads: Payloads) -> Feed:
    """Return the feed without its invalid routes; `state_of` has the state of the others."""
    columns = {}
    validated_origin = origins_to_validate(feed)
    refusals, refused_by = list(feed.refusals), feed.refused_by.copy()
    count = len(feed.set_of)
    for family in (4, 6):
        ordered = prefix_rows.sort(feed.columns[family])
        origins = prefix_rows.relabel(ordered.value, validated_origin)
        states = rib.validate_origins(ordered, origins, payloads.columns[family], payloads.asns, payloads.longest)
        invalid = states.tobytes().translate(bytes(number == Rpki.invalid for number in range(256)))
        for i in itertools.islice(itertools.compress(range(len(states)), invalid), max(0, MAX_LISTED - len(refusals))):
            rule = f"{INVALID}; its origin is AS{origins[i]}"
            refusals.append(Refusal(feed.name, ordered.row[i], prefix_at(family, ordered, i), rule))
        if invalid_count := sum(invalid):
            refused_by[INVALID] += invalid_count
        marked = ordered.alias()
        # Attributes numbers are tripled, in the order of states: not found, valid, invalid.
        marked.value = rib.add_steps(ordered.value, states, count)
        columns[family] = (
            prefix_rows.keep_rows(marked, array("B", (not flag for flag in invalid))) if invalid_count else marked
        )
    return dataclasses.replace(
        feed,
        columns=columns,
        set_of=feed.set_of * 3,
        origin_of=feed.origin_of * 3,
        state_of=array("B", [state for state in (Rpki.not_found, Rpki.valid, Rpki.invalid) for _ in range(count)]),
        refusals=sorted(refusals, key=lambda refusal: refusal.row),
        refused_by=refused_by,
    )
