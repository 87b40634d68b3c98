"""The public interface of `counters.pyx`."""

PATHS: tuple[str, ...]
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
    """The counts of one worker, in a mapped file. Raises OSError, or ValueError naming the file and the fault.

    `writable` is for the worker itself: a file that is missing, does not fit, or has too few slots is created anew.
    """

    slots: int
    writable: bool
    began_at: float
    """When the counting began, in seconds since the epoch."""

    def __init__(self, path: str, slots: int = 0, writable: bool = False) -> None: ...
    def note(self, endpoint: str, status: int, took_s: float) -> None:
        """Count an answer of the fallback path; a status without a cell counts as 500, an endpoint as `other`."""

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
        """Count `times` equal player reports of an appliance's slot (-1: none) and a partner's number (0: none).

        A figure of -1 was not reported. Numbers without a row count as none.
        """

    def note_attested(self, slot: int, failing: bool) -> None:
        """Count a viewer with a signed tag at an appliance, or that one was failing; the caller counts each once."""

    def set_gauge(self, name: str, value: int) -> None:
        """Store one of GAUGES."""

    def answers(self) -> dict[tuple[str, str, int], int]:
        """Return the counts of answers by (path, endpoint, status), without those that are 0."""

    def latency(self, path: str) -> tuple[list[int], float]:
        """Return a path's counts by bucket, and the sum in seconds."""

    def targets(self) -> dict[str, int]:
        """Return the counts of targets by RANKS."""

    def events(self) -> dict[str, int]:
        """Return the counts by EVENTS."""

    def gauges(self) -> dict[str, int]:
        """Return GAUGES as stored last."""

    def quality_of_appliances(self) -> dict[int, tuple[int, ...]]:
        """Return QUALITY by slot, -1 for no appliance, without rows that have no reports."""

    def quality_of_partners(self) -> dict[int, tuple[int, ...]]:
        """Return QUALITY by the number of a partner, 0 for none, likewise."""

    def attested(self) -> dict[int, tuple[int, int]]:
        """Return by slot the viewers with a signed tag, and how many of them were failing."""

    def appliances(self) -> dict[int, int]:
        """Return how often each slot's appliance was the first target of an answer, without those never."""

    def reasons(self) -> dict[str, int]:
        """Return the requests that passed an appliance over, by REASONS."""

    def popularity(self) -> list[tuple[int, int, str, str]]:
        """Return (content key, count, service, title) of the titles requested most, the largest count first.

        A count is of the requests since the title entered the sketch, and never too high. Titles are cut at 100 bytes.
        """

    def misses(self) -> list[tuple[int, int, int, str, str]]:
        """Return (content key, cluster, count, service, title) of the titles that clusters lacked, likewise."""

def begin(path: str, slots: int) -> None:
    """Create the counters file of a worker, with every count at 0, unless one that fits is there."""
