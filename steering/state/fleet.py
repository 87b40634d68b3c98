"""`fleet.<version>`: clusters, appliances, sites and services, as playback reads them.

Appliances stand cluster by cluster, sorted by slot, so a cluster is a range of them. A record has offsets and lengths
of its names in the section `text`. Renderers write the names into JSON as they are, so the writer refuses names that
JSON would escape.

    services   JSON: version, regions, services        clusters, appliances, sites   records of `_fastpath/ranking.pxd`
    spans      JSON: (first appliance, id, class)      meta   JSON: partners, sites and clusters, for people
"""

from __future__ import annotations

import dataclasses
import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from _fastpath.ranking import APPLIANCE, CLUSTER, SITE
from steering.errors import SnapshotError
from steering.model.fleet import Appliance, Fleet, regions_of_sites
from steering.model.service import Service, service_of
from steering.state.sections import StateFile, write_sections

PLAIN: Final = re.compile(r"[!#-\[\]-~]*")  # visible ASCII without quotes and backslashes


class TextPool:
    """The names of a fleet file, one behind the other."""

    def __init__(self) -> None:
        self.text = bytearray()

    def add(self, name: str) -> tuple[int, int]:
        """Return offset and length of a name. Raises SnapshotError for one that JSON would escape."""
        if not PLAIN.fullmatch(name):
            raise SnapshotError(f"{name!r}: names in a fleet file are visible ASCII without quotes and backslashes")
        offset = len(self.text)
        self.text += name.encode()
        return offset, len(self.text) - offset


def write_fleet(state: Path, version: int, fleet: Fleet) -> str:
    """Write `fleet.<version>` from a numbered fleet, and return its name."""
    site_numbers = {site.id: number for number, site in enumerate(fleet.sites)}
    partner_numbers = {partner.id: partner.number for partner in fleet.partners}
    region_of = regions_of_sites(fleet.sites, fleet.services)
    regions = sorted(set(region_of.values()))
    members: dict[str, list[Appliance]] = {cluster.id: [] for cluster in fleet.clusters}
    for appliance in fleet.appliances:
        members[appliance.cluster].append(appliance)
    names = TextPool()
    clusters = [(0, 0, 0, 0, 0)] * (max((cluster.number for cluster in fleet.clusters), default=-1) + 1)
    appliances: list[bytes] = []
    spans: list[tuple[int, str, str, str]] = []
    for cluster in sorted(fleet.clusters, key=lambda cluster: cluster.number):
        inside = sorted(members[cluster.id], key=lambda appliance: appliance.slot)
        region = regions.index(region_of[cluster.site])
        partner = partner_numbers.get(cluster.partner or "", 0)
        clusters[cluster.number] = (len(appliances), len(inside), site_numbers[cluster.site], region, partner)
        spans.append((len(appliances), cluster.id, cluster.route_class.name, cluster.partner or ""))
        for appliance in inside:
            (host, host_length), (name, name_length) = names.add(appliance.host), names.add(appliance.id)
            appliances.append(APPLIANCE.pack(appliance.slot, host, name, host_length, name_length))
    sites = b"".join(SITE.pack(*names.add(site.id)) for site in fleet.sites)
    services = [dataclasses.asdict(service) for service in fleet.services]
    meta = {
        "partners": [dataclasses.asdict(partner) for partner in fleet.partners],
        "sites": [dataclasses.asdict(site) for site in fleet.sites],
        "clusters": [dataclasses.asdict(cluster) for cluster in fleet.clusters],
    }
    write_sections(
        state / f"fleet.{version}",
        "fleet",
        {
            "services": json.dumps({"version": version, "regions": regions, "services": services}).encode(),
            "meta": json.dumps(meta).encode(),
            "clusters": b"".join(CLUSTER.pack(*cluster) for cluster in clusters),
            "appliances": b"".join(appliances),
            "sites": sites,
            "text": bytes(names.text),
            "spans": json.dumps(spans).encode(),
        },
    )
    return f"fleet.{version}"


class FleetFile(StateFile):
    """A mapped fleet. An appliance goes by its index here, a cluster by its number. Raises SnapshotError."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "fleet")
        served = json.loads(bytes(self["services"]))
        self.version: int = served["version"]
        self.regions: list[str] = served["regions"]
        try:
            self.services: dict[str, Service] = {row["id"]: service_of(row) for row in served["services"]}
        except msgspec.ValidationError as error:
            raise SnapshotError(f"{path.name}: services: {error}") from error
        self.text = self["text"]

    @cached_property
    def meta(self) -> dict[str, list[dict[str, Any]]]:
        """The partners, sites and clusters, read on first use."""
        rows: dict[str, list[dict[str, Any]]] = json.loads(bytes(self["meta"]))
        return rows

    @cached_property
    def spans(self) -> list[tuple[int, str, str, str]]:
        """The first appliance, id, class and partner of each cluster, in the order of appliances, read on first use."""
        rows: list[tuple[int, str, str, str]] = [tuple(row) for row in json.loads(bytes(self["spans"]))]
        return rows

    @cached_property
    def slots(self) -> list[int]:
        """The slot of each appliance, read on first use."""
        return [slot for slot, *_ in APPLIANCE.iter_unpack(self["appliances"])]

    def appliance(self, index: int) -> tuple[int, str, str]:
        """Return an appliance's slot, id and host."""
        slot, host, name, host_length, name_length = APPLIANCE.unpack_from(self["appliances"], index * APPLIANCE.size)
        return slot, self.name(name, name_length), self.name(host, host_length)

    def site(self, number: int) -> str:
        """Return the id of a site by its number, which a cluster's record has."""
        return self.name(*SITE.unpack_from(self["sites"], number * SITE.size))

    def cluster_of(self, index: int) -> tuple[str, str, str]:
        """Return the id, the class and the partner of an appliance's cluster; the partner is empty for none."""
        _, name, route_class, partner = self.spans[bisect_right(self.spans, index, key=lambda span: span[0]) - 1]
        return name, route_class, partner

    def members(self) -> Iterator[tuple[int, int, range]]:
        """Yield each cluster's number, its site's number and the range of its appliances."""
        for number, (first, count, site, *_) in enumerate(CLUSTER.iter_unpack(self["clusters"])):
            yield number, site, range(first, first + count)

    def members_of(self, number: int) -> range:
        """Return the range of a cluster's appliances, empty for one that left the fleet."""
        if number >= len(self["clusters"]) // CLUSTER.size:
            return range(0)
        first, count, *_ = CLUSTER.unpack_from(self["clusters"], number * CLUSTER.size)
        return range(first, first + count)

    def name(self, offset: int, length: int) -> str:
        """Return a name of the section `text`."""
        return bytes(self.text[offset : offset + length]).decode()
