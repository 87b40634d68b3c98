"""The pauses between attempts: doubled after each failure up to a limit, and the first one again after a success."""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Final

MOST_S: Final = 3600.0  # between two attempts of a source that cannot be fetched


class Backoff:
    """Pauses in seconds. It reads no clock: the caller waits, and decides what a success is."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self.first_s = first_s
        self.most_s = most_s
        self.upcoming_s = first_s

    def next_s(self) -> float:
        pause_s = min(self.upcoming_s, self.most_s)
        self.upcoming_s = 2 * pause_s
        return pause_s

    def reset(self) -> None:
        """Start again with the first pause: an attempt succeeded."""
        self.upcoming_s = self.first_s


class DueTimes:
    """When each of many sources is to be fetched: spread; later after failures. The caller reads the clock."""

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
