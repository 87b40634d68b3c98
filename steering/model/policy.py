"""Ranking policies: the keys that a ranking is sorted by, in order."""

from __future__ import annotations

from typing import Final

# The attribute of an announcement that each key compares, lower first; none for keys that depend on the client too.
RANKING_KEYS: Final[dict[str, str]] = {
    "prefix": "",
    "as_path": "hops",
    "origin": "origin",
    "med": "med",
    "class": "route_class",
    "distance": "",
}

RANKING_POLICIES: Final[dict[str, tuple[str, ...]]] = {
    "prefix_first": ("prefix", "as_path", "med", "class", "distance"),
    "local_first": ("prefix", "class", "as_path", "med", "distance"),
}

DISTANCE_STEP_KM: Final = 100
