"""The pauses between attempts: doubled after each failure up to a limit, and the first one again after a success."""

from __future__ import annotations


class Backoff:
    """Pauses in seconds. It reads no clock: the caller waits, and decides what a success is."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self.first_s = first_s
        self.most_s = most_s
        self.upcoming_s = first_s

    def next_s(self) -> float:
        """Return the pause after one more failure."""
        pause_s = min(self.upcoming_s, self.most_s)
        self.upcoming_s = 2 * pause_s
        return pause_s

    def reset(self) -> None:
        """Start again with the first pause: an attempt succeeded."""
        self.upcoming_s = self.first_s
