"""The public shape of `status_words.pyx`."""

from array import array
from collections.abc import Mapping

DISABLED: int
NO_HEADROOM: int
UNHEALTHY: int
STALE: int
OVER_LIMIT: int
IPV4_UP: int
IPV6_UP: int
HELD_BACK: int  # one of 64 parts of the viewers who play elsewhere; a word has it 0 to MOST_HELD_BACK times
MOST_HELD_BACK: int
MOST_PRESSURE: int  # in a word, a pressure is added to MOST_HELD_BACK
PACE: int  # the bits of both
REASONS: dict[str, str]
"""Why a candidate is passed over, in words, by letter."""
MAX_HOT: int
MAX_FAN_OUT: int

def pressure_in(word: int) -> int:
    """Return the pressure in a word, 0 to MOST_PRESSURE, which is the fallback's price."""

class StatusWords:
    """The words of all appliance slots, and the hot titles, in a mapped file: one process writes, many read.

    Raises OSError, or ValueError naming the file and the rule that it breaks.
    """

    slots: int
    writable: bool

    def __init__(self, path: str, writable: bool = False) -> None: ...
    @staticmethod
    def image(words: array[int]) -> bytes:
        """Return the bytes of a status file that begins with these words."""

    def word(self, slot: int) -> int:
        """Return a slot's word."""

    def set_word(self, slot: int, word: int) -> None:
        """Store a slot's word; every process that maps the file reads it at its next pick."""

    def set_hot(self, fan_outs: Mapping[int, int]) -> None:
        """Make these the hot titles, MAX_HOT at most: the fan-out of each by its content key.

        A title without a free cell near its own is left out. During the call, a reader may miss a title for a moment.
        """

    def hot(self) -> dict[int, int]:
        """Return the fan-outs of hot titles by content key."""
