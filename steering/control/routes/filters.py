"""What is not believed of a feed, whatever its format: row by row, with the rule that each refused route breaks.

- Prefix lengths outside what is accepted: settings `accept_v4` and `accept_v6`, or the partner's own.
- Special-purpose space (RFC 6890 and its registries), unless the setting `special_prefixes` accepts it.
- Origins that a partner may not announce: neither its own ASNs nor its `allowed_asns`, where it has those.
- Routes whose communities ask not to be served; others ask to be preferred, or less (setting `asn`).
A partner that announces more than its `max_prefixes` stops the publish: what a leak would move is best left alone.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from _fastpath import prefix_rows, rib
from steering.control.routes.feeds import KEPT, Feed, rule_of
from steering.errors import FeedError
from steering.model.fleet import Fleet, Partner
from steering.model.route import Announcement, Refusal
from steering.settings import Settings
from steering.state.routes import ALL_ONES, prefix_text

IS_ZERO: Final = bytes([1]) + bytes(255)
LESS_HOPS: Final = 3  # as if the path had been prepended three times
DO_NOT_SERVE: Final = 0
PREFER_LESS: Final = 80
PREFER: Final = 120

# Not globally reachable by the IANA registries (RFC 6890), multicast and reserved space; first rule of a row wins.
SPECIAL: Final[dict[int, tuple[str, ...]]] = {
    4: (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
    ),
    6: (
        *("::/8", "64:ff9b:1::/48", "100::/64", "2001:2::/48", "2001:10::/28", "2001:db8::/32", "2002::/16"),
        *("3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    ),
}

SPECIAL_RULE: Final = "special-purpose space (RFC 6890); the setting special_prefixes can accept it"

Lengths = tuple[int, int]


def filter_feed(feed: Feed, fleet: Fleet, settings: Settings) -> Feed:
    """Return the feed without what is not believed of it. Raises FeedError where a partner announces too much."""
    filtering = Filtering(feed, fleet, settings)
    filtering.obey_communities()
    filtering.check_origins()
    columns = {family: filtering.check_rows(family) for family in (4, 6)}
    filtering.check_totals(columns)
    return dataclasses.replace(
        feed,
        columns=columns,
        sets=filtering.sets,
        set_of=filtering.set_of,
        origin_of=filtering.origin_of,
        refusals=sorted(filtering.refusals, key=lambda refusal: refusal.row),
        refused_by=+filtering.refused_by,  # none of what was refused no row
    )


class Filtering:
    """One feed being filtered. Kinds are added where rows of one kind are no longer all alike."""

    def __init__(self, feed: Feed, fleet: Fleet, settings: Settings) -> None:
        self.feed = feed
        self.settings = settings
        partners = {partner.id: partner for partner in fleet.partners}
        self.partner_of: dict[int, Partner] = {
            cluster.number: partners[cluster.partner] for cluster in fleet.clusters if cluster.partner is not None
        }
        self.sets = list(feed.sets)
        self.set_of, self.origin_of = array("I", feed.set_of), array("I", feed.origin_of)
        self.columns = dict(feed.columns)
        self.refusals = list(feed.refusals)
        self.refused_by = feed.refused_by.copy()
        self.places = {members: place for place, members in enumerate(self.sets)}
        self.rules: dict[int, str] = {}  # of kinds that are refused

    def obey_communities(self) -> None:
        """Prefer, prefer less, or do not serve, as the communities of each announcement ask."""
        if not self.settings.asn:
            return
        self.sets = [tuple(filter(None, map(self.obeyed, members))) for members in self.sets]
        self.places = {members: place for place, members in enumerate(self.sets)}
        rule = f"its community {self.settings.asn}:{DO_NOT_SERVE} asks not to be served"
        self.rules |= {kind: rule for kind, place in enumerate(self.set_of) if not self.sets[place]}

    def obeyed(self, item: Announcement) -> Announcement | None:
        """Return an announcement as its communities ask for, None where it is not to be served."""
        asked = {community.strip() for community in item.communities}
        if f"{self.settings.asn}:{DO_NOT_SERVE}" in asked:
            return None
        if f"{self.settings.asn}:{PREFER_LESS}" in asked:
            return dataclasses.replace(item, hops=item.hops + LESS_HOPS)
        if f"{self.settings.asn}:{PREFER}" in asked:
            return dataclasses.replace(item, hops=0)
        return item

    def check_origins(self) -> None:
        """Take away what partners announce of networks that are not theirs to announce."""
        allowed = {
            number: {*partner.asns, *partner.allowed_asns}
            for number, partner in self.partner_of.items()
            if partner.allowed_asns
        }
        concerned = {
            place for place, members in enumerate(self.sets) if any(item.cluster in allowed for item in members)
        }
        for kind in range(len(self.set_of)) if concerned else ():
            origin = self.origin_of[kind]
            if self.set_of[kind] in concerned and kind not in self.rules:
                self.change_kind(
                    kind,
                    lambda item: item.cluster not in allowed or origin in allowed[item.cluster],  # noqa: B023 (called here)
                    f"an origin is the partner's or among its allowed_asns; AS{origin} is neither",
                )

    def change_kind(self, kind: int, keep: Callable[[Announcement], bool], rule: str) -> None:
        """Keep some of a kind's announcements; where none is left its rows are refused."""
        members = self.sets[self.set_of[kind]]
        kept = tuple(filter(keep, members))
        if not kept:
            self.rules[kind] = rule
        elif kept != members:
            self.set_of[kind] = self.place_of(kept)

    def place_of(self, members: tuple[Announcement, ...]) -> int:
        """Return the number of a set."""
        place = self.places.setdefault(members, len(self.sets))
        if place == len(self.sets):
            self.sets.append(members)
        return place

    def check_rows(self, family: int) -> prefix_rows.Columns:
        """Return the rows of a family that are accepted."""
        columns = self.columns[family]
        if self.rules:
            for place in prefix_rows.rows_with_values(columns, self.rules, KEPT):
                self.refuse(family, columns, place, self.rules[columns.value[place]])
            counts = prefix_rows.count_values(columns, len(self.set_of))
            for kind, rule in self.rules.items():
                self.refused_by[rule_of(rule)] += counts[kind]
            columns = prefix_rows.keep_values(
                columns, array("B", (kind not in self.rules for kind in range(len(self.set_of))))
            )
        ranges = self.ranges(family)
        widest = min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())
        narrowest = max(low for low, _ in ranges.values()), min(high for _, high in ranges.values())
        special = special_prefixes(family) if self.settings.special_prefixes == "refuse" else prefix_rows.Columns()
        columns = self.keep_unmarked(family, columns, rib.check_prefixes(columns, *widest, special), widest)
        return self.check_lengths(family, columns, ranges, narrowest) if narrowest != widest else columns

    def keep_unmarked(
        self, family: int, columns: prefix_rows.Columns, marks: array[int], widest: Lengths
    ) -> prefix_rows.Columns:
        """Refuse what is marked, and return the rest."""
        unmarked = marks.tobytes().translate(IS_ZERO)
        if 0 not in unmarked:
            return columns
        for place in itertools.islice(itertools.compress(range(len(marks)), marks), KEPT):
            self.refuse(family, columns, place, length_rule(widest) if marks[place] == 1 else SPECIAL_RULE)
        wrong_length = marks.count(1)
        self.refused_by[length_rule(widest)] += wrong_length
        self.refused_by[rule_of(SPECIAL_RULE)] += unmarked.count(0) - wrong_length
        return prefix_rows.keep_rows(columns, array("B", unmarked))

    def check_lengths(
        self, family: int, columns: prefix_rows.Columns, ranges: dict[str, Lengths], narrowest: Lengths
    ) -> prefix_rows.Columns:
        """Take away from rows what those partners announce who may not announce prefixes of their length."""
        chosen = array("B", [1]) * len(columns)
        marks = rib.check_prefixes(columns, *narrowest, prefix_rows.Columns())
        for place in itertools.compress(range(len(marks)), marks):
            kind, length = columns.value[place], columns.length[place]
            members = self.sets[self.set_of[kind]]
            kept = tuple(item for item in members if in_range(length, ranges[self.partner_id(item)]))
            if not kept:
                chosen[place] = 0
                rule = length_rule(ranges[self.partner_id(members[0])])
                self.refused_by[rule] += 1
                self.refuse(family, columns, place, rule)
            elif kept != members:
                columns.value[place] = self.new_kind(kept, self.origin_of[kind])
        return prefix_rows.keep_rows(columns, chosen)

    def new_kind(self, members: tuple[Announcement, ...], origin: int) -> int:
        """Return a kind with this set and origin."""
        self.set_of.append(self.place_of(members))
        self.origin_of.append(origin)
        return len(self.set_of) - 1

    def partner_id(self, item: Announcement) -> str:
        """Return whose cluster heard an announcement, empty at an exchange."""
        partner = self.partner_of.get(item.cluster)
        return partner.id if partner else ""

    def ranges(self, family: int) -> dict[str, Lengths]:
        """Return the accepted lengths of each partner, and under no name of everybody else."""
        default = self.settings.accept_v4 if family == 4 else self.settings.accept_v6
        own = {p.id: (p.accepts_v4 if family == 4 else p.accepts_v6) for p in self.partner_of.values()}
        return {"": lengths_of(default)} | {name: lengths_of(text or default) for name, text in own.items()}

    def refuse(self, family: int, columns: prefix_rows.Columns, place: int, rule: str) -> None:
        """Keep a row among the refusals that are shown."""
        if len(self.refusals) < KEPT:
            number = columns.high[place] << 64 | columns.low[place]
            text = prefix_text(family, number, columns.length[place])
            self.refusals.append(Refusal(self.feed.name, columns.row[place], text, rule))

    def check_totals(self, columns: dict[int, prefix_rows.Columns]) -> None:
        """Raise FeedError where a partner announces more prefixes than it may."""
        of_set = [sorted({self.partner_id(item) for item in members} - {""}) for members in self.sets]
        in_set: Counter[int] = Counter()
        for family in (4, 6):
            for place, count in zip(
                self.set_of, prefix_rows.count_values(columns[family], len(self.set_of)), strict=True
            ):
                in_set[place] += count
        totals: Counter[str] = Counter()
        for place, count in in_set.items():
            totals.update(dict.fromkeys(of_set[place], count))
        limits = {partner.id: partner.max_prefixes for partner in self.partner_of.values()}
        for name, count in sorted(totals.items()):
            most = limits[name] or self.settings.max_prefixes
            if count > most:
                raise FeedError(
                    f"{self.feed.name}: partner {name} announces {count} prefixes; max_prefixes is {most}",
                    hint="a leak? if not, raise max_prefixes of the partner",
                )


def lengths_of(text: str) -> Lengths:
    """Return the least and most of a range `8-24`."""
    least, _, most = text.partition("-")
    return int(least), int(most)


def in_range(length: int, accepted: Lengths) -> bool:
    """Tell whether a prefix length is accepted."""
    return accepted[0] <= length <= accepted[1]


def length_rule(accepted: Lengths) -> str:
    """Return the rule in words."""
    return f"prefixes from /{accepted[0]} to /{accepted[1]} are accepted"


def special_prefixes(family: int) -> prefix_rows.Columns:
    """Return the special-purpose prefixes of a family."""
    networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = [*map(ipaddress.ip_network, SPECIAL[family])]
    columns = prefix_rows.Columns(len(networks))
    for place, network in enumerate(networks):
        number = int(network.network_address) << (96 if family == 4 else 0)
        columns.high[place], columns.low[place] = number >> 64, number & (ALL_ONES >> 64)
        columns.length[place] = network.prefixlen
    return columns
