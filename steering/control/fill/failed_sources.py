"""Sources that failed for a title: who reported it, and who therefore does not use them for a while.

An appliance that reported a source does not get it again for that title within an hour. Others of its group (its
partner, or the exchanges) do not either once two appliances of the group reported it; nobody does once appliances of
two groups did. So one appliance that lies takes no source from another. A source is as good as new when it reports the
title again.

The origin is retried sooner, and by everybody at the same time: a minute after its first failure for a title, then
after twice as long each time, up to half an hour.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from steering.control.fill.leases import Title

ORIGIN: Final = -1  # in place of a slot
OFF_S: Final = 3600.0
FIRST_RETRY_S: Final = 60.0
LONGEST_RETRY_S: Final = 1800.0
MOST_REPORTS: Final = 8  # of a source and title
WRONG_BYTES: Final = "wrong_bytes"
OWN_FAULTS: Final = frozenset({"disk"})  # reasons that do not speak against the source


class Failure(NamedTuple):
    """One report that a source failed."""

    slot: int
    group: str
    failed_at: float
    why: str


class FailedSources:
    """The failures of the last hour, oldest source first; at most `most` sources and titles, of up to 1.5 kB each."""

    def __init__(self, most: int = 20_000) -> None:
        self.most = most
        self.failures: dict[tuple[Title, int], tuple[Failure, ...]] = {}

    def add(self, title: Title, source: int, failure: Failure) -> None:
        """Add a report; the newest of an appliance counts, and for the origin all do."""
        before = self.failures.pop((title, source), ())
        if source != ORIGIN:
            before = tuple(other for other in before if other.slot != failure.slot)
        if len(self.failures) >= self.most:
            del self.failures[next(iter(self.failures))]
        self.failures[title, source] = (*before, failure)[-MOST_REPORTS:]

    def clear(self, title: Title, source: int) -> None:
        """Forget the failures of a source that has the title again, or of an origin that delivered it."""
        self.failures.pop((title, source), None)

    def is_off(self, title: Title, source: int, slot: int, group: str, now: float) -> bool:
        """Return whether an appliance of a group should not use a source for a title now."""
        failures = self.failures.get((title, source))
        if not failures:
            return False
        if source == ORIGIN:
            return now < self.retry_at(title)
        recent = [failure for failure in failures if failure.failed_at > now - OFF_S]
        return (
            any(failure.slot == slot for failure in recent)
            or sum(failure.group == group for failure in recent) >= 2
            or len({failure.group for failure in recent}) >= 2
        )

    def retry_at(self, title: Title) -> float:
        """Return when the origin may be asked again for a title."""
        failures = self.failures.get((title, ORIGIN))
        if not failures:
            return 0.0
        return failures[-1].failed_at + min(FIRST_RETRY_S * (1 << (len(failures) - 1)), LONGEST_RETRY_S)

    def bad_copies(self, now: float) -> list[tuple[int, Title]]:
        """Return the sources that two appliances got wrong bytes of a title from: their copies should be checked."""
        return [
            (source, title)
            for (title, source), failures in self.failures.items()
            if source != ORIGIN
            and sum(failure.why == WRONG_BYTES and failure.failed_at > now - OFF_S for failure in failures) >= 2
        ]
