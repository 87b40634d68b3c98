"""`fleet.<version>`: clusters, appliances and services as playback reads them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from _fastpath.ranking import (
    APPLIANCE,
    CLUSTER,
)
from steering.model.fleet import Fleet
from steering.model.residency import regions_of_sites
from steering.state.sections import write_sections


def write_fleet(state: Path, version: int, fleet: Fleet) -> str:
    """Write `fleet.<version>` from a numbered fleet and return its name.

    Appliances lie cluster by cluster, so that a cluster is a range of them; each brings its URL's host and the end of
    its target ready as text.
    """
    site_numbers = {site.id: number for number, site in enumerate(fleet.sites)}
    region_of = regions_of_sites(fleet.sites, fleet.services)
    regions = sorted(set(region_of.values()))
    region_numbers = {region: number for number, region in enumerate(regions)}
    members: dict[str, list[Any]] = {cluster.id: [] for cluster in fleet.clusters}
    for appliance in fleet.appliances:
        members[appliance.cluster].append(appliance)
    clusters = [(0, 0, 0, 0)] * (max((cluster.number for cluster in fleet.clusters), default=-1) + 1)
    names: list[tuple[str, int]] = []
    records: list[bytes] = []
    kinds: list[tuple[int, str, str]] = []
    text = bytearray()
    for cluster in sorted(fleet.clusters, key=lambda cluster: cluster.number):
        inside = sorted(members[cluster.id], key=lambda appliance: appliance.slot)
        region = region_numbers[region_of[cluster.site]]
        clusters[cluster.number] = (len(records), len(inside), site_numbers[cluster.site], region)
        kinds.append((len(records), cluster.id, cluster.route_class.name))
        for appliance in inside:
            host = appliance.host.encode()
            tail = f'","appliance":"{appliance.id}","site":"{cluster.site}","rank":'.encode()
            place = len(text)
            records.append(APPLIANCE.pack(appliance.slot, place, place + len(host), len(host), len(tail)))
            names.append((appliance.id, cluster.number))
            text += host + tail
    meta = {
        "version": version,
        "regions": regions,
        "partners": [dataclasses.asdict(partner) for partner in fleet.partners],
        "sites": [dataclasses.asdict(site) for site in fleet.sites],
        "clusters": [dataclasses.asdict(cluster) for cluster in fleet.clusters],
        "appliances": names,
    }
    services = [dataclasses.asdict(service) for service in fleet.services]
    write_sections(
        state / f"fleet.{version}",
        "fleet",
        {
            "services": json.dumps({"version": version, "regions": regions, "services": services}).encode(),
            "meta": json.dumps(meta).encode(),
            "clusters": b"".join(CLUSTER.pack(*cluster) for cluster in clusters),
            "appliances": b"".join(records),
            "text": bytes(text),
            "kinds": json.dumps(kinds).encode(),
        },
    )
    return f"fleet.{version}"
