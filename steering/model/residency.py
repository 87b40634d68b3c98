"""Who may be served where: countries and parts of them, as services name them and as sites and clients are in them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from steering.model.fleet import Site
from steering.model.service import Service


def lies_in(region: str, regions: Collection[str]) -> bool:
    """Tell whether a country (`IN`) or a part of one (`IN-MH`) is named, or its country is.

    What is not known (empty) lies nowhere, and a country does not lie in its parts.
    """
    return region in regions or region[:2] in regions


def regions_of_sites(sites: Sequence[Site], services: Sequence[Service]) -> dict[str, str]:
    """Return the region of each site by its id: its part of the country where a service names that, else the country.

    So there are few, however finely sites are placed.
    """
    named = {region for service in services for region in service.regions}
    return {site.id: site.region if site.region in named else site.country for site in sites}
