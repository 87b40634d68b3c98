"""The `asn` feed: lines `prefix ASN`, routed to the clusters that serve the network; one is shipped.

A partner's clusters receive the prefixes of its ASNs. They are divided among its sites in contiguous runs of the
address order: MED 0 at a prefix's own site, 100 at the others. An exchange receives the networks whose home country is
one of its countries, one AS further away, through its route server. A `csv` feed gives the real routes instead.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any, Final

import geo_data
from _fastpath import prefix_rows, rib
from steering.control.feed_files import read_text
from steering.control.routes.feeds import Feed, FeedBuilder
from steering.errors import FeedError
from steering.model.fleet import Cluster, Fleet
from steering.model.route import Announcement

OTHER_SITE_MED: Final = 100
ROUTE_SERVER: Final = 64496  # reserved for documentation, RFC 5398
MAX_ASN: Final = 2**32 - 2  # RFC 7300 reserves the last


def read(path: str, fleet: Fleet) -> Feed:
    """Return the routes of an ASN table, or of the shipped one where `path` is empty."""
    file = Path(path) if path else geo_data.ASN_PREFIXES
    text, digest = read_text(file)
    return read_lines(file.name, text, digest, fleet)


def read_lines(name: str, text: bytes, digest: str, fleet: Fleet) -> Feed:
    builder, tails = FeedBuilder.from_lines(name, text)
    numbers = (int(tail) if tail.isdigit() and len(tail) <= 10 else -1 for tail in tails)
    asns = array("q", (number if number <= MAX_ASN else -1 for number in numbers))
    rule = f"an ASN is a number from 0 to {MAX_ASN}"
    wrong = {index: rule for index, asn in enumerate(asns) if asn < 0}
    builder.refuse_values(len(asns), wrong, lambda index: tails[index][:160].decode("utf-8", "replace"))

    columns, networks = builder.columns, NetworkClusters(fleet, name)
    first, shares, routed = array("I"), array("I"), array("B")
    set_of, origin_of = array("I"), array("I")
    for asn in asns:
        sets = networks.sets_of(asn)
        first.append(len(set_of))
        shares.append(len(sets))
        routed.append(bool(sets))
        set_of.extend(sets)
        origin_of.extend([max(asn, 0)] * len(sets))
    before = sum(len(columns[family]) for family in (4, 6))
    for family in (4, 6):
        columns[family] = prefix_rows.keep_values(prefix_rows.sort(columns[family]), routed)
        rib.divide(columns[family], first, shares)
    unheard = before - sum(len(columns[family]) for family in (4, 6))
    return Feed(*builder.checked(digest), networks.sets, set_of, origin_of, unheard)


def parse_asn(value: Any, most: int = MAX_ASN) -> int | None:
    """Return the ASN of a number, or of a text such as `AS64500`; None for anything else."""
    if isinstance(value, str):
        digits = value.upper().removeprefix("AS")
        value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 10 else None
    return value if type(value) is int and 0 <= value <= most else None


class NetworkClusters:
    """The announcement sets of each network's prefixes in a fleet: one for each of the partner's sites."""

    def __init__(self, fleet: Fleet, feed: str) -> None:
        self.feed = feed
        self.countries = geo_data.read_home_countries()
        self.sets: list[tuple[Announcement, ...]] = []
        self.partner_of = {asn: partner.id for partner in fleet.partners for asn in partner.asns}
        self.embedded: dict[str, dict[str, list[Cluster]]] = {}
        self.exchanges: dict[str, list[Announcement]] = {}
        self.set_numbers: dict[tuple[str | None, str], list[int]] = {}
        for cluster in fleet.clusters:
            if cluster.number < 0:
                raise FeedError(f"cluster {cluster.id} has no number; import the fleet first")
            if cluster.partner is not None:
                self.embedded.setdefault(cluster.partner, {}).setdefault(cluster.site, []).append(cluster)
            for country in cluster.countries:
                self.exchanges.setdefault(country, []).append(
                    Announcement(cluster.number, cluster.route_class, (ROUTE_SERVER,), hops=2, feed=feed)
                )

    def sets_of(self, asn: int) -> list[int]:
        """Return the numbers of the network's sets, one a site; empty if no cluster receives it."""
        partner, country = self.partner_of.get(asn), self.countries.get(asn, "")
        numbers = self.set_numbers.get((partner, country))
        if numbers is None:
            numbers = self.set_numbers[partner, country] = self.make_sets(partner, country)
        return numbers

    def make_sets(self, partner: str | None, country: str) -> list[int]:
        """Add the sets of a partner's networks in a country, or of the country's other networks."""
        peering = self.exchanges.get(country, [])
        sites = self.embedded.get(partner, {}) if partner is not None else {}
        made = [
            tuple(
                Announcement(
                    cluster.number, cluster.route_class, med=0 if site == own else OTHER_SITE_MED, feed=self.feed
                )
                for site, clusters in sorted(sites.items())
                for cluster in clusters
            )
            + tuple(peering)
            for own in sorted(sites)
        ]
        if not made and peering:
            made = [tuple(peering)]
        self.sets += made
        return list(range(len(self.sets) - len(made), len(self.sets)))
