"""Filters for a feed of any format: return the feed without the routes that break a rule, each refused with its rule.

- Prefix lengths outside of the accepted range: settings `accept_v4` and `accept_v6`, or the partner's own.
- Special-purpose space (RFC 6890 and its registries), unless the setting `special_prefixes` accepts it.
- Origins that are neither among a partner's `asns` nor its `allowed_asns`, if it has any of the latter.
- Routes with the community `<asn>:0` (setting `asn`). With `<asn>:1`, a route excludes its cluster from the prefix;
  other communities lower or raise the preference.

A partner that announces more than its `max_prefixes` stops the publish: it is probably a leak.
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
from steering.control.feed_files import MAX_LISTED, rule_of
from steering.control.routes.feeds import Feed, FeedBuilder
from steering.errors import FeedError
from steering.model.fleet import Fleet, Partner
from steering.model.route import Announcement
from steering.settings import Settings
from steering.state.routes import ALL_ONES, prefix_at

IS_ZERO: Final = bytes([1]) + bytes(255)
LESS_HOPS: Final = 3  # as if the path had been prepended three times
DO_NOT_SERVE: Final = 0
EXCLUDE: Final = 1
PREFER_LESS: Final = 80
PREFER: Final = 120

# Not globally reachable by the IANA registries (RFC 6890), multicast and reserved space.
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
    """Return the feed without refused routes. Raises FeedError if a partner announces too many prefixes."""
    feed_filter = FeedFilter(feed, fleet, settings)
    feed_filter.obey_communities()
    feed_filter.check_origins()
    feed_filter.refuse_values(len(feed_filter.set_of), feed_filter.rules)
    columns = {family: feed_filter.check_rows(family) for family in (4, 6)}
    feed_filter.check_totals(columns)
    feed_filter.columns = columns
    return Feed(
        *feed_filter.checked(feed.sha256),
        feed_filter.sets,
        feed_filter.set_of,
        feed_filter.origin_of,
        feed.unheard,
        skipped=feed.skipped,
    )


class FeedFilter(FeedBuilder):
    """A feed while it is filtered. Attributes are added if rows that shared attributes differ after a filter."""

    def __init__(self, feed: Feed, fleet: Fleet, settings: Settings) -> None:
        super().__init__(feed.name, dict(feed.columns))
        self.settings = settings
        partners = {partner.id: partner for partner in fleet.partners}
        self.partner_of: dict[int, Partner] = {
            cluster.number: partners[cluster.partner] for cluster in fleet.clusters if cluster.partner is not None
        }
        self.sets = list(feed.sets)
        self.set_of, self.origin_of = array("I", feed.set_of), array("I", feed.origin_of)
        self.refusals = list(feed.refusals)
        self.refused_by = feed.refused_by.copy()
        self.set_numbers = {members: number for number, members in enumerate(self.sets)}
        self.rules: dict[int, str] = {}  # by attributes number: why its rows are refused

    def obey_communities(self) -> None:
        """Apply the communities of each announcement: prefer it, prefer it less, exclude it, or do not serve it."""
        if not self.settings.asn:
            return
        self.sets = [tuple(filter(None, map(self.apply_communities, members))) for members in self.sets]
        self.set_numbers = {members: number for number, members in enumerate(self.sets)}
        rule = f"its community {self.settings.asn}:{DO_NOT_SERVE} asks not to be served"
        self.rules |= {number: rule for number, index in enumerate(self.set_of) if not self.sets[index]}

    def apply_communities(self, item: Announcement) -> Announcement | None:
        """Return an announcement changed by its communities, None if it is not to be served."""
        communities = {community.strip() for community in item.communities}
        if f"{self.settings.asn}:{EXCLUDE}" in communities:
            return dataclasses.replace(item, excludes=True)
        if f"{self.settings.asn}:{DO_NOT_SERVE}" in communities:
            return None
        if f"{self.settings.asn}:{PREFER_LESS}" in communities:
            return dataclasses.replace(item, hops=item.hops + LESS_HOPS)
        if f"{self.settings.asn}:{PREFER}" in communities:
            return dataclasses.replace(item, hops=0)
        return item

    def check_origins(self) -> None:
        """Refuse announcements whose origin their partner may not announce."""
        allowed = {
            number: {*partner.asns, *partner.allowed_asns}
            for number, partner in self.partner_of.items()
            if partner.allowed_asns
        }
        concerned = {
            index for index, members in enumerate(self.sets) if any(item.cluster in allowed for item in members)
        }
        for number in range(len(self.set_of)) if concerned else ():
            origin = self.origin_of[number]
            if self.set_of[number] in concerned and number not in self.rules:
                self.keep_announcements(
                    number,
                    lambda item: item.excludes or item.cluster not in allowed or origin in allowed[item.cluster],  # noqa: B023 (called here)
                    f"an origin is the partner's or among its allowed_asns; AS{origin} is neither",
                )

    def keep_announcements(self, number: int, keep: Callable[[Announcement], bool], rule: str) -> None:
        """Keep some announcements of an attributes number; if none is left, refuse its rows."""
        members = self.sets[self.set_of[number]]
        kept = tuple(filter(keep, members))
        if not kept:
            self.rules[number] = rule
        elif kept != members:
            self.set_of[number] = self.set_number(kept)

    def set_number(self, members: tuple[Announcement, ...]) -> int:
        number = self.set_numbers.setdefault(members, len(self.sets))
        if number == len(self.sets):
            self.sets.append(members)
        return number

    def check_rows(self, family: int) -> prefix_rows.Columns:
        """Return the rows of a family that are accepted."""
        columns = self.columns[family]
        ranges = self.ranges(family)
        widest = min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())
        narrowest = max(low for low, _ in ranges.values()), min(high for _, high in ranges.values())
        special = special_prefixes(family) if self.settings.special_prefixes == "refuse" else prefix_rows.Columns()
        columns = self.refuse_faults(family, columns, rib.check_prefixes(columns, *widest, special), widest)
        return self.check_lengths(family, columns, ranges, narrowest) if narrowest != widest else columns

    def refuse_faults(
        self, family: int, columns: prefix_rows.Columns, faults: array[int], widest: Lengths
    ) -> prefix_rows.Columns:
        """Refuse the rows with a fault of `rib.check_prefixes`, and return the others."""
        good = faults.tobytes().translate(IS_ZERO)
        if 0 not in good:
            return columns
        for i in itertools.islice(itertools.compress(range(len(faults)), faults), MAX_LISTED):
            rule = length_rule(widest) if faults[i] == 1 else SPECIAL_RULE
            self.list_refusal(columns.row[i], prefix_at(family, columns, i), rule)
        wrong_length = faults.count(1)
        for rule, count in ((length_rule(widest), wrong_length), (SPECIAL_RULE, good.count(0) - wrong_length)):
            if count:
                self.refused_by[rule_of(rule)] += count
        return prefix_rows.keep_rows(columns, array("B", good))

    def check_lengths(
        self, family: int, columns: prefix_rows.Columns, ranges: dict[str, Lengths], narrowest: Lengths
    ) -> prefix_rows.Columns:
        """Remove announcements whose partner does not accept prefixes of the row's length."""
        chosen = array("B", [1]) * len(columns)
        faults = rib.check_prefixes(columns, *narrowest, prefix_rows.Columns())
        for i in itertools.compress(range(len(faults)), faults):
            number, length = columns.value[i], columns.length[i]
            members = self.sets[self.set_of[number]]
            accepted = [ranges[self.partner_id(item)] for item in members]
            kept = tuple(item for item, (least, most) in zip(members, accepted, strict=True) if least <= length <= most)
            if not kept:
                chosen[i] = 0
                self.refuse(columns.row[i], prefix_at(family, columns, i), length_rule(accepted[0]))
            elif kept != members:
                columns.value[i] = self.add_attributes(kept, self.origin_of[number])
        return prefix_rows.keep_rows(columns, chosen)

    def add_attributes(self, members: tuple[Announcement, ...], origin: int) -> int:
        self.set_of.append(self.set_number(members))
        self.origin_of.append(origin)
        return len(self.set_of) - 1

    def partner_id(self, item: Announcement) -> str:
        """Return the partner of an announcement's cluster, empty at an exchange."""
        partner = self.partner_of.get(item.cluster)
        return partner.id if partner else ""

    def ranges(self, family: int) -> dict[str, Lengths]:
        """Return the accepted lengths of each partner, and under "" of all other clusters."""
        default = self.settings.accept_v4 if family == 4 else self.settings.accept_v6
        own = {p.id: (p.accepts_v4 if family == 4 else p.accepts_v6) for p in self.partner_of.values()}
        return {"": lengths_of(default)} | {name: lengths_of(text or default) for name, text in own.items()}

    def check_totals(self, columns: dict[int, prefix_rows.Columns]) -> None:
        """Raise FeedError if a partner announces more prefixes than its limit."""
        of_set = [sorted({self.partner_id(item) for item in members} - {""}) for members in self.sets]
        in_set: Counter[int] = Counter()
        for family in (4, 6):
            for index, count in zip(
                self.set_of, prefix_rows.count_values(columns[family], len(self.set_of)), strict=True
            ):
                in_set[index] += count
        totals: Counter[str] = Counter()
        for index, count in in_set.items():
            totals.update(dict.fromkeys(of_set[index], count))
        limits = {partner.id: partner.max_prefixes for partner in self.partner_of.values()}
        for name, count in sorted(totals.items()):
            most = limits[name] or self.settings.max_prefixes
            if count > most:
                raise FeedError(
                    f"{self.name}: partner {name} announces {count} prefixes; max_prefixes is {most}",
                    hint="a leak? if not, raise max_prefixes of the partner",
                )


def lengths_of(text: str) -> Lengths:
    least, _, most = text.partition("-")
    return int(least), int(most)


def length_rule(accepted: Lengths) -> str:
    return f"prefixes from /{accepted[0]} to /{accepted[1]} are accepted"


def special_prefixes(family: int) -> prefix_rows.Columns:
    networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = [*map(ipaddress.ip_network, SPECIAL[family])]
    columns = prefix_rows.Columns(len(networks))
    for i, network in enumerate(networks):
        number = int(network.network_address) << (96 if family == 4 else 0)
        columns.high[i], columns.low[i] = number >> 64, number & (ALL_ONES >> 64)
        columns.length[i] = network.prefixlen
    return columns
