"""When each of many sources is to be fetched again: once a period, later after failures, all of them spread."""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Final

from steering.process.backoff import Backoff

MOST_S: Final = 3600.0  # between two fetches of a source that cannot be fetched


class DueTimes:
    """The next time of each source, by a clock that the caller reads."""

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.most_s = max(MOST_S, period_s)
        self.due_at: dict[Hashable, float] = {}
        self.backoffs: dict[Hashable, Backoff] = {}

    def is_due(self, source: Hashable, now: float) -> bool:
        """Return whether a source is to be fetched now. A new one was just fetched: it is due within a period."""
        return now >= self.due_at.setdefault(source, now + self.period_s * random.uniform(0.1, 1.0))  # noqa: S311

    def fetched(self, source: Hashable, now: float, failed: bool) -> None:
        """Plan the next fetch: after a failure in twice the time, and so on up to the most."""
        pause_s = self.period_s
        if failed:
            pause_s = self.backoffs.setdefault(source, Backoff(2 * self.period_s, self.most_s)).next_s()
        else:
            self.backoffs.pop(source, None)
        self.due_at[source] = now + pause_s * random.uniform(0.9, 1.1)  # noqa: S311 (nothing secret)
