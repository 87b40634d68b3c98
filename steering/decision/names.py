"""The names behind the numbers of a fleet file, for people: read on first use, off the path of requests."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from steering.model.route import RouteClass
from steering.state.fleet import FleetFile


class FleetNames:
    """The names of a mapped fleet."""

    def __init__(self, fleet: FleetFile) -> None:
        self.fleet = fleet
        self.partners = {partner["number"]: partner for partner in fleet.meta["partners"]}
        self.sites = {site["id"]: site for site in fleet.meta["sites"]}
        self.clusters = {cluster["number"]: cluster for cluster in fleet.meta["clusters"]}

    @cached_property
    def appliances(self) -> list[tuple[str, int]]:
        """The id and the cluster's number of each appliance, in the order of the fleet file."""
        return [
            (self.fleet.appliance(index)[1], number) for number, _, indexes in self.fleet.members() for index in indexes
        ]

    @cached_property
    def appliances_by_slot(self) -> dict[int, tuple[str, str]]:
        """The (id, site) of each appliance by its slot."""
        return {
            slot: (name, self.clusters[number]["site"])
            for slot, (name, number) in zip(self.fleet.slots, self.appliances, strict=True)
        }

    @cached_property
    def clusters_by_slot(self) -> dict[int, tuple[str, str]]:
        """The (cluster, site) of each appliance by its slot."""
        return {
            slot: (self.clusters[number]["id"], self.clusters[number]["site"])
            for slot, (_, number) in zip(self.fleet.slots, self.appliances, strict=True)
        }

    def appliance(self, index: int) -> dict[str, Any]:
        """Return the id, cluster and site of an appliance by its index in the fleet file."""
        name, number = self.appliances[index]
        cluster = self.clusters[number]
        return {"appliance": name, "cluster": cluster["id"], "site": cluster["site"]}

    def partner(self, number: int) -> dict[str, Any] | None:
        """Return a partner's id, name and country; None for number 0 or one that left."""
        partner = self.partners.get(number)
        return {key: partner[key] for key in ("id", "name", "country")} if partner else None

    def cluster(self, number: int) -> dict[str, Any]:
        """Return a cluster's id, site, class, city and country; a cluster that left the fleet shows its number."""
        cluster = self.clusters.get(number)
        if cluster is None:
            return {"cluster": f"#{number}", "site": None, "class": None, "city": None, "country": None}
        site = self.sites[cluster["site"]]
        return {
            "cluster": cluster["id"],
            "site": site["id"],
            "class": RouteClass(cluster["route_class"]).name,
            "city": site["city"],
            "country": site["country"],
        }
