"""Ranking policies: the keys that a ranking is sorted by, in order."""

from __future__ import annotations

from typing import Final

RANKING_KEYS: Final = ("prefix", "as_path", "origin", "med", "class", "distance")

RANKING_POLICIES: Final[dict[str, tuple[str, ...]]] = {
    "prefix_first": ("prefix", "as_path", "med", "class", "distance"),
    "local_first": ("prefix", "class", "as_path", "med", "distance"),
}

DISTANCE_STEP_KM: Final = 100
