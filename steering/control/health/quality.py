"""How playback goes by what players report: by partner, cluster or appliance, where it hurts most first.

Workers count reports while they come in (`quality_of_…` of `worker.<n>`). Anybody can report anything: this is for
people to look at, and decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Protocol

from _fastpath.counters import QUALITY
from steering.model.fleet import Fleet

By = Literal["partner", "cluster", "appliance"]
FEW: Final = 100  # reports: who has fewer is not the worst because of one

Sums = list[int]


class Counted(Protocol):
    """What one worker counted."""

    def quality_of_appliances(self) -> Mapping[int, tuple[int, ...]]:
        """Return QUALITY by slot, -1 for nobody's."""

    def quality_of_partners(self) -> Mapping[int, tuple[int, ...]]:
        """Return QUALITY by the number of a partner, 0 for none."""


def quality(workers: Iterable[Counted], fleet: Fleet, by: By, partner: str, count: int) -> list[dict[str, Any]]:
    """Return the first rows of what all workers counted, of one partner or all.

    A row of nobody's, with None for its name, is of what is elsewhere or unknown; it is no partner's.
    """
    names = names_of(fleet, by, partner)
    found: dict[str | None, Sums] = defaultdict(lambda: [0] * len(QUALITY))
    for worker in workers:
        rows = worker.quality_of_partners() if by == "partner" else worker.quality_of_appliances()
        for number, row in rows.items():
            name = names.get(number)
            if name or not partner:
                found[name] = [a + b for a, b in zip(found[name], row, strict=True)]
    described = [described_row(by, name, dict(zip(QUALITY, sums, strict=True))) for name, sums in found.items()]
    described.sort(key=lambda row: (-trouble(row), -row["reports"], row[by] or ""))
    return described[:count]


def names_of(fleet: Fleet, by: By, partner: str) -> dict[int, str]:
    """Return what each number of a partner, or each slot, is counted as."""
    if by == "partner":
        return {each.number: each.id for each in fleet.partners if partner in ("", each.id)}
    clusters = {cluster.id for cluster in fleet.clusters if partner in ("", cluster.partner)}
    return {
        appliance.slot: appliance.id if by == "appliance" else appliance.cluster
        for appliance in fleet.appliances
        if appliance.cluster in clusters
    }


def described_row(by: By, name: str | None, sums: Mapping[str, int]) -> dict[str, Any]:
    """Return a row: means, None where nobody told; of stalls and errors how many in a thousand reports."""

    def mean(total: str, counted: str) -> float | None:
        return round(sums[total] / sums[counted], 1) if sums[counted] else None

    return {
        by: name,
        "reports": sums["reports"],
        "throughput_kbps": mean("throughput_kbps", "throughputs"),
        "bitrate_kbps": mean("bitrate_kbps", "bitrates"),
        "stalls": round(1000 * sums["stalls"] / sums["reports"], 2),
        "errors": round(1000 * sums["errors"] / sums["reports"], 2),
        "starts": sums["starts"],
        "start_ms": mean("start_ms", "starts"),
        "voices": sums["voices"],
        "failing": sums["failing"],
    }


def trouble(row: Mapping[str, Any]) -> float:
    """Return by how much rows are sorted: what went wrong in a thousand reports, less where there are few."""
    found: float = (row["stalls"] + row["errors"]) * row["reports"] / (row["reports"] + FEW)
    return found
