"""What should be filled where: titles that a cluster was asked for and none of its appliances held.

Workers count them while they answer (`misses` of `worker.<n>`): of the many, the most frequent are kept, by sketches.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from _fastpath.counters import Counters
from steering.model.fleet import Fleet

Miss = tuple[int, int, int, str, str]  # content key, cluster number, how often, service, title


logger = logging.getLogger("steering.control")


class Counted(Protocol):
    """What one worker counted."""

    def misses(self) -> Sequence[Miss]:
        """Return what was asked for in which cluster and not held, and how often."""


def counters_in(state: Path) -> Iterator[Counters]:
    """Yield what each worker counted; a file that is being begun anew is passed over."""
    for path in sorted(state.glob("worker.*")):
        if path.suffix[1:].isdecimal():
            try:
                yield Counters(str(path))
            except (OSError, ValueError) as error:
                logger.debug("%s: %s", path.name, error)


def missing(
    workers: Iterable[Counted], fleet: Fleet, is_held: Callable[[int, int], bool], partner: str, count: int
) -> list[dict[str, Any]]:
    """Return the first rows of what all workers counted, of one partner's clusters or all.

    `is_held` tells of a cluster's number and a content key whether the cluster has been filled with it since.
    """
    clusters = {cluster.number: cluster for cluster in fleet.clusters if partner in ("", cluster.partner)}
    totals: Counter[tuple[int, int]] = Counter()
    names: dict[int, tuple[str, str]] = {}
    for worker in workers:
        for key, number, misses, service, title in worker.misses():
            totals[key, number] += misses
            names[key] = service, title
    rows: list[dict[str, Any]] = []
    for (key, number), misses in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        if len(rows) == count:
            break
        if number in clusters and not is_held(number, key):
            service, title = names[key]
            cluster = clusters[number]
            row = {"service": service, "title": title, "cluster": cluster.id, "partner": cluster.partner}
            rows.append({**row, "misses": misses})
    return rows
