"""The public shape of `counters.pyx`."""

from array import array

DOORS: tuple[str, ...]
ENDPOINTS: tuple[str, ...]
STATUSES: tuple[int, ...]
RANKS: tuple[str, ...]
EVENTS: tuple[str, ...]
GAUGES: tuple[str, ...]
QUALITY: tuple[str, ...]
"""The counts and sums of a row of what players report."""
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

    def note_event(self, event: str, times: int = 1) -> None:
        """Count one of EVENTS."""

    def note_report(
        self,
        slot: int,
        partner: int,
        times: int,
        stalled: bool,
        failed: bool,
        throughput_kbps: int = -1,
        bitrate_kbps: int = -1,
        start_ms: int = -1,
    ) -> None:
        """Count what a player reports of an appliance's slot, -1 for nobody's, and a partner's number, 0 for none.

        It stands for so many; a figure of -1 was not told. Numbers without a row go to nobody's.
        """

    def note_voice(self, slot: int, failing: bool) -> None:
        """Count a viewer with a tag of ours at an appliance, or that one was failing; once is the caller's care."""

    def set_gauge(self, name: str, value: int) -> None:
        """Store one of GAUGES."""

    def answers(self) -> dict[tuple[str, str, int], int]:
        """Return the counts of answers by (door, endpoint, status), without those that are 0."""

    def latency(self, door: str) -> tuple[list[int], float]:
        """Return a door's counts by bucket, and the sum in seconds."""

    def targets(self) -> dict[str, int]:
        """Return the counts of targets by RANKS."""

    def events(self) -> dict[str, int]:
        """Return the counts by EVENTS."""

    def gauges(self) -> dict[str, int]:
        """Return GAUGES as stored last."""

    def quality_of_appliances(self) -> dict[int, tuple[int, ...]]:
        """Return QUALITY by slot, -1 for nobody's appliances, without those that nothing is reported of."""

    def quality_of_partners(self) -> dict[int, tuple[int, ...]]:
        """Return QUALITY by the number of a partner, 0 for none, likewise."""

    def voices(self) -> dict[int, tuple[int, int]]:
        """Return by slot the viewers with a tag of ours, and how many of them were failing."""

    def appliances(self) -> dict[int, int]:
        """Return how often each slot's appliance was the first target of an answer, without those never."""

    def appliances_into(self, buffer: array[int]) -> int:
        """Copy how often each slot's appliance was the first target into 64-bit numbers; return how many there were."""

    def reasons(self) -> dict[str, int]:
        """Return by letter the requests that passed an appliance over for it."""

    def heat(self) -> list[tuple[int, int, str, str]]:
        """Return (content key, count, service, title) of what is asked for most, the largest count first.

        A count is of the requests since the title came in, and is never too high. A title of over 100 bytes is cut.
        """

    def misses(self) -> list[tuple[int, int, int, str, str]]:
        """Return (content key, cluster, count, service, title) of what clusters were known to lack, likewise."""

def begin(path: str, slots: int) -> None:
    """Make the file of a worker's counters where there is none that fits, with every count at 0."""
