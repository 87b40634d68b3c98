"""Regions: countries and parts of countries, which services name, and which sites and clients are in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from steering.model.fleet import Site
from steering.model.service import Service


def lies_in(region: str, regions: Collection[str]) -> bool:
    """Return whether a region (`IN`, `IN-MH`) is among others, or its country is.

    An unknown region (empty) lies nowhere, and a country does not lie in its parts. `Service.serves_region` in
    `_fastpath/service.pyx` is the same rule for clients.
    """
    return region in regions or region[:2] in regions


def regions_of_sites(sites: Sequence[Site], services: Sequence[Service]) -> dict[str, str]:
    """Return the region of each site by its id: its part of the country where a service names that, else the country.

    So regions are few, however finely sites are placed.
    """
    named = {region for service in services for region in service.regions}
    return {site.id: site.region if site.region in named else site.country for site in sites}
