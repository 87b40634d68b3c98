"""The public shape of `counters.pyx`."""

from collections.abc import Iterable, Mapping
from typing import Any

DOORS: tuple[str, ...]
ENDPOINTS: tuple[str, ...]
STATUSES: tuple[int, ...]
RANKS: tuple[str, ...]
REASONS: str
EVENTS: tuple[str, ...]
GAUGES: tuple[str, ...]
BOUNDS: tuple[float, ...]
"""Upper bounds of the latency buckets in seconds; one more bucket holds what takes longer."""

class Counters:
    """The counts of one worker, in a mapped file. Raises OSError, or ValueError naming the file and what is wrong.

    `writable` is for the worker itself: a file that is not there, does not fit, or has too few slots is begun anew.
    """

    slots: int
    writable: bool
    began_at: float
    """When the counting began, in seconds since the epoch."""

    def __init__(self, path: str, slots: int = 0, writable: bool = False) -> None: ...
    def note(self, endpoint: str, status: int, took_s: float) -> None:
        """Count an answer of the FastAPI door; a status that has no cell counts as 500, an endpoint as `other`."""

    def note_targets(self, targets: Iterable[Mapping[str, Any]]) -> None:
        """Count the targets of an answer by rank."""

    def note_event(self, event: str) -> None:
        """Count one of EVENTS."""

    def set_gauge(self, name: str, value: int) -> None:
        """Store one of GAUGES."""

    def answers(self) -> dict[tuple[str, str, int], int]:
        """Return the counts of answers by (door, endpoint, status), without those that are 0."""

    def latency(self, door: str) -> tuple[list[int], float]:
        """Return a door's counts by bucket, and the sum in seconds."""

    def targets(self) -> dict[str, int]:
        """Return the counts of targets by RANKS."""

    def passed_over(self) -> dict[str, int]:
        """Return how many candidates were passed over, by REASONS."""

    def events(self) -> dict[str, int]:
        """Return the counts by EVENTS."""

    def gauges(self) -> dict[str, int]:
        """Return GAUGES as stored last."""

    def appliances(self) -> dict[int, int]:
        """Return how often each slot's appliance was the first target of an answer, without those never."""

def begin(path: str, slots: int) -> None:
    """Make the file of a worker's counters where there is none that fits, with every count at 0."""
