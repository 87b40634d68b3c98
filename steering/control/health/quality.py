"""Playback quality by player reports: by partner, cluster or appliance, the worst first.

Workers count reports as they arrive (`quality_of_…` of `worker.<n>`). Most reports are not attested, so this is for
people and decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from _fastpath.counters import QUALITY, Counters
from steering.model.fleet import Fleet

By = Literal["partner", "cluster", "appliance"]
FEW: Final = 100  # reports: with fewer, one bad report does not make a row the worst


def quality(workers: Iterable[Counters], fleet: Fleet, by: By, partner: str, count: int) -> list[dict[str, Any]]:
    """Return the worst `count` rows of all workers' counts, of one partner or all.

    The row with the name None has the reports of other and unknown appliances; no partner sees it.
    """
    names = names_of(fleet, by, partner)
    totals: dict[str | None, list[int]] = defaultdict(lambda: [0] * len(QUALITY))
    for worker in workers:
        rows = worker.quality_of_partners() if by == "partner" else worker.quality_of_appliances()
        for number, row in rows.items():
            name = names.get(number)
            if name or not partner:
                totals[name] = [a + b for a, b in zip(totals[name], row, strict=True)]
    described = [described_row(by, name, dict(zip(QUALITY, sums, strict=True))) for name, sums in totals.items()]
    described.sort(key=lambda row: (-trouble(row), -row["reports"], row[by] or ""))
    return described[:count]


def names_of(fleet: Fleet, by: By, partner: str) -> dict[int, str]:
    """Return the name of the row that each partner number, or each slot, counts in."""
    if by == "partner":
        return {each.number: each.id for each in fleet.partners if partner in ("", each.id)}
    clusters = {cluster.id for cluster in fleet.clusters if partner in ("", cluster.partner)}
    return {
        appliance.slot: appliance.id if by == "appliance" else appliance.cluster
        for appliance in fleet.appliances
        if appliance.cluster in clusters
    }


def described_row(by: By, name: str | None, sums: Mapping[str, int]) -> dict[str, Any]:
    """Return a row: means, None without figures; stalls and errors in a thousand reports."""

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
        "attested": sums["attested"],
        "failing": sums["failing"],
    }


def trouble(row: Mapping[str, Any]) -> float:
    """Return the sort key of rows: stalls and errors in a thousand reports, less with few reports."""
    result: float = (row["stalls"] + row["errors"]) * row["reports"] / (row["reports"] + FEW)
    return result
