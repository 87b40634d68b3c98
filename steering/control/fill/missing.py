"""Missing titles: titles that were requested in a cluster while none of its appliances held them.

Workers count them while they answer (`misses` of `worker.<n>`), in sketches that keep the most frequent.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from _fastpath.counters import Counters
from steering.model.fleet import Fleet
from steering.state.folder import worker_files

Miss = tuple[int, int, int, str, str]  # content key, cluster number, how often, service, title

logger = logging.getLogger("steering.control")


class Counted(Protocol):
    """The counters of missing titles of one worker."""

    def misses(self) -> Sequence[Miss]:
        """Return the titles that were requested in a cluster and not held, and how often."""


def counters_in(state: Path) -> Iterator[Counters]:
    """Yield the counters of each worker; an unreadable file is skipped."""
    for path in worker_files(state).values():
        try:
            yield Counters(str(path))
        except (OSError, ValueError) as error:
            logger.debug("%s: %s", path.name, error)


def missing(
    workers: Iterable[Counted], fleet: Fleet, is_held: Callable[[int, int], bool], partner: str, count: int
) -> list[dict[str, Any]]:
    """Return the `count` most frequent missing titles of all workers, of one partner's clusters or all.

    `is_held(cluster number, content key)` returns whether the cluster holds the title by now.
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
